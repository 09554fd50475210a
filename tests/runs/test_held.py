"""Properties that small changes of the code had slipped past: runs on disk."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fractionate.runs.checkpoint import load_state, read_checkpoint, sealed, write_state
from fractionate.runs.folder import RunFolder
from fractionate.runs.taught import NOTE, training_of
from fractionate.train.build import prepare
from fractionate.train.loop import Loop
from tests.train.runs import tiny


class Bomb:
    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.folder,)


def test_no_code_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"student": Bomb(tmp_path / "made by the checkpoint")}, buffer)
    (tmp_path / "last.ckpt").write_bytes(sealed(buffer.getvalue()))
    with pytest.raises(ValueError, match="it is no checkpoint of a training run"):
        read_checkpoint(tmp_path / "last.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_note_of_how_weights_were_trained_says_in_which_type_they_are_kept(dtype: str, tmp_path: Path) -> None:
    weights, count = torch.ones(2, dtype=getattr(torch, dtype)), torch.zeros((), dtype=torch.int64)
    file = tmp_path / "kept.safetensors"
    save_file({"weight": weights, "num_batches_tracked": count}, file, {NOTE: json.dumps({"epochs": 3})})
    assert training_of(file) == {"epochs": 3, "dtype": dtype}


def test_what_a_run_was_made_of_comes_from_its_files_and_not_from_who_opens_it(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        RunFolder(tmp_path, {"teacher": "another one"})  # type: ignore[call-arg]
    assert RunFolder(tmp_path) == RunFolder(tmp_path)


def test_a_checkpoint_without_one_of_its_parts_names_the_part(tmp_path: Path) -> None:
    loop, file = Loop(prepare(tiny("ce"))), tmp_path / "last.ckpt"
    write_state(loop, file)
    state = read_checkpoint(file)
    del state["random"]
    with pytest.raises(ValueError, match=r"cannot go on from .*last\.ckpt: it lacks 'random'"):
        load_state(loop, state, file)
    with pytest.raises(ValueError, match=r"cannot go on from .*last\.ckpt: (?!it lacks).*state_dict"):
        load_state(loop, {**read_checkpoint(file), "student": {}}, file)
