"""Small training runs in float64 without batch statistics, which every number of processes must repeat."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fractionate.config.method import MethodSpec
from fractionate.config.optimizers import AdamW, Optimizer
from fractionate.config.run import Network, Parallel, Run
from fractionate.data import Batch, Normalization, SmallImages, Source
from fractionate.optim import AllReduce
from fractionate.rows import Logits, with_weight
from fractionate.runs.checkpoint import restore, save_checkpoint
from fractionate.tasks import Classification, Diverged, evaluate
from fractionate.teachers import Teacher
from fractionate.teachers.table import TeacherTable, fingerprint
from fractionate.train.build import prepare
from fractionate.train.loop import Loop
from fractionate.world import current

Numbers = dict[str, Tensor]

UPDATE = Parallel(sync="update")
CLIPPED = Optimizer(lr=0.02, clip_streams=0.8, clip=0.5)
ADAMW = AdamW(lr=0.003, weight_decay=0.05, gain="heavy-ball", clip=0.5, clip_rms=1.0, decay="weights")
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
    "dkd+deepkd, adamw": {"optimizer": ADAMW, "ema": 0.8},
    "dkd+deepkd, float16": {"precision": "float16"},
    "dkd, float16, broken": {"precision": "float16", "skip_nonfinite": 1},
    "gdkd+dot, adamw, two parts": {"optimizer": ADAMW, "accumulate": 2},
    "ctkd": {},
    "crld": {},
    "mlkd+dot": {},
    "topkd(k=2)": {},
    "ce, update": {"parallel": UPDATE},
    "kd+dot, update": {"parallel": UPDATE},
    "dkd+deepkd, update": {"parallel": UPDATE, "merge": False},
    "dkd+deepkd(rule=published-code), update": {"parallel": UPDATE},
    "dist, update": {"parallel": UPDATE},
    "dkd, min_norm_log, float16, broken": {
        "combine": "min_norm_log",
        "precision": "float16",
        "skip_nonfinite": 1,
    },
    "dkd, uneven": {},
    "dkd+deepkd, uneven, two parts": {"accumulate": 2},
    "kd+dot, uneven, update": {"parallel": UPDATE},
    "dist, uneven": {},
    "dkd, uneven, broken": {"skip_nonfinite": 1},
    "dkd, min_norm_log": {"combine": "min_norm_log"},
    "gdkd, pcgrad, two parts": {"combine": "pcgrad", "accumulate": 2},
    "dist, min_norm, clipped": {"combine": "min_norm", "optimizer": CLIPPED},
    "dkd, min_norm_log, broken": {"combine": "min_norm_log", "skip_nonfinite": 1},
    "dkd, broken": {"skip_nonfinite": 1},
    "dist, broken": {"skip_nonfinite": 1},
}
# Interrupted in the middle of an epoch; the last one draws random numbers in every process.
RESUMED = (
    "dkd+deepkd",
    "dkd+deepkd, adamw",
    "dkd+deepkd(rule=published-code), update",
    "dist",
    "gdkd, pcgrad, two parts",
    "ce, dropout",
)
CLASSES = 6


@dataclass(frozen=True)
class Double:
    """A source in float64; if it is broken, the pixels of one image of the first epoch are no numbers."""

    inner: Source
    broken: bool = False

    @property
    def num_classes(self) -> int:
        return self.inner.num_classes

    @property
    def classes(self) -> tuple[str, ...]:
        return self.inner.classes

    @property
    def count(self) -> int:
        return self.inner.count

    @property
    def batch_size(self) -> int:
        return self.inner.batch_size

    @property
    def variants(self) -> int | None:
        return self.inner.variants

    def __len__(self) -> int:
        return len(self.inner)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for batch in self.inner.batches(epoch, start):
            strong = None if batch.strong is None else batch.strong.double()
            pixels = batch.images.double()
            if self.broken and epoch == 1:
                pixels[batch.index == 11] = math.nan
            yield replace(batch, images=pixels, strong=strong)


@dataclass(frozen=True)
class Uneven(Classification):
    """Images that count for more or less, some for nothing: in the last batch of an epoch, one of two."""

    @property
    def even(self) -> bool:
        return False

    def rows(self, student: nn.Module, teacher: Teacher | None, batch: Batch) -> Logits:
        return with_weight(super().rows(student, teacher, batch), (batch.index % 4).double())


def network(seed: int, width: int, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(seed)
    inner = [nn.Linear(64, width), nn.Tanh(), nn.Dropout(dropout), nn.Linear(width, CLASSES)]
    return nn.Sequential(nn.Flatten(), *inner).double()


def images(count: int, batch_size: int, **options: Any) -> SmallImages:
    made = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=made)
    target = torch.randint(0, CLASSES, (count,), generator=made)
    return SmallImages(pixels, target, CLASSES, Normalization((0.5,), (0.3,)), batch_size=batch_size, **options)


def blurred(pixels: Tensor, generator: torch.Generator) -> Tensor:
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
        replace(run, **CASES.get(case, {})),
        student=network(0, 12, 0.5 if "dropout" in case else 0.0),
        teacher=network(1, 20),
        train=Double(images(23, 7, shift=1, flip=True, strong=blurred if two_views else None), "broken" in case),
        test=Double(images(11, 4, shuffle=False)),
        task=Uneven() if "uneven" in case else None,
    )
    return Loop(training)


def outcome(case: str) -> Numbers:
    """Weights, buffers and reported numbers at the end."""
    return finished(loop_of(case))


def finished(loop: Loop) -> Numbers:
    """The same of a loop that is wherever it is."""
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
    return {name: torch.as_tensor(x).clone() for name, x in found.items()}


def interrupt(case: str, path: Path) -> None:
    """Train three steps, save, and forget everything."""
    loop, steps = loop_of(case), itertools.count(1)

    def after_step() -> None:
        if next(steps) == 3:
            raise KeyboardInterrupt

    try:
        list(loop.records(after_step))
    except KeyboardInterrupt:
        save_checkpoint(loop, path)


def resumed(case: str, path: Path) -> Numbers:
    """What :func:`outcome` gives, from a checkpoint on."""
    loop = loop_of(case)
    restore(loop, path)
    return finished(loop)


def refused(case: str) -> str:
    """What a loop with a broken image says when no step may be left out."""
    loop = loop_of(case)
    loop.guard.allowed = 0
    try:
        list(loop.records())
    except Diverged as error:
        return str(error)
    return ""


def table_of(folder: Path) -> tuple[Tensor, int, int]:
    """A full teacher table, how many images the teacher saw while it was filled, and how many there are to see."""

    class Counted(nn.Module):
        seen = 0

        def forward(self, x: Tensor) -> Tensor:
            self.seen += len(x)
            return net(x)

    net, source = network(1, 20).float(), images(23, 7, shift=1, flip=True)
    counted = Counted()
    table = TeacherTable(counted, source, folder, known_as=net)
    before = counted.seen
    current().everyones(fingerprint(net, source))
    table.fill()
    return table.store.rows.clone(), counted.seen - before, source.count * source.variants


def outcome_without_reduction() -> Numbers:
    """The same with the exchange of gradients left out."""

    class Silent(AllReduce):
        def start(self, stream: str, parameters: Any, grads: Any) -> Any:
            return grads

    loop = loop_of("dkd+deepkd")
    loop.stepper.reduce = Silent() if loop.stepper.reduce else None
    list(loop.records())
    return {f"weight {i}": p.detach().clone() for i, p in enumerate(loop.trained)}
