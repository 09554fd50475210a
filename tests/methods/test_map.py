"""The map: every method has a point, and the method built from the point of a split is the preset."""

from __future__ import annotations

import pytest
import torch
from rich.console import Console

import fractionate as fr
from fractionate import Method, Progress
from fractionate.methods import catalog
from fractionate.methods.map import AXES, PARTITIONS, at, point_of
from fractionate.methods.row_weights import EntropyRule
from fractionate.methods.split import SplitTerms
from fractionate.probe.measure import print_map
from tests import asserts
from tests.methods.contract_rows import METHODS

M = fr.methods
END = Progress.end()
SPLITS = [name for name, make in catalog.METHODS.items() if isinstance(make().terms, SplitTerms)]
TURNED = {
    "dkd, reverse inside": M.dkd(kl="reverse"),
    "gdkd, jsd": M.gdkd(k=2, direction=fr.jsd(0.3)),
    "grouped, whole": M.grouped(w_secondary=0.5),
    "gdkd_auto_weight, v2": M.gdkd_auto_weight(version="v2", k=3),
    "gkd, reverse": M.gkd(beta=1.0),
    "distillm, reverse": M.distillm(reverse=True),
}


def built(method: Method) -> Method:
    """The method made of its own point, at its temperature."""
    terms = method.terms
    assert isinstance(terms, SplitTerms)
    task = method.parts["task"].weight(END)
    return at(point_of(method), temperature=float(terms.temperature), ce_weight=task)


def assert_same_method(one: Method, other: Method) -> None:
    """Components, loss and gradient, in float64."""
    lg = METHODS["kd"].contract.rows()
    leaves = []
    for method in (one, other):
        rows = asserts.with_leaf_students(lg)
        loss = method.loss(rows, END)
        leaves.append((method.components(rows, END), loss, torch.autograd.grad(loss, rows.student)[0]))
    (a, loss, grad), (b, expected, wanted) = leaves
    asserts.assert_same(a, b)
    asserts.assert_equal(loss, expected)
    asserts.assert_equal(grad, wanted)


@pytest.mark.parametrize("name", SPLITS)
def test_a_published_split_method_is_its_point(name: str) -> None:
    assert_same_method(built(catalog.METHODS[name]()), catalog.METHODS[name]())


@pytest.mark.parametrize("name", TURNED)
def test_so_is_one_with_other_arguments(name: str) -> None:
    assert_same_method(built(TURNED[name]), TURNED[name])


def test_the_splits_of_the_catalog_are_many() -> None:
    assert {"kd", "dkd", "drkl", "gdkd", "gdkd3", "gdkd_auto_weight", "grouped", "gkd", "distillm"} <= set(SPLITS)


def test_a_row_weight_over_a_point_is_the_wrapper() -> None:
    of_point = M.weighted_rows(built(M.kd()), EntropyRule(3.0, "log_classes"))
    assert_same_method(of_point, M.ea(M.kd()))


def test_roles_of_the_point_serve_deepkd() -> None:
    assert_same_method(M.deepkd(at(point_of("dkd"), temperature=4.0)), M.deepkd(M.dkd()))


@pytest.mark.parametrize("name", {**catalog.METHODS, **catalog.WRAPPERS})
def test_every_name_of_the_catalog_has_a_point(name: str) -> None:
    assert any(getattr(point_of(name), axis) for axis in AXES)


def test_the_command_shows_every_method() -> None:
    console = Console(record=True, width=300)
    print_map(console)
    text = console.export_text()
    assert all(name in text for name in {**catalog.METHODS, **catalog.WRAPPERS})
    assert "by_target" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("by_tpo", "forward", "a = 1 between"), "by_top"),
        (("whole", "forwrd", "a = 1 between"), "forward"),
        (("whole", "forward", "a = 1 inside"), "within"),
        (("by_top(k=2)", "forward", "a = 1 mass[0] within[1]"), "within"),
    ],
)
def test_words_that_are_no_point_are_refused(words: tuple[str, str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        at(*words)
    with pytest.raises(ValueError, match="relation"):
        at(point_of("dist"))


def test_every_partition_of_the_map_says_what_it_is() -> None:
    assert all(function.__doc__ for function in PARTITIONS.values())
