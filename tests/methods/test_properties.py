"""What holds for every method and wrapper of the catalog, however they are put together."""

from __future__ import annotations

import inspect
import math
from dataclasses import replace
from itertools import permutations

import pytest
import torch

import fractionate as fr
from fractionate import Logits, Method, Progress
from fractionate.methods import catalog
from fractionate.testing import Needs, easy_rows
from fractionate.testing.inputs import with_leaf_students
from tests.methods.contract_rows import METHODS, WRAPPERS

M = fr.methods
AT = Progress(step=3, epoch=5, epochs=20, steps=200)
RANDOM = [name for name in METHODS if METHODS[name].contract.random]
FAMILIES = ["dkd", "logit_mse", "mlkd"]  # each is built of other terms


def made(name: str, *method: Method, **arguments: object) -> Method:
    """A method or a wrapper at its defaults, but with the sizes of groups and regions that its contract has."""
    given = {**METHODS, **WRAPPERS}[name].make().origin.given
    sizes = {argument: given[argument] for argument in ("k", "scales") if argument in given}
    return catalog.find(name)(*method, **{**sizes, **arguments})


def full_rows() -> Logits:
    """Rows with everything that any method reads, in every view."""
    lg = easy_rows(6, 9, Needs(views=2, regions=(1, 2), teachers=2, extras=("hint",)))
    regions = lg.regions
    hint = {"hint": torch.linspace(0, 1, regions.rows).double()}
    return replace(lg, regions=replace(regions, teachers=(regions.teacher.flip(0),), extra=hint))


# -- arguments -------------------------------------------------------------------------------

WRONG = {
    "ce_weight": [-1.0, math.nan, math.inf, "1", True],
    "label_smoothing": [-0.1, 1.5, math.nan, "0", True],
    "hard": ["agrmax", "Error", 1],
    "warmup": [-1, math.nan, math.inf, "20", True],
}


@pytest.mark.parametrize("argument", WRONG)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_refuses_a_wrong_value_of_what_all_have_by_name(name: str, argument: str, unchecked: None) -> None:
    for value in WRONG[argument]:
        with pytest.raises(ValueError, match=argument):
            made(name, **{argument: value})


@pytest.mark.parametrize("name", [*METHODS, *catalog.WRAPPERS])
def test_a_misspelled_argument_is_answered_with_the_nearest(name: str) -> None:
    given = [M.kd()] if name in catalog.WRAPPERS else []
    argument = list(inspect.signature(catalog.find(name)).parameters)[0 if name == "swap" else 1]
    with pytest.raises(TypeError, match=f"did you mean '{argument}'"):
        catalog.find(name)(*given, **{argument + "x": 1})


@pytest.mark.parametrize("seed", [0, 2**31, 2**32 + 1, 2**53 + 1, 2**63 - 1])
@pytest.mark.parametrize("name", RANDOM)
def test_random_methods_draw_at_any_seed_below_two_to_the_63(name: str, seed: int) -> None:
    lg = full_rows()
    for at in (Progress(), Progress(step=10**7, epoch=300, epochs=300)):
        method = made(name, seed=seed)
        first, again = (method.components(lg, at) for _ in range(2))
        for part, rows in first.items():
            assert torch.equal(rows, again[part]), part
    other = made(name, seed=seed ^ 1).components(lg, AT)
    assert any(not torch.equal(rows, other[part]) for part, rows in method.components(lg, AT).items())


@pytest.mark.parametrize("name", RANDOM)
def test_a_larger_seed_is_refused_where_the_method_is_built(name: str) -> None:
    with pytest.raises(ValueError, match="seed"):
        made(name, seed=2**63)


# -- combinations ----------------------------------------------------------------------------

CHAINS = [*((w,) for w in catalog.WRAPPERS), *permutations(catalog.WRAPPERS, 2)]


@pytest.mark.parametrize("wrappers", CHAINS, ids="+".join)
def test_what_can_be_built_can_be_computed(wrappers: tuple[str, ...]) -> None:
    lg = full_rows()
    for family in FAMILIES:
        method = made(family)
        try:
            for wrapper in wrappers:
                method = made(wrapper, method)
        except ValueError:
            continue  # refused where it is built, which is the place for it
        loss = method.loss(with_leaf_students(lg), AT)
        assert bool(loss.isfinite()), method


@pytest.mark.parametrize("inner", ["mixture_of_teachers", "per_teacher"])
@pytest.mark.parametrize("outer", ["mixture_of_teachers", "per_teacher"])
def test_what_uses_up_the_teachers_is_refused_around_what_needs_them(outer: str, inner: str) -> None:
    with pytest.raises(ValueError, match=f"{outer}: leaves one teacher"):
        made(outer, made("lskd", made(inner, M.kd())))


def learns(name: str) -> bool:
    try:
        made("ctkd", made(name))
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("name", [n for n in METHODS if learns(n)])
def test_a_temperature_that_can_be_learned_gets_a_finite_gradient(name: str) -> None:
    for method in (made("ctkd", made(name)), made("ctkd", made("lskd", made(name)))):
        method.loss(with_leaf_students(full_rows()), AT).backward()
        for parameter in method.module.parameters():
            assert bool(parameter.grad.isfinite().all()), method
            assert bool(parameter.grad.any()), method


@pytest.mark.parametrize("outer", ["lskd", "swap", "sdd", "dot", "deepkd"])
def test_a_temperature_that_cannot_be_learned_is_refused_where_it_is_built(outer: str) -> None:
    for name in (n for n in METHODS if not learns(n)):
        try:
            wrapped = made(outer, made(name))
        except ValueError:
            continue
        with pytest.raises(ValueError, match="ctkd"):
            made("ctkd", wrapped)


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5, math.nan])
@pytest.mark.parametrize("name", [n for n in METHODS if METHODS[n].contract.roles])
def test_a_mask_schedule_outside_its_range_is_refused(name: str, fraction: float) -> None:
    try:
        method = M.deepkd(made(name), keep=lambda progress: fraction)
    except ValueError:
        return  # a method without a label partition takes no mask at all
    with pytest.raises(ValueError, match=r"fraction of the classes in \(0, 1\]"):
        method.loss(full_rows(), AT)


# -- streams and methods made by hand --------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in METHODS if METHODS[n].contract.roles])
def test_a_sequence_that_misses_a_stream_is_refused(name: str) -> None:
    method = M.deepkd(made(name), rule="published-code")
    short = replace(method, update=replace(method.update, sequence=method.update.sequence[:-1]))
    with pytest.raises(ValueError, match=r"sequence .* every stream"):
        short.momenta(0.5)


def test_a_method_made_by_hand_answers_with_args_in_words() -> None:
    kd = M.kd()
    with pytest.raises(ValueError, match="mine: was not made by a function"):
        fr.Method(name="mine", parts=kd.parts, terms=kd.terms).with_args(temperature=2.0)
