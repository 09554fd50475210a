"""Convolutions of a teacher with what follows them in one call of cuDNN, whose plain twin stands in for it on a CPU."""

from __future__ import annotations

import itertools
import operator
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fractionate.data import Batch
from fractionate.models import create
from fractionate.models.cifar import CIFAR
from fractionate.probe.cost import Cost, Machine
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from fractionate.teachers import convolution
from fractionate.teachers import fused as fusing
from fractionate.teachers.fused import fused
from fractionate.teachers.live import LiveTeacher, folded, frozen
from fractionate.teachers.traced import traced
from tests.teachers.test_folded import trained
from tests.train.runs import tiny

IMAGES = (4, 3, 32, 32)
ALL = {name: int(name.split("x")[0].removeprefix("resnet")) - 1 for name in CIFAR if name.startswith("resnet")}
ALL |= {"resnet50": 49, "vgg8": 5, "vgg11": 8, "vgg13": 10, "vgg16": 13, "vgg19": 16}
# Of a wide ResNet one of two in a block, and the first layer where its output is read as an activation alone.
ALL |= {name: (int(name.split("_")[1]) - 4) // 2 + (name[-1] != "1") for name in CIFAR if name.startswith("wrn")}
pytestmark = pytest.mark.usefixtures("unchecked")  # traced images are no tensors


class Kernels:
    """What cuDNN would have: twins that count their calls, and a stopwatch that finds them faster or slower."""

    def __init__(self) -> None:
        self.calls, self.takes, self.twin = 0, 0.5, self.right

    def right(self, x: Tensor, weight: Tensor, z: Tensor | None, bias: Tensor, *how: Any) -> Tensor:
        y = F.conv2d(x, weight, bias, *how)
        return F.relu(y if z is None else y + z)

    def relu(self, x: Tensor, weight: Tensor, bias: Tensor, *how: Any) -> Tensor:
        self.calls += 1
        return self.twin(x, weight, None, bias, *how)

    def add_relu(self, x: Tensor, weight: Tensor, z: Tensor, alpha: float, bias: Tensor, *how: Any) -> Tensor:
        assert alpha == 1
        self.calls += 1
        return self.twin(x, weight, z, bias, *how)

    def seconds(self, work: Callable[[], object]) -> float:
        before = self.calls
        work()
        return self.takes if self.calls > before else 1.0


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Kernels:
    made = Kernels()
    monkeypatch.setattr(torch, "cudnn_convolution_relu", made.relu)
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", made.add_relu)
    monkeypatch.setattr(convolution, "DEVICES", ("cpu",))
    monkeypatch.setattr(fusing, "gpu_seconds", made.seconds)
    return made


def batch_of(images: Tensor) -> Batch:
    return Batch(images, torch.zeros(len(images)).long(), torch.arange(len(images)))


@pytest.mark.parametrize("name", ALL)
def test_every_convolution_before_a_relu_is_found(name: str) -> None:
    net = folded(CIFAR[name](10).eval(), torch.randn(1, 3, 32, 32))
    assert len(traced(net)[1]) == ALL[name]


@pytest.mark.parametrize(("name", "count"), [("resnet18", 17), ("resnet50", 49)])
def test_those_of_torchvision_are_found_too(name: str, count: int) -> None:
    pytest.importorskip("torchvision")
    net = folded(create(f"torchvision:{name}", num_classes=10).eval(), torch.randn(1, 3, 64, 64))
    assert len(traced(net)[1]) == count


@pytest.mark.parametrize("name", ["resnet8x4", "wrn_16_2", "vgg8", "shufflenet_v1"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=str)
def test_a_network_says_the_same_in_fewer_calls(kernels: Kernels, name: str, dtype: torch.dtype | None) -> None:
    images, other = torch.randn(IMAGES), torch.randn(3, 3, 32, 32)
    net = folded(trained(CIFAR[name](10)), images, dtype=dtype)
    expected = LiveTeacher(net, dtype=dtype)(batch_of(other))[0]
    made = fused(net, images, dtype=dtype)
    count = len(traced(folded(trained(CIFAR[name](10)), images))[1])
    assert made.said.startswith(f"{count} of {count} with")
    assert type(made.net) is type(net)
    kernels.calls = 0
    found = LiveTeacher(made.net, dtype=dtype)(batch_of(other))[0]
    assert kernels.calls == count > 0
    tolerance = 1e-5 if dtype is None else 0.03
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


def test_only_what_is_faster_is_fused(kernels: Kernels) -> None:
    net, images = folded(CIFAR["resnet8"](10), torch.randn(IMAGES)), torch.randn(IMAGES)
    kernels.takes = 2.0
    assert fused(net, images).said == (
        "0 of 7 with the sum and the ReLU behind them in one call; as they were: 7 no faster"
    )
    kernels.calls = 0
    net(images)
    assert kernels.calls == 0


def without_bias(x: Tensor, weight: Tensor, z: Tensor | None, bias: Tensor, *how: Any) -> Tensor:
    y = F.conv2d(x, weight, None, *how)
    return F.relu(y if z is None else y + z)


def without_kernel(x: Tensor, weight: Tensor, z: Tensor | None, bias: Tensor, *how: Any) -> Tensor:
    raise RuntimeError("Unable to find an engine\nto execute this computation")


def test_a_kernel_that_computes_something_else_is_left_alone(kernels: Kernels) -> None:
    net, images = folded(trained(CIFAR["resnet8"](10)), torch.randn(IMAGES)), torch.randn(IMAGES)
    expected, kernels.twin = net(images), without_bias
    assert fused(net, images).said.endswith("as they were: 7 wrong numbers")
    assert torch.allclose(net(images), expected)


def test_a_convolution_without_a_kernel_stays_as_it_was(kernels: Kernels) -> None:
    net, images = folded(trained(CIFAR["resnet8"](10)), torch.randn(IMAGES)), torch.randn(IMAGES)

    def of_many_channels(x: Tensor, *rest: Any) -> Tensor:
        return kernels.right(x, *rest) if x.shape[1] % 8 == 0 else without_kernel(x, *rest)

    expected, kernels.twin = net(images), of_many_channels
    said = fused(net, images).said
    assert said.startswith("6 of 7")
    assert said.endswith("as they were: 1 Unable to find an engine")
    assert torch.allclose(net(images), expected, atol=1e-5)


def test_a_kernel_that_is_missing_for_another_batch_is_said_and_done_without(kernels: Kernels) -> None:
    net, images = folded(trained(CIFAR["resnet8"](10)), torch.randn(IMAGES)), torch.randn(IMAGES)
    expected = net(images)
    assert fused(net, images).said.startswith("7 of 7")
    kernels.twin = without_kernel
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert torch.allclose(net(images), expected, atol=1e-5)
    assert [str(w.message).split()[0] for w in seen][:2] == ["conv1", "layer1.0.conv1"]


class Mirrored(nn.Module):
    """Looks at its images: what was traced holds for some of them, or cannot be traced at all."""

    def __init__(self, by: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self.layer, self.by = nn.Conv2d(3, 4, 1), by

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.layer(x)).mean((2, 3))
        return y.flip(1) if self.by(x) else y


def test_a_network_that_cannot_be_traced_is_left_as_it_is(kernels: Kernels) -> None:
    net = frozen(Mirrored(lambda x: bool(x.sum() > 0)))
    assert "cannot be traced" in fused(net, torch.randn(IMAGES)).said
    assert "forward" not in vars(net)


def test_a_trace_that_holds_for_something_else_is_found_out(kernels: Kernels) -> None:
    net, images = frozen(Mirrored(lambda x: isinstance(x, Tensor))), torch.randn(IMAGES)
    expected = net(images)
    with pytest.warns(UserWarning, match="stay as they were: its trace gave logits that differ"):
        assert fused(net, images).said.startswith("as they were: its trace")
    assert torch.equal(net(images), expected)
    assert kernels.calls == 0


class Odd(nn.Module):
    """Sums and ReLUs that look like those at the end of a convolution, and are more."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(7))

    def forward(self, x: Tensor) -> Tensor:
        a, b, c, d, e, f, g = self.layers
        read = a(x)
        x = F.relu(read) + read  # read twice
        kept = x * 1
        kept += b(x)  # what is changed is read again
        x = F.relu(kept) + kept
        y = c(x)
        x = x.mul_(2)  # the convolution has seen it before
        x = F.relu(y) + x
        x = F.relu(torch.add(d(x), x, alpha=3))
        x = F.relu(e(x) + 1)
        own = f(x)
        x = F.relu(operator.iadd(own, x), inplace=True)  # this one is
        return F.relu(g(x) + x.mean((2, 3), keepdim=True)).mean((2, 3))  # is found, and has no kernel


def test_what_only_looks_alike_stays(kernels: Kernels) -> None:
    net, images = frozen(Odd()), torch.randn(IMAGES)
    expected = net(images.clone())
    made = fused(net, images)
    assert [layer.name for layer in traced(frozen(Odd()))[1]] == ["layers.5", "layers.6"]
    assert made.said.startswith("2 of 2")
    kernels.calls = 0
    assert torch.allclose(net(images), expected, atol=1e-5)
    assert kernels.calls == 1


def test_where_exactness_was_asked_for_and_on_a_cpu_nothing_changes(kernels: Kernels) -> None:
    net, images = folded(CIFAR["resnet8"](10), torch.randn(IMAGES)), torch.randn(IMAGES)
    before, torch.backends.cudnn.deterministic = torch.backends.cudnn.deterministic, True
    try:
        assert "deterministic" in fused(net, images).said
    finally:
        torch.backends.cudnn.deterministic = before
    assert fused(net, images.to("meta")).said == "as they were: images are on meta"


@pytest.mark.parametrize(("changes", "count"), [({}, 2), ({"channels_last": False}, 0), ({"teacher_table": "full"}, 0)])
def test_a_run_says_in_its_summary_what_became_of_its_teacher(
    kernels: Kernels, tmp_path: Path, changes: dict[str, Any], count: int
) -> None:
    given = {"channels_last": True, "teacher_table_place": "memory", **changes}
    facts = run_in_folder(tiny(epochs=1, **given), tmp_path / "seed-0")
    assert facts.get("teacher_fused", "0 of").startswith(f"{count} of")
    assert ("teacher_fused" in facts) == bool(count) == bool(kernels.calls)
    assert RunFolder(tmp_path / "seed-0").summary().get("teacher_fused") == facts.get("teacher_fused")


def test_a_profile_counts_what_is_fused_like_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through torch's own dispatch, with kernels for the CPU."""
    monkeypatch.setattr(convolution, "DEVICES", ("cpu",))
    twin, times = Kernels().right, itertools.cycle([0.5, 1.0])
    net, images = folded(CIFAR["resnet8"](10), torch.randn(IMAGES)), torch.randn(IMAGES)
    with Cost(Machine(1e9, 1e9)) as plain, torch.inference_mode():
        net(images)
    with torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("cudnn_convolution_relu", lambda x, w, b, *how: twin(x, w, None, b, *how), "CPU")
        library.impl("cudnn_convolution_add_relu", lambda x, w, z, a, b, *how: twin(x, w, z, b, *how), "CPU")
        assert fused(net, images, seconds=lambda work: next(times)).said.startswith("7 of 7")
        with Cost(Machine(1e9, 1e9)) as found, torch.inference_mode():
            net(images)
    assert found.flops == plain.flops > 0
    assert found.bytes < plain.bytes


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=str)
def test_a_gpu_says_the_same_and_its_calls_can_be_recorded(dtype: torch.dtype | None) -> None:
    images = torch.randn(64, 3, 32, 32, device="cuda").contiguous(memory_format=torch.channels_last)
    net = folded(trained(CIFAR["resnet32x4"](100)).cuda(), images, dtype=dtype)
    expected = LiveTeacher(net, dtype=dtype)(batch_of(images))[0]
    made = fused(net, images, dtype=dtype)
    print(f"resnet32x4, {dtype}: {made.said}")
    teacher = LiveTeacher(made.net, dtype=dtype)
    tolerance = 0.1 * float(expected.abs().max())
    assert float((teacher(batch_of(images))[0] - expected).abs().max()) <= tolerance
    side, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with torch.cuda.stream(side):
        teacher(batch_of(images))
    with torch.cuda.graph(graph, stream=side):
        found = teacher(batch_of(images))[0]
    graph.replay()
    torch.cuda.synchronize()
    assert float((found - expected).abs().max()) <= tolerance
