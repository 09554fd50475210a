"""How to compute a split fast, behind one door: :func:`split` picks a path, says why, and falls back.

The plain path is ordinary tensor operations and works everywhere. Where nothing stands against it, a fused path reads
both logits once or twice and writes one gradient: compiled C kernels on a CPU, Triton kernels on CUDA, or a few rows at
a time in torch. All give the same four tensors. Nothing here knows labels, weights or methods.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .._typing import Float
from .c_library import state
from .c_split import compiled_mean, compiled_serves, compiled_split
from .directed import FORWARD, Direction, as_direction, directed_split, divergence, jsd, skew, skew_reverse
from .fused import anchored, torch_split
from .fused_directed import directed_fused, directed_serves
from .plain import KL, KLS, Group, Partition, Parts, kl_rows, plain_split, transformed, widen
from .ranking import OtherK, need_k, top_classes, top_set

__all__ = [
    "FORWARD",
    "Direction",
    "as_direction",
    "directed_split",
    "divergence",
    "jsd",
    "need_k",
    "skew",
    "skew_reverse",
    "KL",
    "KLS",
    "Group",
    "OtherK",
    "Parts",
    "Partition",
    "has_split_mean",
    "kl_rows",
    "split",
    "split_mean",
    "state",
    "top_classes",
    "top_set",
    "why_not_fused",
    "why_plain",
    "widen",
]


def split(
    student: Float[Tensor, "n c"],
    teacher: Float[Tensor, "n c"],
    partition: Partition,
    temperature: float | Tensor,
    kl: KL,
    fused: bool | None = None,
    direction: Direction = FORWARD,
) -> Parts:
    """``between`` [n], ``within`` [n, g] and the log masses [n, g] of teacher and student, by the fastest path.

    Args:
        student, teacher, partition, temperature, kl, fused, direction: as in :func:`fractionate.split_kl`.

    Raises:
        ValueError: ``fused=True`` where only the plain path works; the message says why.
    """
    reason = why_plain(temperature, kl)
    compiled = not reason and compiled_serves(student, teacher)
    if not reason and not compiled:
        reason = _why_not_torch(student, partition, direction)
    if fused and reason:
        raise ValueError(f"split_kl: the fused path cannot be used here: {reason}")
    if fused is False or reason:
        if direction != FORWARD:
            return directed_split(student, teacher, partition, temperature, direction)
        return plain_split(student, teacher, partition, temperature, kl)
    if compiled:
        return compiled_split(student, teacher, partition, float(temperature), direction)
    if direction != FORWARD:
        return directed_fused(student, teacher, partition, float(temperature), direction)
    return torch_split(student, teacher, partition, float(temperature))


def why_not_fused(
    student: Tensor,
    teacher: Tensor,
    partition: Partition,
    temperature: float | Tensor,
    kl: KL,
    direction: Direction = FORWARD,
) -> str | None:
    """The reason why only the plain path can be used; ``None`` if the fused one can."""
    reason = why_plain(temperature, kl)
    if reason or compiled_serves(student, teacher):
        return reason
    return _why_not_torch(student, partition, direction)


def _why_not_torch(student: Tensor, partition: Partition, direction: Direction) -> str | None:
    """The same where there are no compiled kernels for the logits."""
    if partition.groups and not anchored(partition.groups[0]):
        return "the first entry of the first group must count in every row"
    if sum(group.index.shape[1] for group in partition.groups) >= student.shape[1]:
        return "the listed groups may leave no class for the rest"
    if direction != FORWARD and not directed_serves(student, partition):
        return f"without compiled kernels (not for float64) it computes forward KL, not {direction}"
    return None


def why_plain(temperature: float | Tensor, kl: KL) -> str | None:
    """The reason why only the plain path can be used, whatever the logits and the partition."""
    if kl != "forward":
        return f"it computes forward KL, not {kl!r}"
    if isinstance(temperature, Tensor):
        return "a tensor temperature may need a gradient"
    if torch.compiler.is_compiling():
        return "torch.compile fuses the plain path itself"
    if transformed():
        return "torch.func transforms need the plain path"
    return None


def has_split_mean(student: Tensor, teacher: Tensor, temperature: float | Tensor, kl: KL = "forward") -> bool:
    """Whether :func:`split_mean` works here: a CPU, compiled kernels, one direction of all, no transform around it.

    float16 is left out because the gradient is written before a loss scale can reach it; bfloat16 needs no scale.
    """
    wide = student.dtype in (torch.float32, torch.bfloat16)
    return not why_plain(temperature, kl) and wide and compiled_serves(student, teacher)


def split_mean(
    student: Float[Tensor, "n c"],
    teacher: Float[Tensor, "n c"],
    partition: Partition,
    temperature: float,
    weights: tuple[float, ...],
    direction: Direction = FORWARD,
) -> Float[Tensor, ""]:
    """Mean over the rows of w_0 between + sum_g w_(g+1) within_g, value and gradient from one look at the logits.

    The mean is the exception to "a loss returns one value per row": as it is known what arrives at every row, the
    forward pass can write the gradient while the row is in the cache. Equals the mean of :func:`split`.

    Args:
        student, teacher, partition, temperature, direction: as in :func:`split`; only where :func:`has_split_mean`.
        weights: of ``between`` and of every group's ``within``.
    """
    return compiled_mean(student, teacher, partition, temperature, weights, direction)
