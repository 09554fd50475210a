"""What a step would do on a GPU, as far as a CPU can show it: casts, choices of cuDNN, large indices, evaluations."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fractionate.data import Batch, Normalization, SmallImages
from fractionate.models import create
from fractionate.report import read_runs, table
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from fractionate.teachers.live import LiveTeacher, cast_once, folded, frozen
from fractionate.train.build import prepare
from fractionate.train.device import tuned
from tests.train.runs import tiny

IMAGES = (8, 3, 32, 32)


class Casts(TorchDispatchMode):
    """Counts the elements that are cast to another type."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: Counter[tuple[int, ...]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.to):  # the latter in inference mode
            self.sizes[tuple(args[0].shape)] += 1
        return func(*args, **(kwargs or {}))


def trained_like() -> nn.Module:
    net = create("resnet8", num_classes=10).train()
    for _ in range(3):
        net(torch.randn(IMAGES))
    return frozen(net)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_teacher_under_autocast_says_the_same_and_casts_no_weight_twice(dtype: torch.dtype) -> None:
    net, images = trained_like(), torch.randn(IMAGES)
    found, casts = [], []
    for kept in (None, dtype):
        teacher = LiveTeacher(folded(net, images, dtype=kept))
        with torch.autocast("cpu", dtype), Casts() as counted:
            found.append(teacher(Batch(images, torch.zeros(8).long(), torch.arange(8)))[0])
        casts.append(counted.sizes)
    assert torch.equal(*found)
    weights = {tuple(p.shape) for p in folded(net, images).parameters()}
    assert sum(casts[0][shape] for shape in weights) > 15
    assert sum(casts[1][shape] for shape in weights) == 0


class Scaled(nn.Module):
    """Reads a layer's weights itself, in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x.flatten(1)) / self.last.weight.double().norm().float()


def test_a_network_that_reads_its_weights_in_another_way_keeps_them() -> None:
    net = frozen(Scaled())
    assert cast_once(net, torch.randn(4, 3, 2, 2), torch.bfloat16) is net


def test_a_live_teacher_of_a_run_is_cast_once_and_one_that_fills_a_table_is_not() -> None:
    live = prepare(tiny(precision="bfloat16")).teacher
    assert isinstance(live, LiveTeacher)
    assert {p.dtype for p in live.net.parameters()} == {torch.bfloat16}
    table_of = prepare(tiny(precision="bfloat16", teacher_table="lazy", teacher_table_place="memory")).teacher
    assert {p.dtype for p in table_of.net.parameters()} == {torch.float32}  # type: ignore[union-attr]


def test_cudnn_chooses_by_trying_on_a_gpu_alone_and_not_where_exactness_was_asked_for() -> None:
    cudnn = torch.backends.cudnn
    for kind, exact, expected in (("cuda", False, True), ("cpu", False, False), ("cuda", True, False)):
        before = cudnn.deterministic
        cudnn.deterministic = exact
        with tuned(torch.device(kind)):
            assert cudnn.benchmark is expected
        cudnn.deterministic = before
        assert cudnn.benchmark is False


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_crops_out_of_the_whole_of_cifar_are_right_to_the_last_image(device: str) -> None:
    """The view that lines are taken from has 23e9 elements, more than 32 bits count."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs an accelerator")
    images = torch.zeros(50_000, 3, 32, 32, dtype=torch.uint8)
    images[-3:] = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    still = Normalization((0.0,) * 3, (1.0,) * 3)
    data = SmallImages(images, torch.zeros(50_000).long(), 1, still, 64, shift=4, flip=True, device=device)
    corner = torch.tensor([[0, 8], [4, 4], [8, 0]], device=device)
    mirror = torch.tensor([True, False, True], device=device)
    found = data._crop(torch.arange(49_997, 50_000, device=device), corner, mirror).cpu()
    wide = torch.nn.functional.pad(images[-3:], (4, 4, 4, 4))
    for got, padded, (row, column), turned in zip(found, wide, corner.tolist(), mirror.tolist(), strict=True):
        cut = padded[:, row : row + 32, column : column + 32]
        assert torch.equal(got, cut.flip(2) if turned else cut)


def test_a_student_is_measured_as_often_as_asked_and_after_the_last_epoch(tmp_path: Path) -> None:
    every = run_in_folder(tiny(epochs=5), tmp_path / "every" / "seed-0")
    seldom = run_in_folder(tiny(epochs=5, evaluate_every=2), tmp_path / "seldom" / "seed-0")
    lines = RunFolder(tmp_path / "seldom" / "seed-0").metrics()
    assert [row["epoch"] for row in lines if "test_top1" in row] == [2, 4, 5]
    usual = RunFolder(tmp_path / "every" / "seed-0").metrics()
    assert all(usual[e - 1]["test_top1"] == lines[e - 1]["test_top1"] for e in (2, 4, 5))
    assert [row["train_loss"] for row in lines] == [row["train_loss"] for row in usual]
    assert seldom["last_top1"] == every["last_top1"]
    assert seldom["best_top1"] == max(row["test_top1"] for row in lines if "test_top1" in row)
    assert table(read_runs([tmp_path])).rows
    alone = run_in_folder(tiny(epochs=3, evaluate_every=0), tmp_path / "end")
    assert alone["best_epoch"] == 3
