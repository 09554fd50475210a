"""Random subsets of the classes, as pure functions of a seed and of the position in training.

No generator lives between the steps: every draw starts a ``torch.Generator`` of its own from (seed, epoch, step), so a
resumed run draws what the uninterrupted one would have drawn, and looking twice at a step gives the same subset.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .._typing import Bool, Float
from ..rows import Logits, Progress
from .partition import Group, Partition


# An operator of its own, because torch.compile cannot create a generator inside a compiled function; the position is
# made of SymInts, so that another step does not compile again.
@torch.library.custom_op(
    "fractionate::uniform", mutates_args=(), schema="(Tensor like, SymInt seed, SymInt epoch, SymInt step) -> Tensor"
)
def _uniform(like: Tensor, seed: int, epoch: int, step: int) -> Tensor:
    mixed = ((seed * 1_000_003 + epoch) * 1_000_003 + step) % 2**63
    generator = torch.Generator(device=like.device).manual_seed(mixed)
    return torch.rand(like.shape, generator=generator, device=like.device, dtype=torch.float32)


@_uniform.register_fake
def _(like: Tensor, seed: int, epoch: int, step: int) -> Tensor:
    return torch.empty(like.shape, device=like.device, dtype=torch.float32)


def draws(lg: Logits, seed: int, progress: Progress) -> Float[Tensor, "n c"]:
    """One uniform number per row and class; the same for the same seed, epoch and step.

    Example:
        >>> lg = Logits(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0, 1]))
        >>> bool((draws(lg, 0, Progress(step=7)) == draws(lg, 0, Progress(step=7))).all())
        True
    """
    return _uniform(lg.teacher, seed, progress.epoch, progress.step)


def by_target_random(lg: Logits, eta: float, seed: int, progress: Progress) -> Partition:
    """{label}, {random non-targets}, {rest}: every non-target joins with probability eta.

    At least one non-target stays in the rest: if all would join, the one drawn last stays.

    Args:
        lg: rows.
        eta: probability of joining, in [0, 1].
        seed: of the draw.
        progress: position in training; another step draws another group.

    Source: ZaberKo/GDKD (SGDKD).
    """
    label = lg.labels[:, None]
    u = draws(lg, seed, progress).scatter(1, label, -1.0)
    joins = (u < eta).scatter(1, u.argmax(1, keepdim=True), False).scatter(1, label, False)
    every = torch.arange(lg.classes, device=joins.device).expand(lg.rows, -1)
    return Partition((Group(label), Group(every, joins)), lg.classes)


def random_classes(lg: Logits, eta: float, seed: int, progress: Progress) -> Bool[Tensor, "n c"]:
    """Random classes: every class joins with probability eta; there may be none.

    Args:
        lg, eta, seed, progress: as in :func:`by_target_random`.

    Source: ZaberKo/GDKD (SKD).
    """
    return draws(lg, seed, progress) < eta
