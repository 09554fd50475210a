"""The checks of a contract: losses, then gradient streams; each proves one claim, or that it cannot be made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from ..kernels import widen
from ..methods import Method, deepkd, dot, only
from ..optim import StreamSGD, stream_grads
from ..rows import Logits, weighted_mean
from ..schedules import constant
from . import properties as law
from .inputs import Contract, Needs, cast, each_view, easy_rows, students, with_labels, with_students

LOW_PRECISION = (torch.float32, torch.bfloat16, torch.float16)


def exactly_if(claimed: bool, claim: str, check: Callable[[], None]) -> None:
    """The check passes if it is claimed, and fails if it is not."""
    if claimed:
        check()
        return
    try:
        check()
    except AssertionError:
        return
    raise AssertionError(f"{claim} holds although the contract says it does not")


def shapes(method: Method, contract: Contract) -> None:
    """One value per row under the stated names, float32 for all but float64; a scalar loss; every need stated."""
    found = (method.row_wise, method.needs_labels, method.views, method.token)
    said = (contract.row_wise, contract.needs_labels, contract.needs.views, contract.needs.token)
    law.require(found == said, f"row_wise, needs_labels, views, token: the method says {found}, its contract {said}")
    law.require(method.regions == contract.needs.regions, f"regions {method.regions}, stated {contract.needs.regions}")
    for dtype in (torch.float64, *LOW_PRECISION):
        lg = cast(contract.rows(), dtype)
        rows = contract.components_of(method)(lg)
        law.require(list(rows) == ["task", *contract.components], f"components {list(rows)}")
        for name, x in rows.items():
            law.require(x.shape == (lg.rows,), f"{name}: shape {tuple(x.shape)}, expected [n]")
            law.require(x.dtype == widen(lg.student).dtype, f"{name}: {x.dtype} from {dtype} logits")
        law.require(contract.loss_of(method)(lg).shape == (), "the loss is not a scalar")


def row_independence(method: Method, contract: Contract) -> None:
    """Rows may be reordered and left out if it is row-wise, and only then."""
    rows, lg = contract.components_of(method), contract.rows()
    exactly_if(contract.row_wise, "row independence", lambda: law.assert_rows_independent(rows, lg))


def chunks(method: Method, contract: Contract) -> None:
    """Pieces of the batch give the whole if it is row-wise, and only then."""
    rows, lg = contract.components_of(method), contract.rows()
    exactly_if(contract.row_wise, "chunked evaluation", lambda: law.assert_equal_in_chunks(rows, lg, 1))


def shift_invariance(method: Method, contract: Contract) -> None:
    """A constant added to a row's logits changes nothing, if it is claimed."""
    rows, lg = contract.components_of(method), contract.rows()
    exactly_if(contract.shift_invariant, "shift invariance", lambda: law.assert_shift_invariant(rows, lg))


def class_symmetry(method: Method, contract: Contract) -> None:
    """Renaming the classes changes nothing, if it is claimed."""
    rows, lg = contract.components_of(method), contract.rows()
    exactly_if(contract.class_symmetric, "symmetry", lambda: law.assert_class_permutation_invariant(rows, lg))


def zero_at_teacher(method: Method, contract: Contract) -> None:
    """Exactly the named components, and their gradients, vanish at the teacher."""
    rows, lg = contract.components_of(method), contract.rows()
    for name in contract.components:
        stated = name in contract.zero_at_teacher

        def check(name: str = name) -> None:
            law.assert_zero_at_teacher(rows, lg, [name])

        exactly_if(stated, f"{name} = 0 at the teacher", check)


def labels(method: Method, contract: Contract) -> None:
    """A distillation that reads no label takes soft ones and rows without any; else it refuses both, in words."""
    lg = contract.rows()
    rows = contract.components_of(method)
    soft = with_labels(lg, torch.nn.functional.one_hot(lg.target, lg.classes).double() * 0.75 + 0.25 / lg.classes)
    other = with_labels(lg, lg.target.flip(0))
    expected = _distillation(rows(lg))
    said, check = not contract.needs_labels, lambda: law.assert_same(_distillation(rows(other)), expected)
    exactly_if(said, "independence of the labels", check)
    bare = contract.components_of(_without_task(method))
    unlabelled = each_view(lg, lambda view: replace(view, target=None))
    if contract.needs_labels:
        law.refused(lambda: bare(unlabelled), "label")
        law.refused(lambda: rows(soft), "needs hard labels")
        rows = contract.components_of(replace(method, hard="argmax"))
    else:
        law.assert_same(_distillation(bare(unlabelled)), expected)
    law.assert_same(_distillation(rows(soft)), expected)


def incomplete_rows(method: Method, contract: Contract) -> None:
    """Rows without a view, regions, teachers or losses that it needs are refused by name."""
    missing = {
        "second view": contract.needs.views == 2,
        "second head": contract.needs.token,
        "regions": bool(contract.needs.regions),
        "teacher": contract.needs.teachers > 1,
        "Logits.extra": bool(contract.needs.extras),
    }
    bare = easy_rows(6, contract.classes, Needs())
    needed = [word for word, holds in missing.items() if holds]
    if needed:
        law.refused(lambda: contract.components_of(method)(bare), *needed[:1])


def no_teacher_gradient(method: Method, contract: Contract) -> None:
    """No gradient reaches a teacher."""
    law.assert_no_teacher_gradient(contract.components_of(method), contract.rows())


def gradients(method: Method, contract: Contract) -> None:
    """Gradients agree with finite differences, unless a weight is held constant, and only then."""

    def check() -> None:
        try:
            law.assert_gradcheck(contract.components_of(method), contract.rows(3), fast=True)
        except GradcheckError as error:
            raise AssertionError(str(error)) from None

    exactly_if(not contract.held_constant, "agreement with finite differences", check)


def extreme_logits(method: Method, contract: Contract) -> None:
    """Values and gradients are finite for logits of +-1e4 in float32, bfloat16 and float16, and of +-200."""
    for dtype, size in ((torch.float32, 200.0), *((dtype, 1e4) for dtype in LOW_PRECISION)):
        law.assert_finite(contract.components_of(method), cast(contract.huge(size), dtype))


def row_weights(method: Method, contract: Contract) -> None:
    """Weights have no scale, weight 0 is absence, all of them 0 is a loss of 0; in a row-wise method 2 is twice."""
    loss, lg = contract.loss_of(method), contract.rows()
    weight = torch.linspace(1, 2, lg.rows).double()
    law.assert_equal(loss(law.weighted(lg, 3 * weight)), loss(law.weighted(lg, weight)), "scaled weights")
    keep = torch.arange(lg.rows) < lg.rows - 2 if contract.random else torch.arange(lg.rows) % 3 != 1
    law.assert_rows_of_weight_zero_are_not_there(loss, lg, keep)
    none = loss(law.weighted(lg, torch.zeros(lg.rows).double()))
    law.require(float(none.detach()) == 0.0, f"the loss of rows that all weigh 0 is {none}, not 0")
    if contract.row_wise:
        twice = torch.cat([torch.arange(lg.rows), torch.arange(lg.rows)[keep]])
        law.assert_equal(loss(law.weighted(lg, 1 + keep.double())), loss(lg[twice]), "rows of weight 2")


def few_rows(method: Method, contract: Contract) -> None:
    """No rows give a loss of 0 with a graph; one row gives finite values and gradients."""
    law.assert_empty_batch_is_zero(contract.loss_of(method), contract.rows())
    law.assert_finite(contract.components_of(method), contract.rows(1))


def autocast(method: Method, contract: Contract) -> None:
    """A region of automatic mixed precision around the loss changes nothing: it computes in float32."""
    lg = cast(contract.rows(), torch.float32)
    rows = contract.components_of(method)
    expected = rows(lg)
    with torch.autocast("cpu", torch.bfloat16):
        found = rows(lg)
    law.assert_same(found, expected)


def repetition(method: Method, contract: Contract) -> None:
    """The same rows at the same point of training give the same values, and the rows stay as they were."""
    lg = contract.rows()
    before = [z.clone() for z in students(lg)]
    first, second = (contract.components_of(method)(each_view(lg, lambda view: view)) for _ in range(2))
    law.assert_same(first, second, rtol=0.0)
    for a, b in zip(before, students(lg), strict=True):
        law.require(torch.equal(a, b), "the method changed its rows")


def _without_task(method: Method) -> Method:
    """The method with a cross-entropy that weighs nothing."""
    parts = {n: replace(p, weight=constant(0.0)) if n == "task" else p for n, p in method.parts.items()}
    return replace(method, parts=parts)


def _distillation(rows: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: x for name, x in rows.items() if name != "task"}


# -- gradient streams: alone, under dot and under deepkd --------------------------------------


def streams(method: Method, contract: Contract) -> None:
    """The stated streams hold all components once; their losses are weighted means and add up to the loss."""
    lg = contract.rows()
    rows = method.components(lg, contract.progress)
    apart = method.stream_losses(lg, contract.progress, merge=False)
    law.require(tuple(apart) == contract.streams, f"streams {tuple(apart)}, stated {contract.streams}")
    for stream in method.streams:
        terms = [method.parts[c].weight(contract.progress) * weighted_mean(rows[c], None) for c in stream.components]
        law.assert_equal(apart[stream.name], torch.stack(terms).sum(), f"stream {stream.name}")
    law.assert_equal(method.loss(lg, contract.progress), torch.stack(list(apart.values())).sum(), "sum of the streams")


def backward_passes(method: Method, contract: Contract) -> None:
    """A step differentiates as often as stated, and moves the weights by finite gradients."""
    _count_passes(method, contract, contract.backward_passes)


def one_component(method: Method, contract: Contract) -> None:
    """``only`` keeps one component with its weight; all of them together are the loss."""
    lg, at = contract.rows(), contract.progress
    rows = method.components(lg, at)
    losses = []
    for name in method.parts:
        single = only(method, name)
        law.assert_same(single.components(lg, at), {name: rows[name]})
        losses.append(single.loss(lg, at))
        law.assert_equal(losses[-1], method.parts[name].weight(at) * rows[name].mean(), f"only({name})")
    law.assert_equal(torch.stack(losses).sum(), method.loss(lg, at), "sum of the components")


def under_dot(method: Method, contract: Contract) -> None:
    """``dot`` changes no component and no weight, and takes two backward passes."""
    wrapped = dot(method, delta=0.25)
    lg, at = contract.rows(), contract.progress
    law.assert_same(wrapped.components(lg, at), method.components(lg, at), rtol=0.0)
    law.assert_equal(wrapped.loss(lg, at), method.loss(lg, at), "loss under dot")
    momenta = dict(wrapped.momenta(0.5))
    law.require(momenta == {"task": 0.25, "distillation": 0.75}, f"momenta under dot: {momenta}")
    _count_passes(wrapped, contract, 2)


def under_deepkd(method: Method, contract: Contract) -> None:
    """``deepkd`` keeps the loss and takes two backward passes; without roles it refuses, naming the components."""
    if not contract.roles:
        nameless = [name for name, part in method.parts.items() if part.role is None]
        absent = {"task", "target", "nontarget"} - {part.role for part in method.parts.values()}
        reasons = nameless or sorted(absent, reverse=True)[:1]  # in the order of deepkd
        law.require(bool(reasons), "every component has a role, but the contract says that deepkd does not work")
        law.refused(lambda: deepkd(method), *reasons)
        return
    wrapped = deepkd(method, delta=0.25)
    lg, at = contract.rows(), contract.progress

    def check() -> None:
        law.assert_equal(wrapped.loss(lg, at), method.loss(lg, at), "loss under deepkd")

    exactly_if(contract.deepkd_keeps_loss, "the same loss under deepkd", check)
    found = [stream.name for stream in wrapped.streams]
    law.require(found == ["task", "target", "nontarget"], f"streams under deepkd: {found}")
    momenta = dict(wrapped.momenta(0.5))
    law.require(momenta == {"task+nontarget": 0.75, "target": 0.25}, f"momenta under deepkd: {momenta}")
    _count_passes(wrapped, contract, 2)


class _Counted(torch.autograd.Function):
    """The identity, which counts how often it is differentiated."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, calls: list[int]) -> Tensor:
        """The logits as they are."""
        ctx.calls = calls
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """The gradient as it is."""
        ctx.calls.append(1)
        return grads[0], None


def _count_passes(method: Method, contract: Contract, expected: int) -> None:
    leaf, lg, calls = _counted_rows(contract)
    grads = stream_grads(method.stream_losses(lg, contract.progress), [leaf])
    found = len(calls)
    law.require(found == expected, f"{method.name}: {found} backward passes, expected {expected}")
    stated = method.backward_passes
    law.require(stated == expected, f"{method.name} says {stated} backward passes, expected {expected}")
    optimizer = StreamSGD([leaf], lr=0.1, momentum=method.momenta(0.5))
    before = leaf.detach().clone()
    optimizer.step(grads)
    moved = leaf.detach() - before
    law.require(bool(moved.isfinite().all()) and bool(moved.any()), f"{method.name}: the step is {moved}")


def _counted_rows(contract: Contract) -> tuple[Tensor, Logits, list[int]]:
    """Rows whose student logits, and further losses, depend on one leaf that counts its derivatives."""
    lg, calls = contract.rows(), list[int]()
    leaf = torch.cat(students(lg)).requires_grad_()
    counted = _Counted.apply(leaf, calls)
    extra = {name: x + 0.1 * counted[: lg.rows].square().mean(1) for name, x in lg.extra.items()}
    views = counted.split([len(z) for z in students(lg)])
    return leaf, with_students(replace(lg, extra=extra), views), calls
