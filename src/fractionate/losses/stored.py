"""A teacher of which only the best classes are stored, and the mass of all others together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .._spoken import spoken
from .._typing import Float, Int
from ..kernels import Group, Partition, split, top_classes, widen
from ..rows import Logits, can_look
from ..rows.checks import check_tensor
from .stored_checks import check_drawn, check_indices, check_top, check_total

_LEAST = math.log(torch.finfo(torch.float32).tiny)


@dataclass(frozen=True, eq=False)
class TopLogits:
    """A teacher's k best classes per row and the mass of the rest: what fits on a disk for a vocabulary.

    Args:
        values: ``[..., k]`` logits or log-probabilities of the stored classes, the k largest of their row, any
            floating dtype.
        indices: ``[..., k]`` their classes.
        rest: ``[...]`` log-sum-exp of all other classes, log sum_i exp(z_i / T), on the scale of ``values``.
        temperature: T of ``rest``. The mass of the rest at another temperature cannot be computed from it, so a
            method must have this one.
        best: how many of the stored classes are the largest of their row; all if ``None``.

    Raises:
        ValueError: shapes or dtypes do not match, or a number out of range; where rows are compared also a class that
            is there twice or a number that is not finite. Probabilities in the place of logarithms give a warning.

    Example:
        >>> TopLogits.of(torch.tensor([[0.1, 0.6, 0.3]]).log(), 1).rest.exp()
        tensor([0.4000])
    """

    values: Tensor
    indices: Tensor
    rest: Tensor
    temperature: float = 1.0
    best: int | None = None

    @spoken
    def __post_init__(self) -> None:
        if not self.values.ndim or self.values.shape != self.indices.shape or self.values.shape[:-1] != self.rest.shape:
            raise ValueError(
                f"TopLogits: expected values [..., k], indices [..., k] and rest [...], got {list(self.values.shape)}, "
                f"{list(self.indices.shape)}, {list(self.rest.shape)}"
            )
        if self.indices.dtype not in (torch.int32, torch.int64) or not self.values.is_floating_point():
            raise ValueError(
                f"TopLogits: values are floating and indices int32 or int64, got {self.values.dtype} and "
                f"{self.indices.dtype}"
            )
        if not self.rest.is_floating_point():
            raise ValueError(f"TopLogits: rest is floating, a log-sum-exp, got {self.rest.dtype}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"TopLogits: temperature must be positive and finite, got {self.temperature}")
        if self.best is not None and not 1 <= self.best <= self.values.shape[-1]:
            raise ValueError(
                f"TopLogits: best must be one of the {self.values.shape[-1]} stored classes, from 1, got {self.best}"
            )

    @classmethod
    @spoken
    def of(
        cls, logits: Float[Tensor, "... c"], k: int, temperature: float = 1.0, labels: Int[Tensor, ...] | None = None
    ) -> TopLogits:
        """The k largest of dense logits, and the rest's mass at ``temperature``.

        Args:
            logits: ``[..., c]`` raw logits.
            k: 1..c-1.
            temperature: T of the methods that will read it.
            labels: ``[...]`` if given, one class more is stored: the label, or the next best class where the label is
                among the k best or negative (ignored). Methods that list the label need it.

        Example:
            >>> TopLogits.of(torch.tensor([[3.0, 2.0, 1.0, 0.0]]), 1, labels=torch.tensor([3])).indices
            tensor([[0, 3]])
        """
        c, rows = logits.shape[-1], logits.shape[:-1]
        more = k if labels is None else k + 1
        if not 1 <= k <= more < c:
            raise ValueError(f"TopLogits: k must lie in 1..{c - 1 - (more - k)} for {c} classes, got {k}")
        flat = logits.detach().reshape(-1, c)
        indices = top_classes(flat, more)
        if labels is not None:
            label = labels.reshape(-1, 1)
            there = (indices[:, :k] == label).any(1, keepdim=True) | (label < 0)
            indices = torch.cat([indices[:, :k], torch.where(there, indices[:, k:], label)], 1)
        rest = _rest(flat, indices, temperature) / temperature
        values, indices = (x.reshape(*rows, more) for x in (flat.gather(1, indices), indices))
        return cls(values, indices, rest.reshape(rows), temperature, None if labels is None else k)

    @classmethod
    @spoken
    def from_total(
        cls,
        values: Float[Tensor, "... k"],
        indices: Int[Tensor, "... k"],
        total: Tensor | float,
        temperature: float = 1.0,
    ) -> TopLogits:
        """From the log-sum-exp over all classes, stored ones included.

        Args:
            values, indices, temperature: as in the class.
            total: ``[...]`` log sum_i exp(z_i / T) over all classes; 0 if ``values`` are log-probabilities and T = 1.

        Raises:
            ValueError: a total below the mass of the stored classes.

        The rest is a difference of masses, exact up to the rounding of ``values``; a mass that rounding leaves no room
        for becomes the smallest positive float32.

        Example:
            >>> top = TopLogits.from_total(torch.tensor([[0.6]]).log(), torch.tensor([[1]]), 0.0)
            >>> top.rest.exp()
            tensor([0.4000])
        """
        check_tensor("TopLogits.from_total", "values", values)
        wide = widen(values) / temperature
        whole = torch.as_tensor(total, dtype=wide.dtype, device=wide.device).expand(wide.shape[:-1])
        listed = (wide - whole[..., None]).exp().sum(-1)
        check_total(listed)
        return cls(values, indices, torch.log1p(-listed.clamp(max=1.0)).clamp(min=_LEAST) + whole, temperature)

    @property
    def k(self) -> int:
        """Number of stored classes."""
        return self.values.shape[-1]

    def flatten(self) -> TopLogits:
        """One row per token: values ``[n, k]``."""
        k = self.k
        values, indices = self.values.reshape(-1, k), self.indices.reshape(-1, k)
        return TopLogits(values, indices, self.rest.reshape(-1), self.temperature, self.best)

    def __getitem__(self, rows: slice | Tensor) -> TopLogits:
        """The rows that a slice, a mask or indices pick."""
        return TopLogits(self.values[rows], self.indices[rows], self.rest[rows], self.temperature, self.best)


@spoken
def coarse(lg: Logits, top: TopLogits, *, label: bool = False) -> Logits:
    """Student and teacher over k + 1 classes: each stored one alone, and the rest as one.

    The logit of the rest is T log sum exp(z / T), so softmax(z' / T) holds exactly the masses of the k + 1 groups at
    the stored temperature T. The ranking puts the rest last, whatever its mass: a partition by the teacher's top
    classes then lists the same classes as on dense logits. Labels are carried over only if asked for.

    What a divergence over these classes leaves out, for every group that contains the rest, is the rest's share of
    that group times the divergence inside the rest (chain rule); all else is exact.

    Args:
        lg: rows with dense student logits ``[n, c]``; the teacher in it is not read.
        top: the stored teacher of the same rows, values ``[n, k]``.
        label: whether the label's place among the stored classes is needed; a row whose label is not stored is refused,
            and where values must not be read (CUDA) its teacher becomes NaN.

    Raises:
        ValueError: rows or classes that do not fit, or a label that is not stored.

    Example:
        >>> z = torch.tensor([[0.1, 0.6, 0.3]]).log()
        >>> coarse(Logits(z, z, torch.tensor([0])), TopLogits.of(z, 1)).student.exp()
        tensor([[0.6000, 0.4000]])
    """
    indices = top.indices.long()
    check_indices(indices, lg)
    check_top(top.values, indices, top.rest)
    listed = widen(lg.student.gather(1, indices))
    rest = _rest(lg.student, indices, top.temperature)
    values = top.values.to(listed.dtype)
    teacher = torch.cat([values, (top.temperature * top.rest)[:, None].to(listed.dtype)], 1)
    target = torch.zeros_like(indices[:, 0])
    if label:
        place = indices == lg.labels[:, None]
        there = place.any(1, keepdim=True)
        if can_look(there) and not bool(there.all()):
            raise ValueError(
                f"TopLogits: the label of {int((~there).sum())} of {lg.rows} rows is not stored; store it with "
                f"TopLogits.of(logits, k, labels=labels), or take a method that lists the teacher's best classes"
            )
        target, teacher = place.int().argmax(1), teacher.masked_fill(~there, torch.nan)
    return Logits(
        torch.cat([listed, rest[:, None]], 1),
        teacher,
        target,
        weight=lg.weight,
        ranking=torch.cat([values, torch.full_like(values[:, :1], -torch.inf)], 1),
    )


def _rest(z: Tensor, listed: Tensor, temperature: float) -> Tensor:
    """``[n]`` T log sum exp(z / T) over the classes that are not listed, in float32 (float64 stays)."""
    # The split's fused path gives the two masses without temporaries of the size of the logits.
    masses = split(z, z.detach(), Partition((Group(listed),), z.shape[1]), temperature, "forward")[3]
    inside = (widen(z.gather(1, listed)) / temperature).logsumexp(1)
    return temperature * (inside + masses[:, 1] - masses[:, 0])


@dataclass(frozen=True, eq=False)
class SampledLogits:
    """A teacher of which m classes per row were drawn at random: any number of classes gives KD without a bias.

    Args:
        indices: ``[..., m]`` the classes drawn, which may repeat.
        log_probs: ``[..., m]`` the teacher's log-probabilities of them, at ``temperature``.
        weights: ``[..., m]`` weights whose sums over the draws are the teacher's sums on average:
            E sum_j w_j f(i_j) = sum_c p_c f(c).
        temperature: T of both, and of the method that reads it.

    Source: arXiv 2503.16870 (random sampling KD); a list of the best classes alone is biased.

    Example:
        >>> drawn = SampledLogits.of(torch.tensor([[0.0, 50.0, 0.0]]), 2)
        >>> drawn.indices, drawn.weights
        (tensor([[1, 1]]), tensor([[0.5000, 0.5000]]))
    """

    indices: Tensor
    log_probs: Tensor
    weights: Tensor
    temperature: float = 1.0

    @spoken
    def __post_init__(self) -> None:
        shapes = [list(x.shape) for x in (self.indices, self.log_probs, self.weights)]
        if shapes[0] != shapes[1] or shapes[0] != shapes[2] or not shapes[0]:
            raise ValueError(f"SampledLogits: indices, log_probs and weights are all [..., m], got {shapes}")
        if self.indices.dtype not in (torch.int32, torch.int64):
            raise ValueError(f"SampledLogits: indices are int32 or int64, got {self.indices.dtype}")

    @classmethod
    @spoken
    def of(
        cls,
        logits: Float[Tensor, "... c"],
        m: int,
        temperature: float = 1.0,
        *,
        power: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> SampledLogits:
        """m draws from softmax(power z / T), with replacement; w = p / (m q), q being what is drawn from.

        Args:
            logits: ``[..., c]`` raw logits.
            m: draws per row.
            temperature: T.
            power: below 1 rare classes are drawn more often and weigh less.
            generator: of the draws.
        """
        x = widen(logits.detach()).reshape(-1, logits.shape[-1]) / temperature
        log_p, log_q = x.log_softmax(1), (power * x).log_softmax(1)
        indices = log_q.exp().multinomial(m, replacement=True, generator=generator)
        log_probs = log_p.gather(1, indices)
        weights = (log_probs - log_q.gather(1, indices)).exp() / m
        shape = (*logits.shape[:-1], m)
        return cls(indices.view(shape), log_probs.view(shape), weights.view(shape), temperature)

    def flatten(self) -> SampledLogits:
        """One row per token: ``[n, m]``."""
        m = self.indices.shape[-1]
        indices, log_probs, weights = (x.reshape(-1, m) for x in (self.indices, self.log_probs, self.weights))
        return SampledLogits(indices, log_probs, weights, self.temperature)

    def __getitem__(self, rows: slice | Tensor) -> SampledLogits:
        """The rows that a slice, a mask or indices pick."""
        return SampledLogits(self.indices[rows], self.log_probs[rows], self.weights[rows], self.temperature)


@spoken
def sampled_kl(student: Float[Tensor, "n c"], drawn: SampledLogits) -> Float[Tensor, " n"]:
    """T^2 sum_j w_j (log p^T - log p^S) of the classes drawn: on average T^2 KL(p^T || p^S), and its gradient.

    A single row can be negative.

    Args:
        student: ``[n, c]`` raw logits.
        drawn: a teacher of the same rows.

    Example:
        >>> z = torch.tensor([[1.0, 0.0, 2.0]])
        >>> bool(sampled_kl(z, SampledLogits.of(z, 4)).abs() < 1e-6)
        True
    """
    check_drawn(drawn.indices, drawn.log_probs, drawn.weights, student.shape[1])
    z = widen(student)
    x = z.gather(1, drawn.indices.long()) / drawn.temperature - (z / drawn.temperature).logsumexp(1, keepdim=True)
    log_p, weights = (y.to(x.dtype) for y in (drawn.log_probs, drawn.weights))
    return drawn.temperature**2 * (weights * (log_p - x)).sum(1)
