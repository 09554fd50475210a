"""The checks of a contract that look at losses; each proves one claim, or that it cannot be made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from ..kernels import widen
from ..methods import Method
from . import properties as law
from .facts import Contract
from .inputs import Needs, cast, each_view, easy_rows, students, with_labels

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
    found = {"row_wise": method.row_wise, "needs_labels": method.needs_labels, "views": method.views}
    said = {"row_wise": contract.row_wise, "needs_labels": contract.needs_labels, "views": contract.needs.views}
    law.require(found == said, f"the method says {found}, its contract {said}")
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
    """Distillation without labels takes soft ones; with labels it refuses them, or reads their best class."""
    lg = contract.rows()
    rows = contract.components_of(method)
    soft = with_labels(lg, torch.nn.functional.one_hot(lg.target, lg.classes).double() * 0.75 + 0.25 / lg.classes)
    other = with_labels(lg, lg.target.flip(0))
    expected = _distillation(rows(lg))
    exactly_if(
        not contract.needs_labels,
        "independence of the labels",
        lambda: law.assert_same(_distillation(rows(other)), expected),
    )
    if contract.needs_labels:
        refused(lambda: rows(soft), "needs hard labels")
        rows = contract.components_of(replace(method, hard="argmax"))
    law.assert_same(_distillation(rows(soft)), expected)


def incomplete_rows(method: Method, contract: Contract) -> None:
    """Rows without a view, regions, teachers or losses that it needs are refused by name."""
    missing = {
        "second view": contract.needs.views == 2,
        "regions": bool(contract.needs.regions),
        "teacher": contract.needs.teachers > 1,
        "Logits.extra": bool(contract.needs.extras),
    }
    bare = easy_rows(6, contract.classes, Needs())
    needed = [word for word, holds in missing.items() if holds]
    if needed:
        refused(lambda: contract.components_of(method)(bare), *needed[:1])


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


def _distillation(rows: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: x for name, x in rows.items() if name != "task"}


def refused(make: Callable[[], object], *words: str) -> None:
    """A ValueError whose message has these words."""
    try:
        make()
    except ValueError as error:
        missing = [word for word in words if word not in str(error)]
        law.require(not missing, f"the message {str(error)!r} does not say {missing}")
        return
    raise AssertionError(f"nothing was refused; expected a ValueError that says {list(words)}")
