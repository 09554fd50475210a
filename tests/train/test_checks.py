"""Parts that do not fit are refused before anything is trained or written."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fractionate.config.data import Data
from fractionate.config.optimizers import LearningRate
from fractionate.config.run import Network, Run
from fractionate.models import create
from fractionate.runs.checkpoint import save_weights
from fractionate.runs.runner import run_in_folder
from fractionate.tasks import Evaluation
from fractionate.train.build import Training
from fractionate.train.build import prepare as really_prepare
from fractionate.train.checks import check_answers, check_ema, check_teacher
from fractionate.train.optimizer import check_rates
from tests.train.runs import teacher_file, tiny


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return tiny("kd", teacher=Network("convnet_8_16", checkpoint=teacher_file(tmp_path)))


def refused(run: Run, folder: Path, message: str, **options: float) -> None:
    with pytest.raises(ValueError, match=message):
        run_in_folder(run, folder / "run", **options)
    assert not (folder / "run").exists()


def with_parts(monkeypatch: pytest.MonkeyPatch, **parts: nn.Module) -> None:
    def prepare(run: Run) -> Training:
        return really_prepare(run, **parts)

    monkeypatch.setattr(sys.modules["fractionate.runs.runner"], "prepare", prepare)


def linear(classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


@pytest.mark.parametrize("what", ["student", "teacher"])
def test_a_network_with_another_number_of_classes(
    what: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_parts(monkeypatch, **{what: linear(12)})
    refused(run, tmp_path, f"the {what} gives 12 logits per image, the data have 10 classes")


def test_a_student_without_parameters(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_parts(monkeypatch, student=nn.Flatten())
    refused(run, tmp_path, "the student Flatten has no parameters, so that nothing in it can be trained")


class Own(nn.Module):
    """A classifier with methods of its owner's."""

    def __init__(self, **methods: Any) -> None:
        super().__init__()
        self.fc, self.methods = nn.Linear(64, 10), methods

    def forward(self, x: torch.Tensor) -> Any:
        return self.fc(x.flatten(1))

    def train(self, mode: bool = True) -> Any:
        super().train(mode)  # and nothing is returned, as in many a network whose batch norms stay frozen
        if "train" in self.methods:
            raise OSError("final")

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        if "state" in self.methods:
            raise OSError("no state")
        return {**super().state_dict(*args, **kwargs), **self.methods.get("extra", {})}


def test_a_train_that_returns_nothing_trains_as_any_other(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_parts(monkeypatch, student=Own())
    run_in_folder(replace(run, ema=0.9), tmp_path / "run")
    assert (tmp_path / "run" / "student.safetensors").exists()


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        ({"train": True}, r"train\(True\) of the network Own failed: OSError: final"),
        ({"state": True}, "the state dict of the student Own failed: OSError: no state"),
        ({"extra": {"n": 3}}, "the student Own keeps 'n' in its state dict, which is no tensor but int"),
    ],
)
def test_methods_of_a_students_own_that_fail_are_named(
    methods: dict[str, Any], words: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_parts(monkeypatch, student=Own(**methods))
    refused(run, tmp_path, words)


def test_a_student_that_starts_from_nan(run: Run, tmp_path: Path) -> None:
    net = create("convnet_4_8", num_classes=10)
    with torch.no_grad():
        next(net.parameters())[0] = float("nan")
    save_weights(net, tmp_path / "nan.safetensors")
    network = Network("convnet_4_8", checkpoint=str(tmp_path / "nan.safetensors"))
    refused(
        replace(run, student=network), tmp_path, r"the student's weights are broken: \d+ of \d+ values of '.*' are NaN"
    )


def test_a_teacher_whose_statistics_are_infinite(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hidden(nn.BatchNorm2d):
        """Its logits are finite, its statistics are not."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    teacher = nn.Sequential(Hidden(1), linear(10))
    teacher[0].running_var.fill_(float("inf"))
    with_parts(monkeypatch, teacher=teacher)
    refused(run, tmp_path, "the teacher's weights are broken: 1 of 1 values of '0.running_var' are NaN or infinite")


def test_a_teacher_that_knows_other_classes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(nn.Module):
        """Never right: it knows the answer and says the next class."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.roll(best(x), 1, dims=1)

    training = really_prepare(run)
    target = torch.cat([b.target for b in training.test.batches(1)])

    def best(x: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(target[: len(x)], 10).float()

    with_parts(monkeypatch, teacher=Wrong())
    refused(run, tmp_path, r"the teacher has 0.00 % top-1 on the test images, guessing has 10.00 %")


def test_a_teacher_below_the_accuracy_asked_for(run: Run, tmp_path: Path) -> None:
    refused(run, tmp_path, r"the teacher has \d+\.\d\d % top-1 .*, at least 90 % were asked for", teacher_at_least=90.0)


def test_a_batch_larger_than_the_data(run: Run, tmp_path: Path) -> None:
    large = replace(run, data=Data(labels_per_class=2, batch_size=21))
    refused(large, tmp_path, "data.batch_size is 21, but an epoch shows only 20 images; choose at most 20")


def flat() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))


@pytest.mark.parametrize(
    ("batch", "where"),
    [(1, "batches hold one image"), (19, r"the last batch of every epoch holds one image \(20 = 1 x 19 \+ 1\)")],
)
def test_a_batch_of_one_with_batch_norm(
    batch: int, where: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_parts(monkeypatch, student=flat())
    small = replace(run, data=Data(labels_per_class=2, batch_size=batch))
    refused(small, tmp_path, f"{where}, which batch norm cannot be trained on: change data.batch_size")


def test_a_batch_of_one_is_fine_where_batch_norm_sees_several_pixels(run: Run, tmp_path: Path) -> None:
    facts = run_in_folder(replace(run, data=Data(labels_per_class=2, batch_size=19), epochs=1), tmp_path / "run")
    assert facts["epochs"] == 1


def test_checking_draws_nothing_and_moves_nothing(run: Run) -> None:
    from fractionate.train.checks import check_training

    training = really_prepare(run, student=nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(1), linear(10)))
    state = torch.get_rng_state()
    before = {name: value.clone() for name, value in training.student.state_dict().items()}
    check_training(training)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in training.student.state_dict().items())
    assert training.student.training


def test_a_run_whose_rate_is_0_from_beginning_to_end_is_refused(run: Run, tmp_path: Path) -> None:
    """A warm-up from 0 that lasts for the whole of a run of one epoch."""
    rate = LearningRate(warmup_epochs=1, warmup_start=0.0)
    refused(
        replace(run, epochs=1, learning_rate=rate),
        tmp_path,
        "rate is 0 in every epoch.*warmup_epochs=1 begins at warmup_start=0",
    )


@pytest.mark.parametrize(
    ("rate", "told"),
    [
        (LearningRate(warmup_epochs=5), "warmup_epochs=5, so the rate never reaches"),
        (LearningRate("cosine", warmup_epochs=2), "warmup_epochs=2, so the rate never reaches"),
        (LearningRate("step", milestones=(1, 2, 9)), r"milestones=\[1, 2, 9\], of which \[2, 9\] never come"),
    ],
)
def test_what_a_run_is_too_short_for_is_said(run: Run, rate: LearningRate, told: str) -> None:
    with pytest.warns(UserWarning, match=told):
        check_rates(replace(run, epochs=2, learning_rate=rate))


@pytest.mark.parametrize("rate", [LearningRate("cosine", warmup_epochs=2, per="step"), LearningRate("step", (1,))])
def test_a_course_of_the_rate_that_fits_the_run_is_not_spoken_of(run: Run, rate: LearningRate) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_rates(replace(run, epochs=2, learning_rate=rate))


@pytest.mark.parametrize("named", [True, False])
def test_a_teacher_that_is_no_better_than_guessing_is_spoken_of(run: Run, named: bool) -> None:
    teacher = run.teacher if named else Network("convnet_8_16")
    training = really_prepare(replace(run, teacher=teacher))
    found = training.teacher_test
    assert isinstance(found, Evaluation)
    training.teacher_test = replace(found, top1=9.0)
    message = "9.00 % top-1 on the test images, no more than guessing: "
    with pytest.warns(UserWarning, match=message + ("do its weights" if named else "no weights of it")):
        check_teacher(training)
    training.teacher_test = replace(found, top1=60.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_teacher(training)


@pytest.mark.parametrize(("ema", "spoken"), [(0.9999, True), (0.5, False), (None, False)])
def test_an_average_that_will_hold_the_untrained_weights_still_is_spoken_of(
    run: Run, ema: float | None, spoken: bool
) -> None:
    training = really_prepare(replace(run, ema=ema))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_ema(training)
    assert bool(caught) == spoken
    if caught:
        usable = float(str(caught[0].message).partition("at most ema=")[2].split(",")[0])
        assert 0 < usable ** (len(training.train) * run.epochs) <= 0.05


class InPlace(nn.Module):
    """Normalises the batch that it is given, and not a copy of it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = linear(10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(x.sub_(1).div_(0.25))
        return logits


@pytest.mark.parametrize("what", ["student", "teacher"])
def test_a_network_that_changes_the_pictures_of_the_other_one_is_refused(
    what: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_parts(monkeypatch, **{what: InPlace()})
    refused(run, tmp_path, r"changes the pictures that it is given, in place .*x = x\.clone\(\) first")


def ending_in(layer: nn.Module, scale: float) -> nn.Module:
    net = linear(10)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(scale)
    return nn.Sequential(net, layer)


def test_a_teacher_that_ends_in_sigmoids_is_said_and_an_untrained_one_is_not(run: Run) -> None:
    def said(teacher: nn.Module) -> bool:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            check_answers(really_prepare(run, teacher=teacher))
        return any("seems to end in sigmoids" in str(one.message) for one in found)

    assert said(ending_in(nn.Sigmoid(), 50.0))
    assert not said(ending_in(nn.Identity(), 50.0))
    assert not said(ending_in(nn.Hardsigmoid(), 1e-3))  # all near a half, as untrained logits may be
