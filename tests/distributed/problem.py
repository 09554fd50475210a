"""Small training runs in float64 without batch statistics, which every number of processes must repeat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from fractionate.data import Batch, Normalization, SmallImages, Source
from fractionate.optim import AllReduce
from fractionate.train import Loop, MethodSpec, Network, Optimizer, Parallel, Run, evaluate, prepare

UPDATE = Parallel(sync="update")
CLIPPED = Optimizer(lr=0.02, clip_streams=0.8, clip=0.5)
# Every kind of update, every kind of term, and what is done to gradients on the way.
CASES: dict[str, dict[str, Any]] = {
    "ce": {},
    "dkd": {"ema": 0.8},
    "kd+dot": {},
    "dkd+deepkd": {"merge": False},
    "dkd+deepkd(rule=published-code)": {},
    "gdkd+deepkd, two parts": {"accumulate": 2},
    "gdkd+deepkd, clipped": {"optimizer": CLIPPED},
    "dist": {},
    "ctkd": {},
    "crld": {},
    "mlkd+dot": {},
    "topkd(k=2)": {},
    "ce, update": {"parallel": UPDATE},
    "kd+dot, update": {"parallel": UPDATE},
    "dkd+deepkd, update": {"parallel": UPDATE, "merge": False},
    "dkd+deepkd(rule=published-code), update": {"parallel": UPDATE},
    "dist, update": {"parallel": UPDATE},
}
CLASSES = 6


@dataclass(frozen=True)
class Double:
    """A source in float64."""

    inner: Source

    @property
    def num_classes(self) -> int:
        return self.inner.num_classes

    def __len__(self) -> int:
        return len(self.inner)

    def batches(self, epoch: int) -> Iterator[Batch]:
        for batch in self.inner.batches(epoch):
            strong = None if batch.strong is None else batch.strong.double()
            yield replace(batch, images=batch.images.double(), strong=strong)


def network(seed: int, width: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Tanh(), nn.Linear(width, CLASSES)).double()


def images(count: int, batch_size: int, **options: Any) -> SmallImages:
    made = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=made)
    target = torch.randint(0, CLASSES, (count,), generator=made)
    return SmallImages(pixels, target, CLASSES, Normalization((0.5,), (0.3,)), batch_size=batch_size, **options)


def blurred(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A strong view whose numbers are drawn batch by batch."""
    noise = torch.randint(0, 40, pixels.shape, dtype=torch.uint8, generator=generator)
    return pixels // 2 + noise


def loop_of(case: str) -> Loop:
    """A loop at its beginning; batches of 7 images, the last one of 2, so that parts are uneven or empty."""
    method = MethodSpec.parse(case.split(", ")[0])
    run = Run(
        student=Network("convnet_4_8"),
        teacher=Network("convnet_4_8"),
        method=method,
        optimizer=Optimizer(lr=0.02, weight_decay=0.01),
        epochs=2,
        device="cpu",
        threads=1,
    )
    two_views = method.build().views == 2
    training = prepare(
        replace(run, **CASES[case]),
        student=network(0, 12),
        teacher=network(1, 20),
        train=Double(images(23, 7, shift=1, flip=True, strong=blurred if two_views else None)),
        test=Double(images(11, 4, shuffle=False)),
    )
    return Loop(training)


def outcome(case: str) -> dict[str, torch.Tensor]:
    """Weights, buffers and reported numbers at the end."""
    loop = loop_of(case)
    records = list(loop.records())
    loop.settle()
    t = loop.training
    found = {f"weight {i}": p.detach() for i, p in enumerate(loop.trained)}
    for i, p in enumerate(loop.trained):
        found |= {f"buffer {i} {name}": x for name, x in t.optimizer.state[p].items()}
    if loop.average:
        found |= {f"average {i}": p for i, p in enumerate(loop.average.net.parameters())}
    for record in records:
        test = record.test
        numbers = [record.train_loss, *record.components.values(), test.top1, test.loss, test.calibration.ece]
        found[f"record {record.epoch}"] = torch.tensor(numbers, dtype=torch.float64)
    again = evaluate(t.student, t.test)
    found["images counted"] = torch.tensor([sum(again.calibration.count)])
    return {name: x.clone() for name, x in found.items()}


def outcome_without_reduction() -> dict[str, torch.Tensor]:
    """The same with the exchange of gradients left out."""

    class Silent(AllReduce):
        def start(self, stream: str, parameters: Any, grads: Any) -> Any:
            return grads

    loop = loop_of("dkd+deepkd")
    loop.reduce = Silent() if loop.reduce else None
    list(loop.records())
    return {f"weight {i}": p.detach().clone() for i, p in enumerate(loop.trained)}
