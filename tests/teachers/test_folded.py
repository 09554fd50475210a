"""A folded network is the network: same logits, same methods, fewer norms; the original is left alone."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fractionate.data import Batch
from fractionate.models.cifar import CIFAR
from fractionate.teachers.live import LiveTeacher, folded

# Pre-activation norms come before their convolution: half of a wide ResNet's stay.
STAY = {"wrn_16_1": 7, "wrn_16_2": 6, "wrn_40_1": 19, "wrn_40_2": 18}


def trained(net: nn.Module) -> nn.Module:
    """Statistics and scales as training leaves them: far from 0 and 1."""
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, 0, 0.2)
            nn.init.normal_(m.running_mean, 0, 0.3)
            nn.init.uniform_(m.running_var, 0.5, 2.0)
    return net


def norms(net: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())


@pytest.mark.parametrize("name", CIFAR)
def test_a_folded_network_gives_the_same_logits(name: str) -> None:
    net, images = trained(CIFAR[name](100)), torch.randn(2, 3, 32, 32)
    short, live = folded(net, images), LiveTeacher(net)
    other = torch.randn(2, 3, 32, 32)  # not those it was made with
    with torch.inference_mode():
        expected, found = live.net(other), short(other)
    assert float((found - expected).abs().max()) <= 1e-4 * float(expected.abs().max())
    assert norms(short) == STAY.get(name, 0) < norms(net)
    assert not any(p.requires_grad for p in short.parameters())


def test_the_original_is_left_alone() -> None:
    net = trained(CIFAR["resnet8"](10)).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    folded(net, torch.randn(2, 3, 32, 32))
    assert net.training
    assert norms(net) == 9
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules())


def test_a_folded_network_keeps_its_methods() -> None:
    net, images = trained(CIFAR["resnet8"](10)).eval(), torch.randn(2, 3, 32, 32)
    for a, b in zip(folded(net, images).features(images), net.features(images), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


class Activated(nn.BatchNorm2d):
    """A norm that does more than a norm, as some libraries have."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


class Odd(nn.Module):
    """A convolution that two layers read, one that runs twice, a norm of the batch at hand, and one that does more."""

    def __init__(self) -> None:
        super().__init__()
        self.read_twice, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.runs_twice, self.second = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.third, self.of_the_batch = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)
        self.fourth, self.more = nn.Conv2d(3, 3, 1), Activated(3)
        self.good, self.absorbed = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.read_twice(x)
        x = y + self.norm(y)
        x = self.second(self.runs_twice(self.runs_twice(x)))
        x = self.more(self.fourth(self.of_the_batch(self.third(x))))
        return F.relu(self.absorbed(self.good(x))).mean((2, 3))


def test_what_cannot_be_folded_stays() -> None:
    torch.manual_seed(3)
    net = Odd()
    for m in (net.norm, net.second, net.absorbed):
        nn.init.uniform_(m.weight, 0.5, 1.5)
        nn.init.normal_(m.running_mean)
    images = torch.randn(4, 3, 5, 5)
    short = folded(net, images)
    assert isinstance(short.absorbed, nn.Identity)
    assert norms(short) == 4
    assert torch.allclose(short(images), net.eval()(images), atol=1e-5)


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_layout_is_as_asked(channels_last: bool) -> None:
    net = folded(trained(CIFAR["resnet8"](10)), torch.randn(2, 3, 32, 32), channels_last=channels_last)
    assert net.conv1.weight.is_contiguous(memory_format=torch.channels_last) is channels_last


@pytest.mark.slow
@pytest.mark.compiled
def test_a_compiled_one_gives_the_same_logits() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    net, images = trained(net).eval(), torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        assert torch.allclose(folded(net, images, compiled=True)(images), net(images), atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", ["resnet32x4", "wrn_40_2"])
def test_a_gpu_whose_convolutions_round_to_ten_bits_folds_as_many_norms(name: str) -> None:
    net, images = trained(CIFAR[name](100)).cuda(), torch.randn(2, 3, 32, 32, device="cuda")
    short = folded(net, images)
    assert norms(short) == STAY.get(name, 0)
    assert {p.device.type for p in [*short.parameters(), *net.parameters()]} == {"cuda"}
    expected = LiveTeacher(net)(Batch(images, torch.zeros(2).long(), torch.arange(2)))[0]
    assert float((short(images) - expected).abs().max()) <= 1e-2 * float(expected.abs().max())


def test_a_teacher_that_was_compiled_to_a_script_teaches_as_it_is() -> None:
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval()
    images = torch.randn(4, 1, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        script = torch.jit.trace(plain, images)
    short = folded(script, images)
    assert torch.equal(LiveTeacher(short).net(images), plain(images))
    assert not any(p.requires_grad for p in short.parameters())
