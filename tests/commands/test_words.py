"""Words of the command line mean what they look like, and code of others is not run unasked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from fractionate._files import expanded
from fractionate.cli import main
from fractionate.commands.own_code import check_own_code
from fractionate.config.data import Data
from fractionate.config.files import from_yaml, override, to_yaml
from fractionate.config.method import MethodSpec
from fractionate.config.run import Network, Run
from fractionate.probe.sample import sampled
from fractionate.studies.chosen import _first_seed
from fractionate.train.device import place
from fractionate.train.sources import evaluation_batch

RUN = Run(
    student=Network("convnet_4_8"), teacher=Network("convnet_8_16"), method=MethodSpec("kd"), teacher_table="lazy"
)


def test_a_field_with_words_takes_them_as_text_where_yaml_reads_something_else() -> None:
    assert override(RUN, ["teacher_table=off"]).teacher_table == "off"
    assert from_yaml(to_yaml(RUN).replace("teacher_table: lazy", "teacher_table: off")).teacher_table == "off"
    assert override(RUN, ["data.augment=none", "optimizer.decay=all"]).data.augment == "none"
    with pytest.raises(ValueError, match="teacher_table"):
        override(RUN, ["teacher_table=on"])


def test_the_home_folder_may_be_written_in_fields_that_are_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home-of-somebody")
    monkeypatch.setenv("USERPROFILE", "/home-of-somebody")
    run = override(RUN, ["data.name=cifar100", "data.root=~/sets", "teacher.checkpoint=~/t.pth"])
    assert run.teacher is not None
    places = [expanded(path).as_posix() for path in (run.data.root, run.teacher.checkpoint) if path]
    assert places == ["/home-of-somebody/sets", "/home-of-somebody/t.pth"]


def test_a_device_may_have_a_number_and_another_name_is_refused_by_the_config() -> None:
    assert override(RUN, ["device=cuda:1"]).device == "cuda:1"
    for name in ("gpu", "cuda:x", "mps", "cuda:-1"):
        with pytest.raises(ValueError, match="device must be auto, cpu, cuda"):
            override(RUN, [f"device={name}"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_a_gpu_that_is_not_there_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="'cuda:1' was asked for, but torch finds no GPU"):
        place("cuda:1")


def test_seeds_are_counted_from_the_one_that_is_given() -> None:
    assert _first_seed(["epochs=3", "seed=5"]) == (5, ["epochs=3"])
    assert _first_seed(["seed=x"]) == (0, ["seed=x"])


def test_code_that_a_config_names_is_not_run_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(student=Network("evil_nets:network"), method=MethodSpec("ce"))
    (tmp_path / "config.yaml").write_text(to_yaml(run), encoding="utf-8")
    for command in (["evaluate", str(tmp_path)], ["export", str(tmp_path), "--out", str(tmp_path / "out")]):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert "evil_nets:network" in error
        assert "--own-code" in error
    check_own_code(tmp_path, allowed=True)


def test_a_misspelled_method_among_several_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, meant in (("dkdd", "dkd"), ("dkd+deepkdd", "deepkd")):
        assert main(["compare", "digits", "--methods", "kd", wrong]) == 2
        assert f"'{meant}'" in capsys.readouterr().err


def test_large_images_are_evaluated_a_few_at_once_and_small_ones_as_before() -> None:
    assert [evaluation_batch(side) for side in (8, 32, 64)] == [1024] * 3
    for side in (96, 224, 421, 5000):
        assert evaluation_batch(side) * side**2 <= max(1024 * 64**2, side**2)


def test_a_look_at_a_folder_decodes_a_few_pictures_and_states_the_facts_of_all(tmp_path: Path) -> None:
    for label, count in (("cat", 60), ("dog", 40)):
        (tmp_path / label).mkdir()
        for i in range(count):
            Image.new("RGB", (20, 20), (i, 9, 9)).save(tmp_path / label / f"{i}.png")
    data = Data("folder", root=str(tmp_path), size=8, batch_size=16, passes=2)
    train, test = sampled(data, 0, torch.device("cpu"), samples=20)
    assert (train.count, test.count, len(train), train.batch_size) == (80, 20, 10, 16)
    assert train.class_counts == (48, 32)  # type: ignore[attr-defined]
    held = {int(i) for batch in train.batches(1) for i in batch.index}
    assert 16 <= len(held) < 80
