"""Run folders from before ``schema``, kept as the code of then wrote them: read, measured, exported, gone on with."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from fractionate.config.files import override, read_config
from fractionate.export import export_run
from fractionate.probe.measure import evaluate_run
from fractionate.report import print_table, read_runs
from fractionate.runs.checkpoint import read_checkpoint, sealed
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from tests.train.runs import tiny

OWN_RATES = "learning_rate.minimum=1e-300"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """``finished``, and ``stopped`` after 6 of its 12 steps, with the weights of their teacher."""
    return Path(shutil.copytree(Path(__file__).parent / "schema0", tmp_path / "kept"))


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_its_table_is_printed(kept: Path) -> None:
    out = io.StringIO()
    print_table([kept], Console(file=out, width=200))
    assert "dkd+deepkd: 23.15 % top-1 at the last epoch" in " ".join(out.getvalue().split())
    assert [run.finished for run in read_runs([kept])] == [True, False]


def test_it_is_measured_as_it_was(kept: Path) -> None:
    facts = RunFolder(kept / "finished").summary()
    found = evaluate_run(kept / "finished", Console(file=io.StringIO())).metrics
    assert (found.top1, found.top5) == (facts["last_top1"], facts["last_top5"])
    assert found.agreement == facts["agreement"]


def test_it_is_exported_with_its_numbers(kept: Path, tmp_path: Path) -> None:
    export_run(kept / "finished", tmp_path / "out", console=Console(file=io.StringIO()))
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "| top-1 on the test images, last epoch | 23.15 % |" in card
    assert "convnet_4_8 (678 parameters, 54.19 % top-1)" in card


def test_a_finished_one_is_left_as_it_is(kept: Path) -> None:
    folder = kept / "finished"
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    facts = run_in_folder(read_config(folder / "config.yaml"), folder, resume=True)
    assert facts == RunFolder(folder).summary()
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_stopped_one_never_changes_its_rates_in_silence(kept: Path) -> None:
    """The cosine of then was an epoch ahead: to go on under today's would be another run."""
    folder = kept / "stopped"
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(ValueError, match=f"earlier fractionate.* version that began it, or .* {OWN_RATES}"):
        run_in_folder(read_config(folder / "config.yaml"), folder, resume=True)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_stopped_one_goes_on_at_its_own_rates_when_asked_to(kept: Path) -> None:
    folder = kept / "stopped"
    facts = run_in_folder(override(read_config(folder / "config.yaml"), [OWN_RATES]), folder, resume=True)
    assert facts["changes"][0]["fields"]["learning_rate.minimum"] == [0.0, 1e-300]
    assert [row["lr"] for row in rows(folder)] == pytest.approx([r["lr"] for r in rows(kept / "finished")], abs=1e-300)
    for row, then in zip(rows(folder), rows(kept / "finished"), strict=True):
        assert {k: row[k] for k in then if k.startswith(("component", "train", "test_loss"))} == pytest.approx(
            {k: x for k, x in then.items() if k.startswith(("component", "train", "test_loss"))}, rel=1e-4
        )
    one, two = (load_file(kept / name / "student.safetensors") for name in ("stopped", "finished"))
    for name, weights in one.items():
        torch.testing.assert_close(weights, two[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("schema", "words"), [(2, "newer fractionate"), ("x", "newer fractionate"), (1, None)])
def test_a_checkpoint_of_a_newer_schema_is_refused(schema: object, words: str | None, tmp_path: Path) -> None:
    run_in_folder(tiny("ce"), tmp_path)
    state = read_checkpoint(tmp_path / "last.ckpt")
    assert state["schema"] == 1
    (tmp_path / "summary.json").unlink()
    torch.save(state | {"schema": schema}, tmp_path / "last.ckpt")
    (tmp_path / "last.ckpt").write_bytes(sealed((tmp_path / "last.ckpt").read_bytes()))
    if words is None:
        run_in_folder(tiny("ce"), tmp_path, resume=True)
    else:
        with pytest.raises(ValueError, match=words):
            run_in_folder(tiny("ce"), tmp_path, resume=True)


DAMAGED = {
    "nested without end": '{"a": ' * 100_000,
    "a list": "[1]",
    "null": "null",
    "empty": "{}",
    "cut": '{"method": "kd", "se',
    "words for a number": '{"method": "kd", "seed": 0, "last_top1": "high"}',
    "a newer schema": '{"schema": 7, "headline": "top1", "method": "kd", "seed": 0, "last_top1": 1}',
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_summary_is_answered_in_one_line_by_all_who_read_it(what: str, kept: Path, tmp_path: Path) -> None:
    folder = kept / "finished"
    (folder / "summary.json").write_text(DAMAGED[what])
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    silent = Console(file=io.StringIO())
    readers = (
        lambda: print_table([folder], silent),
        lambda: evaluate_run(folder, silent),
        lambda: export_run(folder, tmp_path / "out", console=silent),
        lambda: run_in_folder(read_config(folder / "config.yaml"), folder, resume=True),
    )
    for read in readers:
        with pytest.raises(ValueError, match=r"summary\.json") as refused:
            read()
        assert len(str(refused.value).splitlines()) == 1
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_card_is_written_of_what_is_known_and_names_command_nothing(kept: Path, tmp_path: Path) -> None:
    path = kept / "finished" / "summary.json"
    facts = json.loads(path.read_text()) | {"method": "x\x1b]0;t\x07<script>\n# h"}
    for key in ("params", "versions", "device", "seconds", "best_top1", "git", "command", "teacher_params"):
        del facts[key]
    path.write_text(json.dumps(facts))
    export_run(path.parent, tmp_path / "out", console=Console(file=io.StringIO()))
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "last epoch | 23.15 % |" in card
    assert not [sign for sign in ("\x1b", "<script>", "\n# h") if sign in card]
