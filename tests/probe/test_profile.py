"""A profiled step is a step of the trainer; its operations are counted as they are, and no floor is above its time."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from fractionate.config import SGD, Data, Detection, MethodSpec, Run, Segmentation
from fractionate.config.optimizers import LearningRate
from fractionate.config.run import Monitors, Network
from fractionate.probe.cost import Cost, Machine, measure_machine
from fractionate.probe.profile import (
    BACKWARD,
    DATA,
    FORWARD,
    TEACHER,
    UPDATE,
    Part,
    Profile,
    _endless,
    measure,
    profile,
    step,
    stepper,
)
from fractionate.train.build import prepare
from fractionate.train.loop import fit
from tests.dense import trees as masks
from tests.detection import trees as boxes
from tests.train.runs import teacher_file, tiny

SLOW = Machine(flops=1e9, bytes=1e9)


def names(found: Profile) -> list[str]:
    return [part.name for part in found.parts]


@pytest.mark.parametrize(
    ("method", "parts"),
    [
        ("ce", [DATA, FORWARD, BACKWARD, UPDATE]),
        ("dkd", [DATA, TEACHER, FORWARD, BACKWARD, UPDATE]),
        ("dkd+deepkd", [DATA, TEACHER, FORWARD, f"{BACKWARD}, task+nontarget", f"{BACKWARD}, target", UPDATE]),
    ],
)
def test_every_part_of_a_step_is_timed_and_shown(method: str, parts: list[str]) -> None:
    console = Console(file=io.StringIO(), width=140)
    found = profile(tiny(method), console, steps=2)
    assert names(found) == parts
    assert all(part.seconds > 0 and part.bytes > 0 and part.floor > 0 for part in found.parts)
    printed = console.file.getvalue()
    assert all(name in printed for name in parts)
    assert ("one backward pass" in printed) is (method == "dkd+deepkd")


def test_a_run_that_watches_its_streams_is_profiled_as_one_that_does_not() -> None:
    run = tiny("dkd", monitors=Monitors(norms=True))
    assert len(prepare(run).optimizer.momenta) == 3
    assert names(profile(run, Console(file=io.StringIO()), steps=1)).count(BACKWARD) == 1


@pytest.mark.parametrize("task", [Detection(), Segmentation(auxiliary_kd=0.4)])
def test_a_teacher_that_is_asked_for_more_than_logits_has_a_part_of_its_own(task: Any, tmp_path: Path) -> None:
    """Its heads sleep: the time is the teacher's, not that of the student beside it."""
    boxed = task.name == "detection"
    if boxed:
        pytest.importorskip("torchvision")
        pytest.importorskip("faster_coco_eval")
    folder = boxes.coco(tmp_path / "coco", 4, 2) if boxed else masks.camvid(tmp_path / "camvid", 4)
    net = Network("tests.detection.nets:small" if boxed else "tests.dense.nets:with_auxiliary")
    shown: dict[str, Any] = {"size": 64} if boxed else {"crop": (32, 32)}
    data = Data("coco" if boxed else "camvid", root=str(folder), batch_size=2, **shown)
    run = Run(
        student=net, teacher=net, method=MethodSpec("kd"), data=data, task=task, epochs=1,
        threads=1, device="cpu", optimizer=SGD(lr=0.01),
    )  # fmt: skip
    training = prepare(run)
    teacher: Any = getattr(training.teacher, "net")  # noqa: B009
    heads = [teacher.roi_heads.box_head] if boxed else [teacher.classifier, teacher.aux_classifier]
    for head in heads:
        head.register_forward_hook(lambda *_: time.sleep(0.5))
    found = {part.name: part.seconds for part in measure(training, 1).parts}
    assert list(found) == [DATA, TEACHER, FORWARD, BACKWARD, UPDATE]
    assert found[TEACHER] > 0.5 * len(heads)


@pytest.mark.parametrize("method", ["dkd+deepkd", "kd", "dkd+deepkd(rule='published-code')"])
def test_profiled_steps_are_those_of_the_trainer(method: str, tmp_path: Path) -> None:
    teacher = Network("convnet_8_16", checkpoint=teacher_file(tmp_path))
    run = tiny(method, epochs=1, teacher=teacher, learning_rate=LearningRate())
    profiled, trained = prepare(run), prepare(run)
    batches, take = _endless(profiled.train), stepper(profiled, lambda name: None)
    for _ in range(len(profiled.train)):
        step(take, batches)
    list(fit(trained))
    for a, b in zip(profiled.student.parameters(), trained.student.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


def cost(work: object) -> Cost:
    with Cost(SLOW) as found:
        work()
    return found


def test_a_matrix_product_is_counted_by_hand() -> None:
    a, b = torch.ones(10, 20), torch.ones(20, 30)
    found = cost(lambda: a @ b)
    assert (found.flops, found.bytes) == (2 * 10 * 20 * 30, 4 * (200 + 600 + 300))
    assert found.seconds == pytest.approx(12000 / 1e9)


def test_a_convolution_s_backward_pass_is_twice_its_forward_pass() -> None:
    layer, x = nn.Conv2d(8, 8, 3, padding=1, bias=False), torch.randn(2, 8, 6, 6, requires_grad=True)
    there = cost(lambda: layer(x))
    out = layer(x)
    back = cost(lambda: torch.autograd.grad(out.sum(), [x, layer.weight]))
    assert there.flops == 2 * 2 * 8 * 8 * 9 * 36
    assert back.flops == 2 * there.flops
    with torch.inference_mode():
        assert cost(lambda: layer(x)).flops == there.flops


def test_views_cost_nothing_and_picks_cost_what_they_return() -> None:
    x = torch.zeros(1000, 10)
    assert cost(lambda: x.view(10, 1000).T[2:4].expand(2, 10)).bytes == 0
    assert cost(lambda: torch.empty(1000)).bytes == 0
    assert cost(lambda: x[torch.tensor([3, 5])]).bytes < 500
    assert cost(lambda: x.mul_(2.0)).bytes == 2 * x.nbytes
    assert cost(lambda: x + 1).bytes == 2 * x.nbytes


def test_the_floor_of_an_operation_is_the_larger_of_arithmetic_and_traffic() -> None:
    a = torch.ones(64, 64)
    fast_memory, fast_arithmetic = Machine(1e9, 1e18), Machine(1e18, 1e9)
    for machine, expected in ((fast_memory, 2 * 64**3 / 1e9), (fast_arithmetic, 3 * a.nbytes / 1e9)):
        with Cost(machine) as found:
            _ = a @ a
        assert found.seconds == pytest.approx(expected)


def test_the_machine_is_quicker_than_one_operation_at_a_time() -> None:
    found = measure_machine(torch.device("cpu"))
    assert found.flops > 1e9
    assert found.bytes > 1e8


def test_passes_are_compared_with_one() -> None:
    parts = [(TEACHER, 7.0), (FORWARD, 1.0), (f"{BACKWARD}, a", 2.0), (f"{BACKWARD}, b", 4.0), (UPDATE, 1.0)]
    two = Profile(tuple(Part(name, seconds, 0, 0, 0.0) for name, seconds in parts), 4, SLOW)
    assert two.passes == pytest.approx(8 / 5)
    assert two.seconds == 15


def test_no_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        profile(tiny(), Console(file=io.StringIO()), steps=0)
