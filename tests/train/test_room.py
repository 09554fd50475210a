"""Images far larger than the memory are refused before anything is allocated for them."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fractionate.config.data import Data
from fractionate.config.method import MethodSpec
from fractionate.config.run import Network, Run
from fractionate.data import resized
from fractionate.train import room

CPU = torch.device("cpu")


def _run(size: int, batch: int = 8) -> Run:
    return Run(
        student=Network("resnet8"),
        method=MethodSpec("ce"),
        data=Data("folder", root="pictures", size=size, batch_size=batch),
    )


@pytest.fixture
def eight_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "memory", lambda: 8 * 2**30)
    monkeypatch.setattr("fractionate.data.images.memory", lambda: 8 * 2**30)


def test_a_batch_larger_than_the_memory_is_refused_with_what_it_takes_and_what_there_is(eight_gib: None) -> None:
    with pytest.raises(
        ValueError, match=r"8 images of 20000 x 20000 .* at least 35\.8 GiB .* are 8\.0 GiB .*data\.size"
    ):
        room.check_images_fit(_run(20000).data, CPU)
    room.check_images_fit(_run(224).data, CPU)


def test_what_a_network_keeps_counts_too_and_is_not_allocated(eight_gib: None) -> None:
    net = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU())
    kept = 2 * 64 * 2000**2 * 4 // 2
    needed = 10 * (kept + 3 * 2000**2 * 4)
    with pytest.raises(ValueError, match=rf"at least {needed / 2**30:.1f} GiB .*data\.batch_size, at most 8"):
        room.check_step_fits(_run(2000, 10), net, CPU)
    room.check_step_fits(_run(2000, 8), net, CPU)
    assert next(net.parameters()).device == CPU


def test_a_network_that_may_compute_in_16_bits_is_let_through_up_to_twice_the_batch(eight_gib: None) -> None:
    net = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU())
    for precision in ("bfloat16", "float16", "auto"):
        room.check_step_fits(replace(_run(2000, 15), precision=precision), net, CPU)
    with pytest.raises(ValueError, match=r"data\.batch_size, at most 15"):
        room.check_step_fits(replace(_run(2000, 17), precision="bfloat16"), net, CPU)


def test_a_network_that_cannot_be_run_empty_is_let_through(eight_gib: None) -> None:
    class Reads(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * float(x.mean())

    room.check_step_fits(_run(2000), Reads(), CPU)


def test_enlarged_images_of_a_set_are_counted_before_they_are_made(eight_gib: None) -> None:
    with pytest.raises(ValueError, match=r"100 images of 5000 x 5000 pixels need 14\.0 GiB"):
        resized(torch.zeros(100, 3, 32, 32, dtype=torch.uint8), 5000)
