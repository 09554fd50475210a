"""Methods on a teacher of which only the best classes are stored."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ..losses import TopLogits, coarse
from ..methods.arguments import Call
from ..methods.method import Method
from ..methods.terms import Components, Terms, around
from ..rows import Logits, Progress

# Methods whose terms are forms of one partition into the teacher's best classes and the rest, at one temperature, and
# the number of classes they list; wrappers that leave the terms as they are.
_LISTED = {"kd": None, "dkd_top1": None, "gdkd": "k", "gdkd3": "k"}
_WRAPPERS = ("dot", "deepkd", "only", "resplit")


def on_top_logits(method: Method, top: TopLogits) -> Method:
    """The method with terms that see ``top`` in place of the teacher in the rows; cross-entropy stays dense.

    Every term that compares stored classes, or their mass with the rest's, equals the dense one. Of a group that
    holds the rest, ``within`` is taken over {each stored class alone, all others as one}: what is dropped is the
    divergence between the classes that were not stored.

    Args:
        method: kd, dkd_top1, gdkd or gdkd3, alone or under dot, deepkd, only, resplit.
        top: the stored teacher, one row per row of the logits.

    Raises:
        ValueError: another method, a temperature other than the stored one, a listed group larger than the stored k.
    """
    check_stored(method, top)
    return around(method, partial(_on_stored, top=top))


def _on_stored(inner: Terms, lg: Logits, progress: Progress, top: TopLogits) -> Components:
    return inner(coarse(lg, top), progress)


def check_stored(method: Method, top: TopLogits) -> None:
    """Whether the stored classes are enough for the method; ValueError that says why not."""
    calls = list(_calls(method.origin))
    names = [call.function.__name__ for call in calls]
    if not names or names[-1] not in _LISTED or not set(names[:-1]) <= set(_WRAPPERS):
        raise ValueError(
            f"{method.name}: cannot work on stored top classes; {', '.join(_LISTED)} can, alone or under "
            f"{', '.join(_WRAPPERS)}. Give dense teacher logits, or hidden states (LinearLogits)."
        )
    if method.needs_labels:
        raise ValueError(
            f"{method.name}: lists the label, which need not be among the stored classes; dkd_top1, gdkd and gdkd3 "
            f"list the teacher's best classes instead"
        )
    origin = calls[0]
    if origin.value("largest") is False:
        raise ValueError(f"{method.name}: lists the smallest logits, and the largest are stored")
    _check_temperature(method.name, origin.value("temperature"), top.temperature)
    listed = _LISTED[names[-1]]
    k = 1 if listed is None else origin.value(listed)
    if k > top.k:
        raise ValueError(f"{method.name}: lists the {k} best classes, and {top.k} are stored; store more or lower k")


def _check_temperature(name: str, wanted: float, stored: float) -> None:
    if wanted != stored:
        raise ValueError(
            f"{name}: has temperature {wanted}, the mass of the rest was stored at {stored} and cannot be "
            f"converted; store it with TopLogits.of(logits, k, temperature={wanted}), or take "
            f"method.with_args(temperature={stored})"
        )


def _calls(call: Call | None) -> Iterator[Call]:
    while call is not None:
        yield call
        call = call.inner
