"""Loss and gradient with respect to the student's logits: the package against the operations of published code.

Run ``python -m benchmarks.losses [--device cuda]``; memory is what autograd keeps between forward and backward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from tests.reference import published_operations as published
from torch import Tensor

import fractionate as fr

from .measure import agree, interleave, saved_bytes
from .record import append, parser, prepare, rows, show

T, K = 4.0, 5
SIZES = ((64, 100), (512, 100), (256, 1000), (64, 32000))
TOY = ((8, 10),)
OURS, THEIRS = "fractionate", "published operations"
Terms = Callable[[fr.Logits], Mapping[str, Tensor]]

METHODS: dict[str, tuple[fr.Method, Terms]] = {
    "kd": (fr.methods.kd(temperature=T), lambda lg: published.kd(lg.student, lg.teacher, T)),
    "dkd": (fr.methods.dkd(temperature=T), lambda lg: published.dkd(lg.student, lg.teacher, lg.target, T)),
    "gdkd": (fr.methods.gdkd(temperature=T, k=K), lambda lg: published.gdkd(lg.student, lg.teacher, K, T)),
}


def rows_of(n: int, classes: int, device: torch.device, dtype: torch.dtype = torch.float32) -> fr.Logits:
    """Random logits; the student's are a leaf."""
    student, teacher = ((s * torch.randn(n, classes)).to(device, dtype) for s in (2, 4))
    return fr.Logits(student.requires_grad_(), teacher, torch.randint(classes, (n,)).to(device))


def contenders(name: str, lg: fr.Logits) -> dict[str, Callable[[], Tensor]]:
    """The distillation terms with the weights of the method, averaged; labels take no part."""
    method, terms = METHODS[name]
    distillation = fr.only(method, [c for c in method.parts if c != "task"])
    progress = fr.Progress(epoch=3)
    weights = {c: part.weight(progress) for c, part in distillation.parts.items()}

    def theirs() -> Tensor:
        return torch.stack([weights[c] * x.mean() for c, x in terms(lg).items()]).sum()

    return {OURS: lambda: distillation.loss(lg, progress), THEIRS: theirs}


def gradient(loss: Callable[[], Tensor], lg: fr.Logits) -> list[Tensor]:
    """Forward and backward down to the student's logits."""
    return list(torch.autograd.grad(loss(), lg.student))


def check(name: str, classes: int, device: torch.device) -> None:
    """Both give the same gradient, in float64 on four rows."""
    lg = rows_of(4, classes, device, torch.float64)
    made = contenders(name, lg)
    agree(gradient(made[OURS], lg), gradient(made[THEIRS], lg), name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, append to the CSV."""
    options = parser("losses", __doc__.splitlines()[0], rounds=51).parse_args(arguments)
    device = prepare(options)
    rounds, sizes = (2, TOY) if options.toy else (options.rounds, SIZES)
    for n, classes in sizes:
        lg = rows_of(n, classes, device)
        for name in METHODS:
            check(name, classes, device)
            made = contenders(name, lg)
            works = {who: partial(gradient, loss, lg) for who, loss in made.items()}
            seconds = interleave(works, rounds, device)
            saved = {who: saved_bytes(loss) for who, loss in made.items()}
            found = rows(f"{name}, {n} x {classes}, {device.type}", seconds, THEIRS, saved)
            show(found)
            append(found, options.csv, device)


if __name__ == "__main__":
    main()
