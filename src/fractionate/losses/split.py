"""The chain rule over a partition: one function carries KD, DKD, GDKD, GDKD3, Grouped KD and DeepKD's mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .._choices import choose
from .._spoken import spoken
from .._typing import Float
from ..kernels import FORWARD, KL, KLS, Direction, Partition, as_direction, divergence, kl_rows, split, widen

__all__ = ["KL", "KLS", "Split", "split_kl", "widen"]


@dataclass(frozen=True, eq=False)
class Split:
    """A divergence of teacher and student, KL(teacher || student) unless told otherwise, split along a partition.

    Args:
        between: ``[n]`` T^2 KL of the group masses.
        within: ``[n, g]`` T^2 KL inside each group.
        mass: ``[n, g]`` the mass of each group (no T^2): the teacher's; of reverse KL the student's, with its graph.
        log_mass: ``[n, g]`` log masses of the teacher and of the student, -inf for an empty group.
        temperature: T.
        kl: direction inside the groups alone.
        direction: of the whole split.

    The chain rule: ``between + (mass * within).sum(1)`` is T^2 KL(teacher || student), plain KD, and with
    ``direction="reverse"`` T^2 KL(student || teacher). Against a mixture (jsd, skew) ``within`` holds its masses
    already: ``between + within.sum(1)``.
    """

    between: Float[Tensor, " n"]
    within: Float[Tensor, "n g"]
    mass: Float[Tensor, "n g"]
    log_mass: tuple[Float[Tensor, "n g"], Float[Tensor, "n g"]]
    temperature: float | Tensor
    kl: KL = "forward"
    direction: Direction = FORWARD

    @property
    def total(self) -> Float[Tensor, " n"]:
        """``[n]`` T^2 times the divergence over all classes, by the chain rule."""
        return self.between + (self.within if self.direction.mixed else self.mass * self.within).sum(1)

    def coarsen(self, groups: Sequence[Sequence[int]]) -> Split:
        """The split along merged groups, from the same pass over the logits.

        Args:
            groups: for every new group the old ones it is made of, for example ``[[0], [1, 2]]``.

        Raises:
            ValueError: the old groups are not all used exactly once, only the KL inside them was turned, or the split
                is against a mixture, whose weights inside a merged group differ.
        """
        if self.kl != "forward" or self.direction.mixed:
            turned = self.direction if self.direction.mixed else repr(self.kl)
            raise ValueError(
                f"coarsen: the chain rule needs forward KL or reverse of all of it, this split is {turned}"
            )
        between, log_mass = self.between_merged(groups)
        reverse = self.direction.name == "reverse"
        first, second = reversed(self.log_mass) if reverse else self.log_mass
        inner = self.within
        within = [
            _mixture(_columns(first, i), _columns(second, i), _columns(inner, i), self.temperature) for i in groups
        ]
        mass = log_mass[1 if reverse else 0].exp()
        return Split(between, torch.stack(within, 1), mass, log_mass, self.temperature, direction=self.direction)

    def between_merged(self, groups: Sequence[Sequence[int]]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """``between`` [n] and the log masses [n, g'] of merged groups, in the direction of the split.

        Args:
            groups: as in :meth:`coarsen`.
        """
        g = self.mass.shape[1]
        if sorted(i for group in groups for i in group) != list(range(g)) or not all(groups):
            raise ValueError(f"coarsen: every group 0..{g - 1} must appear exactly once, got {groups}")
        log_t, log_s = (torch.stack([_merged(_columns(x, i)) for i in groups], 1) for x in self.log_mass)
        return self.temperature**2 * divergence(log_t, log_s, self.direction), (log_t, log_s)


@spoken
def split_kl(
    student: Float[Tensor, "n c"],
    teacher: Float[Tensor, "n c"],
    partition: Partition,
    temperature: float | Tensor = 1.0,
    kl: KL = "forward",
    *,
    fused: bool | None = None,
    direction: Direction | str = FORWARD,
) -> Split:
    """Split KL(softmax(teacher / T) || softmax(student / T)) along a partition of the classes.

    KL(p || q) = KL(b^T || b^S) + sum_g b_g^T KL(inside g), with b the group masses; ``between`` and ``within``
    carry the factor T^2. Every logarithm of a mass is a difference of log-sum-exps, each taken relative to the
    largest logit of its own group, so values and gradients are finite for every finite logit.

    Args:
        student: ``[n, c]`` raw logits; float16 and bfloat16 are computed in float32.
        teacher: ``[n, c]`` raw logits, without gradient.
        partition: groups per row, from ``by_target``, ``by_top``, ...
        temperature: T > 0, a number or a scalar tensor (which then receives a gradient).
        kl: direction of the KL inside the groups: ``"forward"`` (teacher first), ``"reverse"`` or their mean,
            ``"both"``; between groups it is always forward.
        fused: ``None`` takes the fused path (two reads and one write of the logits, temporaries of a few rows) where
            it can be used; ``True`` insists on it; ``False`` takes the plain path.
        direction: of the whole split: ``"forward"``, ``"reverse"``, ``fr.jsd(beta)``, ``fr.skew(lam)`` or
            ``fr.skew_reverse(lam)``, also as text, ``"jsd(beta=0.5)"``; not together with ``kl``.

    Returns:
        A :class:`Split`. An empty group contributes 0, a group of one class has ``within`` 0.

    Raises:
        ValueError: a class count that is not the partition's, T <= 0, an unknown direction, or ``fused=True`` where
            only the plain path works (the message says why).

    Source: the chain rule of KL; as a distillation loss arXiv 2203.08679 (two groups), 2512.04625.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[3.0, 0.0, 1.0]]), torch.tensor([0]))
        >>> s = fr.split_kl(lg.student, lg.teacher, fr.by_target(lg), temperature=4.0)
        >>> kd = torch.nn.functional.kl_div((lg.student / 4).log_softmax(1), (lg.teacher / 4).softmax(1),
        ...                                 reduction="sum") * 16
        >>> bool(torch.isclose(s.total[0], kd))
        True
    """
    if kl not in KLS:
        choose("kl direction", kl, KLS)
    whole = direction if isinstance(direction, Direction) else as_direction(direction)
    if whole != FORWARD and kl != "forward":
        raise ValueError(f"split_kl: kl={kl!r} turns the KL inside the groups, direction={whole} all of it; give one")
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ValueError(f"split_kl: temperature must be positive, got {temperature}")
    if student.shape != teacher.shape or student.shape[1] != partition.classes:
        raise ValueError(
            f"split_kl: student {list(student.shape)} and teacher {list(teacher.shape)} must be "
            f"[n, {partition.classes}], the classes of the partition"
        )
    for group in partition.groups:
        if len(group.index) != len(student):
            raise ValueError(
                f"split_kl: the partition groups the classes of {len(group.index)} rows, and the logits have "
                f"{len(student)}; make it from the same Logits"
            )
    between, within, log_t, log_s = split(student, teacher, partition, temperature, kl, fused, whole)
    mass = (log_s if whole.name == "reverse" else log_t).exp()
    return Split(between, within, mass, (log_t, log_s), temperature, kl, whole)


def _columns(x: Float[Tensor, "n g"], group: Sequence[int]) -> Float[Tensor, "n m"]:
    """Some columns; an index made of a list would be sent to a GPU, which waits for it."""
    return torch.stack([x[:, i] for i in group], 1)


def _merged(log_mass: Tensor) -> Tensor:
    """``[n]`` log of the summed masses; -inf where all are empty."""
    empty = (log_mass == -torch.inf).all(1, keepdim=True)
    return log_mass.masked_fill(empty, 0.0).logsumexp(1).masked_fill(empty[:, 0], -torch.inf)


def _mixture(log_t: Tensor, log_s: Tensor, within: Tensor, temperature: float | Tensor) -> Tensor:
    """``[n]`` KL inside one merged group, by the chain rule; 0 where it is empty."""
    empty = (log_t == -torch.inf).all(1, keepdim=True)
    share_t, share_s = (x.masked_fill(empty, 0.0).log_softmax(1) for x in (log_t, log_s))
    inner = temperature**2 * kl_rows(share_t, share_s) + (share_t.exp() * within).sum(1)
    return inner.masked_fill(empty[:, 0], 0.0)
