"""What a teacher of a language model may be: logits, hidden states, stored or drawn classes; and what a loss reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from .._spoken import spoken
from ..kernels import widen
from ..losses import SampledLogits, TopLogits, coarse, sampled_kl
from ..methods.arguments import Call
from ..methods.method import Method
from ..methods.terms import Components, Terms, around
from ..rows import Logits, Progress
from ..rows.checks import check_tensor

# Methods whose terms are forms of one partition into the label or the teacher's best classes and the rest, at one
# temperature, and the number of best classes they list; wrappers that leave the terms as they are.
_LISTED = {"kd": None, "dkd": None, "drkl": None, "dkd_top1": None, "gdkd": "k", "gdkd3": "k"}
_WRAPPERS = ("dot", "deepkd", "only", "resplit")


@dataclass(frozen=True)
class Head:
    """What follows the output matrix: ``cap tanh(scale z / cap)``, over the first classes only.

    Args:
        softcap: cap of the logits (Gemma's ``final_logit_softcapping``); none if ``None``.
        logit_scale: factor of the logits (Cohere's ``logit_scale``; Granite's ``logits_scaling`` is its inverse).
        vocabulary: number of classes that count; all if ``None``.
    """

    softcap: float | None = None
    logit_scale: float = 1.0
    vocabulary: int | None = None

    @spoken
    def __post_init__(self) -> None:
        for name, value in (("softcap", self.softcap), ("logit_scale", self.logit_scale)):
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"linear loss: {name} must be positive, got {value}")

    def __call__(self, logits: Tensor) -> Tensor:
        """The logits as the model gives them, in float32 where they change (float64 stays)."""
        if self.softcap is not None:
            return self.softcap * torch.tanh(widen(logits) * (self.logit_scale / self.softcap))
        return logits if self.logit_scale == 1 else widen(logits) * self.logit_scale

    def cut(self, where: str, matrix: Tensor, dim: int = 0) -> Tensor:
        """The classes that count, of a matrix, a bias or logits."""
        if self.vocabulary is None:
            return matrix
        if not 1 <= self.vocabulary <= matrix.shape[dim]:
            raise ValueError(
                f"linear loss: vocabulary={self.vocabulary} must lie in 1..{matrix.shape[dim]}, {where} classes"
            )
        return matrix.narrow(dim, 0, self.vocabulary)


@dataclass(frozen=True, eq=False)
class LinearLogits:
    """A teacher's logits as its hidden states and output matrix, multiplied chunk by chunk when they are needed.

    Args:
        hidden: ``[..., d]`` last hidden states, after the final norm.
        weight: ``[c, d]`` output matrix; d is the teacher's own.
        bias: ``[c]`` or ``None``.
        softcap: the teacher's own cap of the logits, cap tanh(z / cap).
        logit_scale: the teacher's own factor of the logits, before the cap.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None = None
    softcap: float | None = None
    logit_scale: float = 1.0

    def dense(self, part: Tensor) -> Tensor:
        """``[m, c]`` logits of some tokens."""
        head = Head(self.softcap, self.logit_scale)
        with torch.no_grad():
            return head(F.linear(self.hidden[part], self.weight, self.bias))


Teacher = Tensor | LinearLogits | TopLogits | SampledLogits


def flat_teacher(teacher: Teacher, rows: torch.Size, classes: int, head: Head) -> Teacher:
    """One row per token, of the student's vocabulary; the teacher is detached where it could carry a graph."""
    if isinstance(teacher, TopLogits | SampledLogits):
        _check_rows(teacher.indices.shape[:-1], rows)
        return teacher.flatten()
    own = "the teacher's"
    if not isinstance(teacher, LinearLogits):
        check_tensor("linear loss", "teacher", teacher)
    elif teacher.weight.ndim != 2 or teacher.hidden.shape[-1] != teacher.weight.shape[1]:
        raise ValueError(
            f"linear loss: the teacher's hidden states {list(teacher.hidden.shape)} and output matrix "
            f"{list(teacher.weight.shape)} do not fit; they are [..., d] and [c, d]"
        )
    if isinstance(teacher, Tensor):
        if not teacher.is_floating_point():
            raise ValueError(f"linear loss: teacher logits are floating point, got {teacher.dtype}")
        teacher = head.cut(own, teacher, -1)
        hidden, found = teacher, teacher.shape[-1]
    else:
        bias = None if teacher.bias is None else head.cut(own, teacher.bias)
        teacher = replace(teacher, weight=head.cut(own, teacher.weight), bias=bias)
        hidden, found = teacher.hidden, len(teacher.weight)
    _check_rows(hidden.shape[:-1], rows)
    if found != classes:
        raise ValueError(
            f"linear loss: the teacher has {found} classes, the student {classes}; both need one vocabulary "
            f"(vocabulary={min(found, classes)} reads the first of both, if the others are padding)"
        )
    flat = hidden.detach().reshape(-1, hidden.shape[-1])
    return flat if isinstance(teacher, Tensor) else replace(teacher, hidden=flat)


def _check_rows(shape: torch.Size, rows: torch.Size) -> None:
    if shape != rows:
        raise ValueError(f"linear loss: the teacher has rows {list(shape)}, the student {list(rows)}")


# -- methods on classes that were stored or drawn --------------------------------------------


@spoken
def on_top_logits(method: Method, top: TopLogits) -> Method:
    """The method with terms that see ``top`` in place of the teacher in the rows; cross-entropy stays dense.

    Every term that compares stored classes, or their mass with the rest's, equals the dense one. Of a group that
    holds the rest, ``within`` is taken over {each stored class alone, all others as one}: what is dropped is the
    divergence between the classes that were not stored.

    Args:
        method: kd, dkd_top1, gdkd or gdkd3, alone or under dot, deepkd, only, resplit; and dkd, drkl and deepkd(kd),
            where every row's label is stored.
        top: the stored teacher, one row per row of the logits.

    Raises:
        ValueError: another method, a temperature other than the stored one, a listed group larger than the stored k.
    """
    check_stored(method, top)
    return around(method, partial(_on_stored, top=top, label=method.needs_labels))


def _on_stored(inner: Terms, lg: Logits, progress: Progress, top: TopLogits, label: bool) -> Components:
    return inner(coarse(lg, top, label=label), progress)


@spoken
def on_sampled_logits(method: Method, drawn: SampledLogits) -> Method:
    """KD with the drawn classes in place of the teacher in the rows: without a bias, however few they are.

    Args:
        method: kd of the forward direction, alone or under dot, only, resplit.
        drawn: a teacher of the same rows.

    Raises:
        ValueError: another method or direction, or a temperature other than that of the draws.
    """
    check_sampled(method, drawn)
    return around(method, partial(_on_sampled, drawn=drawn))


def _on_sampled(inner: Terms, lg: Logits, progress: Progress, drawn: SampledLogits) -> Components:
    return {"kd": sampled_kl(lg.student, drawn)}


def check_teacher(method: Method, teacher: Teacher) -> None:
    """Whether what is stored or drawn is enough for the method; ValueError that says why not."""
    if isinstance(teacher, TopLogits):
        check_stored(method, teacher)
    elif isinstance(teacher, SampledLogits):
        check_sampled(method, teacher)


def check_sampled(method: Method, drawn: SampledLogits) -> None:
    """Whether the method is linear in the teacher's probabilities, so that draws give it without a bias."""
    calls = list(_calls(method.origin))
    names = [call.function.__name__ for call in calls]
    if not names or names[-1] != "kd" or not set(names[:-1]) <= {"dot", "only", "resplit"}:
        raise ValueError(
            f"{method.name}: drawn classes give only a sum over the teacher's probabilities without a bias, and so kd, "
            f"alone or under dot, only, resplit; store the best classes (TopLogits) or give dense teacher logits"
        )
    if str(calls[-1].value("direction")) != "forward":
        raise ValueError(
            f"{method.name}: of drawn classes only the forward direction is a sum over the teacher's probabilities, "
            f"got direction={calls[-1].value('direction')}; TopLogits serve every direction"
        )
    _check_temperature(method.name, calls[0].value("temperature"), drawn.temperature, "the classes were drawn")


@spoken
def check_stored(method: Method, top: TopLogits) -> None:
    """Whether the stored classes are enough for the method; ValueError that says why not."""
    calls = list(_calls(method.origin))
    names = [call.function.__name__ for call in calls]
    if not names or names[-1] not in _LISTED or not set(names[:-1]) <= set(_WRAPPERS):
        raise ValueError(
            f"{method.name}: cannot work on stored top classes; {', '.join(_LISTED)} can, alone or under "
            f"{', '.join(_WRAPPERS)}. Give dense teacher logits, or hidden states (LinearLogits)."
        )
    origin, best = calls[0], top.k if top.best is None else top.best
    if origin.value("largest") is False:
        raise ValueError(f"{method.name}: lists the smallest logits, and the largest are stored")
    keep = origin.value("keep")
    if callable(keep) or (keep or 0) > best:
        raise ValueError(
            f"{method.name}: keep={keep} may list more classes than the {best} best ones that are stored; give a "
            f"number of at most {best}, or dense teacher logits"
        )
    stored = "the mass of the rest was stored"
    _check_temperature(method.name, origin.value("temperature"), top.temperature, stored)
    listed = _LISTED[names[-1]]
    k = 1 if listed is None else origin.value(listed)
    if k > best:
        raise ValueError(f"{method.name}: lists the {k} best classes, and {best} are stored; store more or lower k")


def _check_temperature(name: str, wanted: float, stored: float, what: str) -> None:
    if wanted != stored:
        raise ValueError(
            f"{name}: has temperature {wanted}, {what} at {stored} and cannot be converted; make them anew at "
            f"{wanted}, or take method.with_args(temperature={stored})"
        )


def _calls(call: Call | None) -> Iterator[Call]:
    while call is not None:
        yield call
        call = call.inner
