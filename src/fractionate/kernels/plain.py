"""What a partition of the classes is, and the plain path: tensor operations, differentiable any number of times.

The plain path is the reference of the others, and serves what they do not: reverse KL, a learned temperature,
torch.compile and torch.func, double backward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .._typing import Bool, Float, Int


@dataclass(frozen=True, eq=False)
class Group:
    """Members of one group in every row.

    Args:
        index: ``[n, m]`` class indices.
        valid: ``[n, m]`` which entries count, for groups whose size differs from row to row; all if ``None``.
        first_counts: whether the first entry counts in every row, though others may not.
    """

    index: Int[Tensor, "n m"]
    valid: Bool[Tensor, "n m"] | None = None
    first_counts: bool = False


@dataclass(frozen=True, eq=False)
class Partition:
    """Disjoint groups of classes per row; all classes that are in none of ``groups`` form the last group.

    Args:
        groups: every group but the last (none at all: one group, the whole row).
        classes: number of classes c.
    """

    groups: tuple[Group, ...]
    classes: int

    @property
    def size(self) -> int:
        """Number of groups, the rest included."""
        return len(self.groups) + 1

    def members(self, n: int, device: torch.device) -> Bool[Tensor, "n c"]:
        """``[n, c]`` mask of the classes that are in a listed group."""
        mask = torch.zeros(n, self.classes + 1, dtype=torch.bool, device=device)
        for group in self.groups:
            # An entry that does not count is written to a column that is cut off again.
            index = group.index if group.valid is None else group.index.where(group.valid, self.classes)
            mask = mask.scatter(1, index, True)
        return mask[:, : self.classes]


KL = Literal["forward", "reverse", "both"]
KLS: tuple[KL, ...] = ("forward", "reverse", "both")
Parts = tuple[Tensor, Tensor, Tensor, Tensor]


def plain_split(
    student: Float[Tensor, "n c"],
    teacher: Float[Tensor, "n c"],
    partition: Partition,
    temperature: float | Tensor,
    kl: KL,
) -> Parts:
    """``between`` [n], ``within`` [n, g] and the log masses [n, g] of teacher and student."""
    groups = group_logs(student, teacher, partition, temperature)
    log_t, log_s = (torch.stack([g.sums[i] for g in groups], 1).log_softmax(1) for i in range(2))
    square = temperature * temperature
    within = torch.stack([_within(g, kl) for g in groups], 1)
    return square * kl_rows(log_t, log_s), square * within, log_t, log_s


def plain_gradient(student: Tensor, split: Callable[[], Parts], grads: tuple[Any, ...]) -> Tensor:
    """The student's gradient for what arrives at the outputs of a plain split, to be differentiated again."""
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        between, within, _, log_s = split()
    wanted = [(x, g) for x, g in zip((between, within, log_s), grads, strict=True) if g is not None]
    outputs, arriving = zip(*wanted, strict=True)
    return torch.autograd.grad(outputs, student, arriving, create_graph=graph)[0]


def needs_plain_gradient() -> bool:
    """Asked in a backward pass: a derivative of the gradient is wanted, or a transform of torch.func runs over it."""
    return torch.is_grad_enabled() or transformed()


def transformed() -> bool:
    """Whether a transform of torch.func (or the batched gradients of autograd) is running."""
    return getattr(torch._C, "_are_functorch_transforms_active", bool)()


def widen(x: Tensor) -> Tensor:
    """float16 and bfloat16 as float32; float32 and float64 as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class GroupLogs(NamedTuple):
    """One group, teacher first: log-softmax inside ``[n, m]``, log-sum-exp ``[n]`` relative to the row's largest logit.

    ``empty`` ``[n]`` marks rows in which the group has no class; ``None`` if there are none.
    """

    logs: tuple[Tensor, Tensor]
    sums: tuple[Tensor, Tensor]
    empty: Tensor | None


def group_logs(
    student: Float[Tensor, "n c"], teacher: Float[Tensor, "n c"], partition: Partition, temperature: float | Tensor
) -> list[GroupLogs]:
    """Every group of a partition, the rest last."""
    s, t = widen(student), widen(teacher.detach())
    shift = (t.amax(1), s.detach().amax(1))
    rest = ~partition.members(len(s), s.device) if partition.groups else None
    members = [(s.gather(1, g.index), t.gather(1, g.index), g.valid) for g in partition.groups]
    return [group_of(*each, shift, temperature) for each in (*members, (s, t, rest))]


def group_of(
    s: Float[Tensor, "n m"],
    t: Float[Tensor, "n m"],
    valid: Bool[Tensor, "n m"] | None,
    shift: tuple[Tensor, Tensor],
    temperature: float | Tensor,
) -> GroupLogs:
    """One group from its logits ``[n, m]``; ``shift`` is the largest logit of every row, teacher first."""
    if valid is None and s.shape[1] == 1:  # nothing inside, and no gradient that would only cancel in rounding
        alone_t, alone_s = ((z[:, 0] - origin) / temperature for z, origin in ((t, shift[0]), (s, shift[1])))
        return GroupLogs((torch.zeros_like(t), torch.zeros_like(s)), (alone_t, alone_s), None)
    empty = torch.zeros_like(s[:, :1], dtype=torch.bool) if valid is None else ~valid.any(1, keepdim=True)
    logs, sums = [], []
    for z, origin in ((t, shift[0]), (s, shift[1])):
        if valid is None:
            best = z.detach().amax(1, keepdim=True)
            x = (z - best) / temperature  # the maximum first: exact where T would blow it up
        else:
            # Rows without a member become rows of zeros: finite, and cut off below.
            best = z.detach().masked_fill(~valid, -torch.inf).amax(1, keepdim=True).masked_fill(empty, 0.0)
            x = ((z - best).masked_fill(~valid, 0.0) / temperature).masked_fill(~(valid | empty), -torch.inf)
        total = x.logsumexp(1, keepdim=True)
        logs.append(x - total)
        sums.append((((best - origin[:, None]) / temperature) + total)[:, 0])
    if valid is None:
        return GroupLogs((logs[0], logs[1]), (sums[0], sums[1]), None)
    gone = empty[:, 0]
    teacher, student = (x.masked_fill(gone, -torch.inf) for x in sums)
    return GroupLogs((logs[0], logs[1]), (teacher, student), gone)


def _within(group: GroupLogs, kl: KL) -> Tensor:
    value = _directed(*group.logs, kl)
    return value if group.empty is None else value.masked_fill(group.empty, 0.0)


def _directed(log_t: Tensor, log_s: Tensor, kl: KL) -> Tensor:
    if kl == "forward":
        return kl_rows(log_t, log_s)
    if kl == "reverse":
        return kl_rows(log_s, log_t)
    return (kl_rows(log_t, log_s) + kl_rows(log_s, log_t)) / 2


def kl_rows(log_p: Float[Tensor, "n m"], log_q: Float[Tensor, "n m"]) -> Float[Tensor, " n"]:
    """KL(p || q) per row from log-probabilities; entries where both are -inf contribute 0."""
    return (log_p.exp() * (log_p - log_q).masked_fill(log_p == -torch.inf, 0.0)).sum(1)
