"""A frozen teacher's forward pass: as it is, with its norms folded, its weights cast once, its convolutions fused.

    python -m benchmarks.frozen [--teacher resnet32x4] [--batch 64] [--precision bfloat16] [--device cuda]

On a GPU its own time counts, without the host's to ask for the work; fused are what cuDNN does in one call, right and
faster (:mod:`fractionate.teachers.fused`). On a CPU the processor's time counts, and nothing is fused.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from fractionate.data import Batch
from fractionate.models.cifar import CIFAR
from fractionate.teachers.convolution import gpu_seconds
from fractionate.teachers.fused import fused
from fractionate.teachers.live import LiveTeacher, folded, in_channels_last
from fractionate.train.device import tuned

from .measure import interleave
from .record import append, parser, rows, show
from .record import prepare as prepared

PLAIN, FOLDED, CAST, FUSED = "as it is", "norms folded", "weights cast once", "convolutions fused"


def contenders(net: nn.Module, images: Tensor, dtype: torch.dtype | None) -> dict[str, LiveTeacher]:
    """The teacher, shorter every time."""
    made = {
        PLAIN: LiveTeacher(in_channels_last(net), dtype=dtype),
        FOLDED: LiveTeacher(folded(net, images), dtype=dtype),
    }
    if dtype is not None:
        made[CAST] = LiveTeacher(folded(net, images, dtype=dtype), dtype=dtype)
    if images.is_cuda:
        found = fused(folded(net, images, dtype=dtype), images, dtype=dtype)
        print(f"  fused: {found.said}")
        made[FUSED] = LiveTeacher(found.net, dtype=dtype)
    return made


def measured(works: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of every contender in every round; a GPU's by its own clock."""
    if device.type != "cuda":
        return interleave(works, rounds, device, time.process_time)
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(gpu_seconds(work))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, append to the CSV."""
    options = _options(arguments)
    device = prepared(options)
    dtype = None if options.precision == "float32" else getattr(torch, options.precision)
    net = CIFAR[options.teacher](100).to(device)
    images = torch.randn(options.batch, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    batch = Batch(images, torch.zeros(options.batch, dtype=torch.long), torch.arange(options.batch))
    with tuned(device):
        works = {name: partial(teacher, batch) for name, teacher in contenders(net, images, dtype).items()}
        seconds = measured(works, options.rounds, device)
    found = rows(f"{options.teacher}, batch {options.batch}, {options.precision}, {device.type}", seconds, PLAIN)
    show(found)
    append(found, options.csv, device)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser("frozen", __doc__.splitlines()[0], rounds=21)
    made.add_argument("--teacher", default="resnet32x4", choices=list(CIFAR), metavar="NAME")
    made.add_argument("--batch", type=int, default=64)
    made.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16", "float16"])
    options = made.parse_args(arguments)
    if options.toy:
        options.teacher, options.batch, options.rounds = "resnet8", 4, 2
    return options


if __name__ == "__main__":
    main()
