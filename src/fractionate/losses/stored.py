"""A teacher of which only the best classes are stored, and the mass of all others together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .._typing import Float, Int
from ..kernels import Group, Partition, split, top_classes, widen
from ..rows import Logits, can_look

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

    Raises:
        ValueError: shapes or dtypes do not match.

    Example:
        >>> TopLogits.of(torch.tensor([[0.1, 0.6, 0.3]]).log(), 1).rest.exp()
        tensor([0.4000])
    """

    values: Tensor
    indices: Tensor
    rest: Tensor
    temperature: float = 1.0

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
        if not self.temperature > 0:
            raise ValueError(f"TopLogits: temperature must be positive, got {self.temperature}")

    @classmethod
    def of(cls, logits: Float[Tensor, "... c"], k: int, temperature: float = 1.0) -> TopLogits:
        """The k largest of dense logits, and the rest's mass at ``temperature``.

        Args:
            logits: ``[..., c]`` raw logits.
            k: 1..c-1.
            temperature: T of the methods that will read it.
        """
        c = logits.shape[-1]
        if not 1 <= k < c:
            raise ValueError(f"TopLogits: k must lie in 1..{c - 1} for {c} classes, got {k}")
        flat = logits.detach().reshape(-1, c)
        indices = top_classes(flat, k)
        rest = _rest(flat, indices, temperature) / temperature
        rows = logits.shape[:-1]
        values = flat.gather(1, indices).reshape(*rows, k)
        return cls(values, indices.reshape(*rows, k), rest.reshape(rows), temperature)

    @classmethod
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

        The rest is a difference of masses, exact up to the rounding of ``values``; a mass that rounding leaves no room
        for becomes the smallest positive float32.

        Example:
            >>> top = TopLogits.from_total(torch.tensor([[0.6]]).log(), torch.tensor([[1]]), 0.0)
            >>> top.rest.exp()
            tensor([0.4000])
        """
        wide = widen(values) / temperature
        whole = torch.as_tensor(total, dtype=wide.dtype, device=wide.device).expand(wide.shape[:-1])
        listed = (wide - whole[..., None]).exp().sum(-1)
        return cls(values, indices, torch.log1p(-listed.clamp(max=1.0)).clamp(min=_LEAST) + whole, temperature)

    @property
    def k(self) -> int:
        """Number of stored classes."""
        return self.values.shape[-1]

    def flatten(self) -> TopLogits:
        """One row per token: values ``[n, k]``."""
        k = self.k
        values, indices = self.values.reshape(-1, k), self.indices.reshape(-1, k)
        return TopLogits(values, indices, self.rest.reshape(-1), self.temperature)

    def __getitem__(self, rows: slice | Tensor) -> TopLogits:
        """The rows that a slice, a mask or indices pick."""
        return TopLogits(self.values[rows], self.indices[rows], self.rest[rows], self.temperature)


def coarse(lg: Logits, top: TopLogits) -> Logits:
    """Student and teacher over k + 1 classes: each stored one alone, and the rest as one.

    The logit of the rest is T log sum exp(z / T), so softmax(z' / T) holds exactly the masses of the k + 1 groups at
    the stored temperature T. The ranking puts the rest last, whatever its mass: a partition by the teacher's top
    classes then lists the same classes as on dense logits. Labels are not carried over.

    What a divergence over these classes leaves out, for every group that contains the rest, is the rest's share of
    that group times the divergence inside the rest (chain rule); all else is exact.

    Args:
        lg: rows with dense student logits ``[n, c]``; the teacher in it is not read.
        top: the stored teacher of the same rows, values ``[n, k]``.

    Example:
        >>> z = torch.tensor([[0.1, 0.6, 0.3]]).log()
        >>> coarse(Logits(z, z, torch.tensor([0])), TopLogits.of(z, 1)).student.exp()
        tensor([[0.6000, 0.4000]])
    """
    indices = top.indices.long()
    _check_indices(indices, lg)
    listed = widen(lg.student.gather(1, indices))
    rest = _rest(lg.student, indices, top.temperature)
    values = top.values.to(listed.dtype)
    teacher = torch.cat([values, (top.temperature * top.rest)[:, None].to(listed.dtype)], 1)
    return Logits(
        torch.cat([listed, rest[:, None]], 1),
        teacher,
        torch.zeros_like(indices[:, 0]),
        weight=lg.weight,
        ranking=torch.cat([values, torch.full_like(values[:, :1], -torch.inf)], 1),
    )


def _rest(z: Tensor, listed: Tensor, temperature: float) -> Tensor:
    """``[n]`` T log sum exp(z / T) over the classes that are not listed, in float32 (float64 stays)."""
    # The split's fused path gives the two masses without temporaries of the size of the logits.
    masses = split(z, z.detach(), Partition((Group(listed),), z.shape[1]), temperature, "forward")[3]
    inside = (widen(z.gather(1, listed)) / temperature).logsumexp(1)
    return temperature * (inside + masses[:, 1] - masses[:, 0])


def _check_indices(indices: Tensor, lg: Logits) -> None:
    if indices.shape[0] != lg.rows or indices.shape[1] >= lg.classes:
        raise ValueError(
            f"TopLogits: expected {lg.rows} rows of fewer than {lg.classes} stored classes, got {list(indices.shape)}"
        )
    if indices.numel() and can_look(indices):
        low, high = (int(v) for v in indices.aminmax())
        if low < 0 or high >= lg.classes:
            raise ValueError(f"TopLogits: indices must lie in 0..{lg.classes - 1}, got {low}..{high}")
