"""What is given as a stored or drawn teacher, or to a loss on hidden states, is what it is called, or is named."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate import LinearLogits, Logits, TopLogits
from fractionate.losses import SampledLogits

C, N = 20, 6
METHOD = fr.methods.kd(temperature=1.0)


def drawn(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states, output matrix, labels and dense teacher logits."""
    g = torch.Generator().manual_seed(seed)
    hidden, weight, teacher = (torch.randn(*s, generator=g) for s in ((N, 4), (C, 4), (N, C)))
    return hidden.requires_grad_(), weight, torch.randint(0, C, (N,), generator=g), teacher


def loss(teacher: Any, **given: Any) -> Tensor:
    hidden, weight, target, _ = drawn()
    given = {"hidden": hidden, "weight": weight, "target": target, "method": METHOD, **given}
    return fr.linear_loss(teacher=teacher, **given)


def best(k: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities of the best classes, these classes, and the logarithm of the mass of the rest."""
    values, indices = drawn()[3].log_softmax(1).topk(k)
    return values, indices, torch.log1p(-values.exp().sum(1))


def test_log_probabilities_with_the_logarithm_of_the_rest_are_taken_without_a_word() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.allclose(loss(TopLogits(*best())), loss(TopLogits.of(drawn()[3], 3)))


@pytest.mark.parametrize("name", ["values", "rest"])
def test_probabilities_in_the_place_of_logarithms_are_named(name: str) -> None:
    top = TopLogits(*best())
    with pytest.warns(UserWarning, match=f"{name} holds probabilities"):
        loss(replace(top, **{name: getattr(top, name).exp()}))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (lambda v, i, r: (v, i[:, :1].expand_as(i), r), "row 0 indices hold a class twice"),
        (lambda v, i, r: (v.index_fill(0, torch.tensor([2]), torch.nan), i, r), "row 2 values hold a number"),
        (lambda v, i, r: (v, i, r.index_fill(0, torch.tensor([4]), torch.inf)), "row 4 rest is not finite"),
        (lambda v, i, r: (v, i + C, r), "indices must lie in 0..19"),
    ],
)
def test_rows_of_a_stored_teacher_that_cannot_be_are_named_where_they_are_compared(changed: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        loss(TopLogits(*changed(*best())))


def test_a_row_that_is_ignored_may_hold_anything() -> None:
    values, indices, rest = best()
    indices[1], rest[1] = 0, torch.nan
    target = drawn()[2].index_fill(0, torch.tensor([1]), -100)
    assert loss(TopLogits(values, indices, rest), target=target).isfinite()


@pytest.mark.parametrize(
    ("given", "words"),
    [({"temperature": torch.inf}, "finite"), ({"best": 0}, "best"), ({"best": 4}, "best"), ({"rest": 1}, "floating")],
)
def test_options_of_a_stored_teacher_are_refused_out_of_range(given: dict[str, Any], words: str) -> None:
    values, indices, rest = best()
    rest = rest.long() if given.pop("rest", None) else rest
    with pytest.raises(ValueError, match=words):
        TopLogits(values, indices, rest, **given)


@pytest.mark.parametrize("total", [-3.0, None])
def test_a_total_below_the_stored_mass_is_refused(total: float | None) -> None:
    values, indices, _ = best()
    with pytest.raises(ValueError, match="times the mass of all together"):
        TopLogits.from_total(values if total else values.exp(), indices, total or 0.0)


def test_a_total_takes_the_rounding_of_half_precision() -> None:
    values, indices, rest = best(15)
    found = TopLogits.from_total(values.bfloat16(), indices, 0.0)
    assert torch.allclose(found.rest.exp(), rest.exp(), atol=2e-2)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (lambda d: replace(d, indices=d.indices + C), "indices must lie in"),
        (lambda d: replace(d, log_probs=d.log_probs.exp()), "log_probs must be log-probabilities"),
        (lambda d: replace(d, weights=-d.weights), "weights must be"),
    ],
)
def test_drawn_classes_that_cannot_be_are_refused(changed: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        loss(changed(SampledLogits.of(drawn()[3], 4)))


@pytest.mark.parametrize("kind", ["list", "numpy", "int32", "uint8"])
def test_labels_of_any_integer_kind_give_the_same_loss_on_hidden_states(kind: str) -> None:
    target, teacher = drawn()[2:]
    given = {"list": target.tolist(), "numpy": target.numpy(), "int32": target.int(), "uint8": target.to(torch.uint8)}
    assert torch.equal(loss(teacher, target=given[kind]), loss(teacher))


def test_hidden_states_without_labels_are_taken_by_methods_that_read_none() -> None:
    hidden, weight, _, teacher = drawn()
    method = fr.methods.kd(ce_weight=0)
    expected = method.loss(Logits(hidden @ weight.T, teacher))
    torch.testing.assert_close(loss(teacher, target=None, method=method), expected)
    with pytest.raises(ValueError, match="needs labels"):
        loss(teacher, target=None)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"teacher": torch.zeros(N, C, dtype=torch.int64)}, "floating point"),
        ({"teacher": LinearLogits(torch.zeros(N, 3), torch.zeros(C, 5))}, "do not fit"),
        ({"bias": torch.zeros(3)}, r"bias must be \[20\]"),
        ({"weight": torch.zeros(C, 4, dtype=torch.bfloat16)}, "cast one of them"),
        ({"count": 0}, "count must be above 0"),
        ({"count": torch.tensor(-2.0)}, "count must be above 0"),
        ({"row_weight": -torch.ones(N), "sequence": torch.zeros(N, dtype=torch.int64)}, "must not be negative"),
    ],
)
def test_what_a_loss_on_hidden_states_cannot_use_is_named(given: dict[str, Any], words: str) -> None:
    teacher = given.pop("teacher", drawn()[3])
    with pytest.raises(ValueError, match=words):
        loss(teacher, **given)


def test_a_batch_without_a_token_is_worth_0_whatever_its_count() -> None:
    assert float(loss(drawn()[3], target=torch.full((N,), -100), count=0).detach()) == 0.0
