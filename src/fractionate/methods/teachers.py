"""Several teachers: their mixture, or a gradient stream for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from ..kernels import widen
from ..losses import mixture_logits
from ..rows import Logits, Progress
from ..schedules import times
from .arguments import check_count, check_not_negative, check_numbers, check_positive, preset
from .method import Method, Part
from .streams import Stream, UpdateRule
from .terms import Components, EveryView, Terms, around, mapped


@preset
def mixture_of_teachers(
    method: Method, *, weights: Sequence[float] | None = None, mixture_temperature: float | None = None
) -> Method:
    """Several teachers as one: a weighted mixture of their probabilities at a temperature.

    z^T = T log sum_k w_k softmax(z_k / T), k over ``Logits.teacher`` and ``Logits.teachers``

    The mixture also ranks the classes. Put standardisation around the method inside, not around the mixture, to
    standardise the mixture itself.

    Args:
        method: any method; it sees one teacher.
        weights: one per teacher, ``Logits.teacher`` first; equal unless given; divided by their sum.
        mixture_temperature: T of the mixture; the method's own unless given, or 1 if it has none.

    Returns:
        Method with the components, weights and streams of ``method``.

    Raises:
        ValueError: rows with a single teacher, a number of weights that is not that of the teachers, a method that
            reads several teachers itself.

    Source: averaged soft targets, arXiv 1503.02531 (ensembles of teachers).

    Map: logits a mixture of teachers

    Example:
        >>> import torch, fractionate as fr
        >>> z = torch.tensor([[2.0, 0.0, 1.0]])
        >>> lg = fr.Logits(z, z, torch.tensor([0]), teachers=(z,))
        >>> float(fr.methods.mixture_of_teachers(fr.methods.kd()).components(lg)["kd"].abs()) < 1e-5
        True
    """
    _check_one_left("mixture_of_teachers", method)
    if weights is not None:
        for value in weights:
            check_not_negative("mixture_of_teachers", weights=value)
    own = method.origin.value("temperature") if method.origin else None
    given = own if mixture_temperature is None else mixture_temperature
    temperature = 1.0 if given is None else given
    check_positive("mixture_of_teachers", mixture_temperature=temperature)
    change = EveryView(Mixture(None if weights is None else tuple(weights), temperature))
    return mapped(method, change, lambda inner: replace(inner, name=f"{inner.name}+mixture_of_teachers"))


@preset
def per_teacher(
    method: Method,
    *,
    n: int = 2,
    shifts: Sequence[float] | None = None,
    weights: Sequence[float] | None = None,
    task_shift: float = 0.0,
) -> Method:
    """Several teachers apart: the terms of a method for each of them, every teacher in a stream of its own.

    L = task + sum_k w_k terms(z^S, z_k); V_k <- (m + shift_k) V_k + g_k for every teacher k

    Args:
        method: any method; its components appear once per teacher, as ``kd_1``, ``kd_2``, ...
        n: number of teachers: ``Logits.teacher`` and the first n - 1 of ``Logits.teachers``.
        shifts: momentum shift of each teacher's stream; 0 unless given (such streams are merged).
        weights: factor on each teacher's weights; 1 / n unless given.
        task_shift: momentum shift of the ``task`` stream.

    Returns:
        Method with streams ``task``, ``teacher_1``, ..., ``teacher_n``; ``deepkd`` around it takes roles instead.

    Raises:
        ValueError: rows with fewer teachers, lists that are not n long, a method that reads several teachers itself.

    Source: this package (several teachers as gradient streams); no publication is claimed.

    Map: stream one per teacher

    Example:
        >>> import fractionate as fr
        >>> m = fr.methods.per_teacher(fr.methods.kd(), n=2, shifts=[0.25, -0.25])
        >>> list(m.parts), dict(m.momenta(0.5))
        (['task', 'kd_1', 'kd_2'], {'task': 0.5, 'teacher_1': 0.75, 'teacher_2': 0.25})
    """
    _check_one_left("per_teacher", method)
    check_count("per_teacher", "n", n, 1)
    moves = [0.0] * n if shifts is None else list(shifts)
    factors = [1 / n] * n if weights is None else list(weights)
    for name, values in {"shifts": moves, "weights": factors}.items():
        if len(values) != n:
            raise ValueError(f"per_teacher: {name} needs {n} numbers, one per teacher, got {values}")
        for value in [*values, task_shift]:
            check_numbers("per_teacher", **{name: value})

    def wrap(inner: Method) -> Method:
        members = {
            k: {f"{name}_{k}": Part(times(p.weight, factors[k - 1]), p.role) for name, p in _distillation(inner)}
            for k in range(1, n + 1)
        }
        task = {name: part for name, part in inner.parts.items() if name == "task"}
        streams = [Stream("task", tuple(task), task_shift)] if task else []
        streams += [Stream(f"teacher_{k}", tuple(parts), moves[k - 1]) for k, parts in members.items()]
        return around(
            inner,
            partial(_of_each, n=n),
            name=f"{inner.name}+per_teacher",
            parts={**task, **{name: part for parts in members.values() for name, part in parts.items()}},
            streams=tuple(streams),
            update=UpdateRule(carried=inner.update.carried),
            twin=None if inner.twin is None else wrap(inner.twin),
        )

    return wrap(method)


def _check_one_left(where: str, method: Method) -> None:
    """Refuse a method that reads several teachers itself: the wrapper leaves one to what is inside."""
    call = method.origin
    while call is not None:
        if (name := call.function.__name__) in ("mixture_of_teachers", "per_teacher"):
            raise ValueError(
                f"{where}: leaves one teacher to {method.name}, where {name} needs several; use one of both"
            )
        call = call.inner


def _distillation(method: Method) -> list[tuple[str, Part]]:
    return [(name, part) for name, part in method.parts.items() if name != "task"]


def _with_teacher(lg: Logits, k: int) -> Logits:
    """The rows with teacher k (0 is ``Logits.teacher``) as the only one."""
    if k > len(lg.teachers):
        raise ValueError(
            f"per_teacher: teacher {k + 1} is missing; give Logits(..., teachers=(...)) with the logits of "
            f"further teachers, got {len(lg.teachers)}"
        )
    strong, token = (None if view is None else _with_teacher(view, k) for view in (lg.strong, lg.token))
    if k == 0:
        return replace(lg, teachers=(), strong=strong, token=token)
    return replace(lg, teacher=lg.teachers[k - 1], ranking=None, teachers=(), strong=strong, token=token)


@dataclass(frozen=True)
class Mixture:
    """Rows with one teacher, the mixture of all."""

    weights: tuple[float, ...] | None
    temperature: float

    def __call__(self, lg: Logits) -> Logits:
        """The same rows; the mixture also ranks the classes."""
        if not lg.teachers:
            raise ValueError("mixture_of_teachers: needs Logits(..., teachers=(...)), the logits of further teachers")
        teachers = [lg.teacher, *lg.teachers]
        weights = [1.0] * len(teachers) if self.weights is None else self.weights
        mixture = mixture_logits(teachers, weights, self.temperature)
        return replace(lg, student=widen(lg.student), teacher=mixture, ranking=None, teachers=())


def _of_each(inner: Terms, lg: Logits, progress: Progress, n: int) -> Components:
    rows = [inner(_with_teacher(lg, k), progress) for k in range(n)]
    return {f"{name}_{k}": x for k, part in enumerate(rows, 1) for name, x in part.items()}
