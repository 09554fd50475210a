"""The speedrun at toy size: it goes through its sizes, records a graph per size, and claims nothing on a CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from benchmarks import pieces, speedrun
from safetensors.torch import save_file

from fractionate.config.files import override
from fractionate.models import create
from fractionate.rows import Progress
from fractionate.train.build import prepare


def words(folder: Path) -> list[str]:
    pieces.noise(folder / "data", (2, 1))
    weights = folder / "teacher.safetensors"
    save_file({k: v.clone() for k, v in create("resnet8", num_classes=100).state_dict().items()}, weights)
    names = ["--teacher", "resnet8", "--student", "resnet8", "--device", "cpu", "--weights", str(weights)]
    return [*names, "--data", str(folder / "data"), "--out", str(folder / "speed.jsonl"), "data.batch_size=100"]


def test_it_runs_on_a_cpu_and_says_that_nothing_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    small = speedrun.Shrunk._averaged

    def noted(self: speedrun.Shrunk, images: torch.Tensor) -> torch.Tensor:
        found = small(self, images)
        seen.append(found.shape[-1])
        return found

    monkeypatch.setattr(speedrun.Shrunk, "_averaged", noted)
    speedrun.main([*words(tmp_path), "--epochs", "3", "--seeds", "2"])
    said = capsys.readouterr().out
    assert "its file does not say how long" in said
    assert "the goal of 76.32 % on a GPU, 5 seeds, is not measured" in said
    lines = [json.loads(line) for line in (tmp_path / "speed.jsonl").read_text().splitlines()]
    assert [(row["seed"], row["epochs"], row["device"]) for row in lines] == [(0, 3, "cpu"), (1, 3, "cpu")]
    one = [size for size in seen if size]
    assert sorted(set(one)) == [16, 24, 32]
    assert one[: len(one) // 2] == sorted(one[: len(one) // 2])


def test_smaller_batches_are_those_of_the_source_also_where_a_step_is_recorded(tmp_path: Path) -> None:
    options = speedrun._options([*words(tmp_path), "--epochs", "3"])
    training = prepare(override(speedrun.run_of(options, 0), ["method=ce"]))
    source = speedrun.Shrunk(training.train, 16)
    whole, small = next(training.train.batches(1)), next(source.batches(1))
    assert small.images.shape == (100, 3, 16, 16)
    assert torch.equal(small.target, whole.target)
    assert torch.allclose(small.images[0, 0, 0, 0], whole.images[0, 0, :2, :2].mean())
    assert torch.equal(source.shown(next(source.draws(1))).images, small.images)
    assert training.method.parts["task"].weight(Progress()) == 1


@pytest.mark.parametrize(
    ("top1", "seconds", "seeds", "words"),
    [(76.5, 20.0, 5, "met, the aim of 30 s too"), (76.0, 9.0, 5, "missed"), (80.0, 9.0, 4, "not measured")],
)
def test_the_goal_is_met_by_the_mean_of_five_seeds_alone(top1: float, seconds: float, seeds: int, words: str) -> None:
    outcomes = [speedrun.Outcome(seed, top1, seconds, 30, "some GPU") for seed in range(seeds)]
    assert words in speedrun.verdict(outcomes)
