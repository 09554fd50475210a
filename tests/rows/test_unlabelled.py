"""Rows without labels, and rows made under inference mode, through every method of the contract table."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate import Logits, Method
from fractionate.testing.inputs import each_view, with_leaf_students
from tests.asserts import assert_equal, assert_same, student_gradients
from tests.methods.contract_rows import METHODS, TABLE, Row

LABEL_FREE = [name for name, row in TABLE.items() if not row.contract.needs_labels]
READ_LABELS = [name for name, row in TABLE.items() if row.contract.needs_labels]


def without_labels(lg: Logits) -> Logits:
    return each_view(lg, lambda view: replace(view, target=None))


def without_task(row: Row) -> Method:
    return row.make().with_args(ce_weight=0.0)


@pytest.mark.parametrize("name", LABEL_FREE)
def test_a_label_free_method_with_ce_weight_zero_does_on_unlabelled_rows_what_it_does_on_labelled_ones(
    name: str,
) -> None:
    row = TABLE[name]
    method, lg, at = without_task(row), with_leaf_students(row.contract.rows()), row.contract.progress
    bare = without_labels(lg)
    expected, found = method.components(lg, at), method.components(bare, at)
    assert found.keys() == expected.keys() - {"task"}
    assert_same(found, {part: expected[part] for part in found}, rtol=0.0)
    assert_equal(method.loss(bare, at), method.loss(lg, at), "loss", 1e-12)
    for a, b in zip(*(student_gradients(method.loss(x, at), lg) for x in (bare, lg)), strict=True):
        assert_equal(a, b, "gradient", 1e-12)


@pytest.mark.parametrize("name", LABEL_FREE)
def test_a_cross_entropy_that_counts_is_never_dropped_in_silence(name: str) -> None:
    method, contract = TABLE[name].make(), TABLE[name].contract
    bare = without_labels(contract.rows())
    for call in (method.components, method.loss, method.stream_losses):
        with pytest.raises(ValueError, match=r"cross-entropy has weight .* no.*\(target=None\).*ce_weight=0"):
            call(bare, contract.progress)


@pytest.mark.parametrize("name", READ_LABELS)
def test_a_method_that_reads_labels_refuses_rows_without_them(name: str) -> None:
    contract = TABLE[name].contract
    for method in (TABLE[name].make(), without_task(TABLE[name])):
        with pytest.raises(ValueError, match=r"reads the label of a row, and these rows have none \(target=None\)"):
            method.loss(without_labels(contract.rows()), contract.progress)


@pytest.mark.parametrize("wrap", [fr.methods.dot, fr.methods.deepkd], ids=["dot", "deepkd"])
def test_streams_step_on_unlabelled_rows_as_with_a_cross_entropy_of_weight_zero(wrap: object) -> None:
    method = wrap(fr.methods.gdkd(ce_weight=0.0, warmup=1))
    x, y = torch.randn(6, 4), torch.randint(7, (6,))
    teacher = 3 * torch.randn(6, 7)

    def trained(target: Tensor | None) -> Tensor:
        weight = torch.nn.Parameter(torch.linspace(-1, 1, 28).view(7, 4))
        optimizer = fr.StreamSGD([weight], lr=0.1, momentum=method.momenta(0.9), weight_decay=0.01)
        for _ in range(3):
            losses = method.stream_losses(Logits(x @ weight.T, teacher, target))
            optimizer.step(fr.stream_grads(losses, [weight]))
        return weight.detach()

    assert_equal(trained(None), trained(y), "", 1e-6)


@pytest.mark.parametrize("field", ["teacher", "target", "weight"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_with_what_was_made_under_inference_mode(name: str, field: str) -> None:
    row = METHODS[name]
    lg = row.contract.rows()
    lg = replace(lg, weight=torch.ones(lg.rows).double())
    with torch.inference_mode():
        made = {part: getattr(lg, part).clone() for part in ("teacher", "target", "weight")}
    given = with_leaf_students(replace(lg, **{field: made[field]}))
    own = with_leaf_students(lg)
    method, at = row.make(), row.contract.progress
    for a, b in zip(*(student_gradients(method.loss(x, at), x) for x in (given, own)), strict=True):
        assert_equal(a, b, "gradient", 1e-12)
