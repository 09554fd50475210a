"""What must hold of a teacher that was stored or drawn, said in words where it does not (values on a CPU only)."""

from __future__ import annotations

import warnings

from torch import Tensor

from ..rows import Logits, can_look

MOST = 1.3  # of the mass of all: numbers may have been stored in half precision


def check_classes(who: str, indices: Tensor, classes: int) -> None:
    """Stored or drawn classes are classes of the student."""
    if indices.numel() and can_look(indices):
        low, high = (int(v) for v in indices.aminmax())
        if low < 0 or high >= classes:
            raise ValueError(f"{who}: indices must lie in 0..{classes - 1}, got {low}..{high}")


def check_indices(indices: Tensor, lg: Logits) -> None:
    """As many rows of stored classes as there are rows, and not all classes in them."""
    if indices.shape[0] != lg.rows or indices.shape[1] >= lg.classes:
        raise ValueError(
            f"TopLogits: expected {lg.rows} rows of fewer than {lg.classes} stored classes, got {list(indices.shape)}"
        )
    check_classes("TopLogits", indices, lg.classes)


def check_top(values: Tensor, indices: Tensor, rest: Tensor) -> None:
    """Rows ``[n, k]`` of stored classes: finite, no class twice, and logarithms rather than probabilities.

    Raises:
        ValueError: naming the argument and the row.

    Warns:
        UserWarning: ``values`` or ``rest`` are probabilities: with the other they add up to 1 in every row.
    """
    if not len(indices) or not can_look(indices):
        return
    values, rest = values.detach(), rest.detach()
    for wrong, found in (
        ((values.isnan() | values.isposinf()).any(1), "values hold a number that is not finite"),
        (~rest.isfinite(), "rest is not finite (where nothing is left, from_total gives the least mass)"),
        ((indices.sort(1).values.diff(dim=1) == 0).any(1), "indices hold a class twice, which would count twice"),
    ):
        if bool(wrong.any()):
            raise ValueError(f"TopLogits: in row {int(wrong.nonzero()[0, 0])} {found}")
    wide, mass = values.double(), rest.double()
    if bool((wide >= 0).all()) and (_whole(wide.sum(1) + mass.exp()) or _whole(wide.sum(1) + mass)):
        _warn("values", "values.log()")
    elif bool(((mass > 0) & (mass < 1)).all()) and _whole(wide.exp().sum(1) + mass):
        _warn("rest", "rest.log()")


def check_total(listed: Tensor) -> None:
    """``[...]`` stored masses as shares of all: at most everything, up to the rounding of the stored numbers.

    Raises:
        ValueError: more than everything.
    """
    if listed.numel() and can_look(listed) and not float(listed.detach().amax()) <= MOST:
        raise ValueError(
            f"TopLogits.from_total: the stored classes have {float(listed.detach().amax()):.4g} times the mass of all "
            f"together; total is log sum exp(z / T) over all classes, and values are logits or log-probabilities"
        )


def check_drawn(indices: Tensor, log_probs: Tensor, weights: Tensor, classes: int) -> None:
    """Rows ``[n, m]`` of drawn classes: log-probabilities, and weights of a mean.

    Raises:
        ValueError: naming the argument.
    """
    check_classes("SampledLogits", indices, classes)
    if not log_probs.numel() or not can_look(log_probs):
        return
    if not float(log_probs.detach().amax()) <= 1e-2:  # False for a NaN too
        raise ValueError("SampledLogits: log_probs must be log-probabilities, at most 0 and no NaN; give probs.log()")
    if not 0 <= float(weights.detach().amin()) <= float(weights.detach().amax()) < float("inf"):
        raise ValueError("SampledLogits: weights must be finite and not negative")


def _whole(mass: Tensor) -> bool:
    return bool(((mass - 1).abs() < 1e-3).all())


def _warn(name: str, remedy: str) -> None:
    warnings.warn(
        f"TopLogits: {name} holds probabilities (with the others they sum to 1 in every row), where logarithms "
        f"are expected; give {remedy}",
        UserWarning,
        stacklevel=4,
    )
