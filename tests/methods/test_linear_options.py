"""What language models do around their output matrix: caps, factors, padding, packed sequences, drawn teachers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate import LinearLogits, Method
from fractionate.language import on_sampled_logits, on_top_logits, sequence_weights
from fractionate.losses import SampledLogits, sampled_kl
from tests import cases
from tests.asserts import assert_equal, assert_same
from tests.methods.language import Words, gradients, words

DIRECTIONS = ["forward", "reverse", "jsd(beta=0.3)", "skew(lam=0.1)", "skew_reverse(lam=0.1)"]
METHODS: dict[str, Callable[[str], Method]] = {
    "kd": lambda d: fr.methods.kd(temperature=2.0, direction=d),
    "dkd": lambda d: fr.methods.dkd(temperature=2.0, direction=d),
    "gdkd": lambda d: fr.methods.gdkd(k=3, temperature=2.0, direction=d),
    "deepkd(kd)": lambda d: fr.methods.deepkd(fr.methods.kd(temperature=2.0, direction=d)),
}


def loss(method: Method, w: Words, chunk: int = 3, **more: object) -> Tensor:
    given = {"teacher": w.teacher, "bias": w.bias, "chunk": chunk} | more
    return fr.linear_loss(method, w.hidden, w.weight, w.target, **given)


def assert_losses_agree(found: Tensor, expected: Tensor, w: Words, rtol: float = 1e-9) -> None:
    assert_equal(found, expected, rtol=rtol)
    assert_same(gradients(found, w.leaves), gradients(expected, w.leaves), rtol)


# -- directions ------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", METHODS)
def test_every_direction_equals_the_plain_path(name: str, direction: str) -> None:
    """Dense teachers and teachers of hidden states, in float64 and, by the kernels, in float32."""
    w, other, method = words(), words(d=3, seed=1), METHODS[name](direction)
    lazy = LinearLogits(*other.leaves)
    assert_losses_agree(loss(method, w), method.loss(w.rows), w)
    expected = method.loss(fr.rows.tokens(w.logits, other.logits, w.target))
    assert_losses_agree(loss(method, w, teacher=lazy), expected, w)
    low = w.to(torch.float32)
    found = loss(method, low)
    assert_equal(found.double(), method.loss(w.rows), rtol=1e-5)
    exact = gradients(method.loss(w.rows), w.leaves)
    assert_same({k: x.double() for k, x in gradients(found, low.leaves).items()}, exact, 2e-5)


# -- caps and factors ------------------------------------------------------------------------

CAPS = {"cap": (5.0, 1.0), "factor": (None, 0.25), "both": (3.0, 2.0)}


@pytest.mark.parametrize("name", CAPS)
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_capped_and_scaled_logits_equal_the_plain_path(name: str, direction: str) -> None:
    cap, factor = CAPS[name]

    def head(z: Tensor) -> Tensor:
        return factor * z if cap is None else cap * torch.tanh(factor * z / cap)

    w, other = words(), words(d=3, seed=1)
    method = fr.methods.gdkd(k=3, temperature=2.0, direction=direction)
    options = {"softcap": cap, "logit_scale": factor}
    plain = method.loss(fr.rows.tokens(head(w.logits), w.teacher, w.target))
    assert_losses_agree(loss(method, w, **options), plain, w)
    lazy = LinearLogits(*other.leaves, softcap=cap, logit_scale=factor)
    plain = method.loss(fr.rows.tokens(w.logits, head(other.logits), w.target))
    assert_losses_agree(loss(method, w, teacher=lazy), plain, w)
    kept, capped = w.target != -100, fr.rows.tokens(head(w.logits), w.teacher, w.target)
    plain = on_top_logits(method, fr.TopLogits.of(w.teacher[kept], 4, 2.0)).loss(capped)
    assert_losses_agree(loss(method, w, teacher=fr.TopLogits.of(w.teacher, 4, 2.0), **options), plain, w)


def test_bfloat16_logits_are_capped_in_float32() -> None:
    exact = words(t=40)
    low = exact.to(torch.bfloat16)
    method = fr.methods.kd()
    found, expected = loss(method, low, softcap=5.0), loss(method, exact, softcap=5.0)
    assert_equal(found.double(), expected, rtol=1e-2)


@pytest.mark.parametrize("wrong", [{"softcap": 0.0}, {"logit_scale": -1.0}, {"softcap": float("inf")}])
def test_a_cap_or_a_factor_must_be_positive(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        loss(fr.methods.kd(), words(), **wrong)


# -- vocabularies ----------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_padded_vocabularies_are_cut(direction: str) -> None:
    """Student padded to 11 classes, teacher to 13, of which 9 are words; the padding gets no gradient."""
    w, other = words(), words(d=3, c=13, seed=1)
    w = w._replace(target=w.target.clamp(max=8))
    method = fr.methods.dkd(temperature=2.0, direction=direction)
    for teacher, dense in ((other.logits.detach(), other.logits), (LinearLogits(*other.leaves), other.logits)):
        found = loss(method, w, teacher=teacher, vocabulary=9)
        plain = method.loss(fr.rows.tokens(w.logits[..., :9], dense[..., :9], w.target))
        assert_losses_agree(found, plain, w)
        assert not gradients(found, w.leaves)["weight"][9:].any()
    with pytest.raises(ValueError, match=r"13 classes, the student 11.*vocabulary=11"):
        loss(method, w, teacher=other.logits)
    with pytest.raises(ValueError, match=r"vocabulary=12 must lie in 1\.\.11, the student's classes"):
        loss(method, w, teacher=other.logits, vocabulary=12)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.7"):
        loss(method, w._replace(target=w.target.fill_(8)), teacher=other.logits, vocabulary=8)


# -- packed sequences ------------------------------------------------------------------------


def test_packed_sequences_count_alike() -> None:
    """The mean over sequences of the mean over their tokens, whatever row they are packed into, and in any chunks."""
    w, method = words(ignored=0.0), fr.methods.kd()
    ids = torch.tensor([[0, 0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 0, 0, 0]])
    logits, means = w.logits, []
    for row, number in ((0, 0), (0, 1), (0, 2), (1, 0)):
        at = ids[row] == number
        means.append(
            method.loss(fr.rows.tokens(logits[row][None, at], w.teacher[row][None, at], w.target[row][None, at]))
        )
    for chunk in (1, 5, 100):
        assert_losses_agree(loss(method, w, chunk, sequence=ids), torch.stack(means).mean(), w)


def test_one_sequence_a_row_is_the_mean_over_sequences_of_rows() -> None:
    w, method = words(), fr.methods.dkd()
    plain = method.loss(fr.rows.tokens(w.logits, w.teacher, w.target, mean_over="sequences"))
    assert_losses_agree(loss(method, w, sequence=torch.zeros(2, 7, dtype=torch.int64)), plain, w)


def test_position_numbers_that_start_again_tell_the_sequences() -> None:
    position = torch.tensor([[0, 1, 0, 1, 2]])
    kept = torch.tensor([[True, True, False, True, True]])
    weight = sequence_weights((position == 0).cumsum(1), kept, torch.tensor([[3.0, 1.0, 9.0, 1.0, 1.0]]))
    assert_equal(weight, torch.tensor([[0.75, 0.25, 0.0, 0.5, 0.5]]))
    with pytest.raises(ValueError, match="sequence must be integers"):
        sequence_weights(position[:, 1:], kept)


def test_tokens_in_one_line_belong_to_the_sequence_of_their_number() -> None:
    weight = sequence_weights(torch.tensor([0, 0, 7, 0]), torch.tensor([True, True, True, False]))
    assert_equal(weight, torch.tensor([0.5, 0.5, 1.0, 0.0]))


# -- drawn teachers --------------------------------------------------------------------------

T = 2.0


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_drawn_classes_give_kd_and_its_gradient_on_average(power: float) -> None:
    """Within five standard errors of 4000 draws; the best classes alone are further away."""
    n, lg = 4000, cases.easy(1, 12, strong=False)
    student = lg.student.expand(n, -1).clone().requires_grad_()
    drawn = SampledLogits.of(lg.teacher.expand(n, -1), 3, T, power=power, generator=torch.Generator().manual_seed(0))
    rows = sampled_kl(student, drawn)
    (grad,) = torch.autograd.grad(rows.sum(), student)
    one = lg.student.clone().requires_grad_()
    exact = fr.split_kl(one, lg.teacher, fr.losses.whole(lg), T, fused=False).total
    (expected,) = torch.autograd.grad(exact.sum(), one)
    for found, right in ((rows.detach()[:, None], exact.detach()[:, None]), (grad, expected)):
        error = (found.mean(0) - right[0]).abs()
        assert bool((error <= 5 * found.std(0) / n**0.5 + 1e-12).all())


def test_all_classes_with_their_probabilities_are_kd() -> None:
    lg = cases.easy(4, 9, strong=False)
    log_p = (lg.teacher / T).log_softmax(1)
    every = SampledLogits(torch.arange(9).expand(4, -1), log_p, log_p.exp(), T)
    method = fr.methods.kd(temperature=T)
    assert_equal(on_sampled_logits(method, every).components(lg)["kd"], method.components(lg)["kd"])
    w = words()
    log_p = (w.teacher / T).log_softmax(2)
    every = SampledLogits(torch.arange(11).expand(2, 7, -1), log_p, log_p.exp(), T)
    for wrapped in (method, fr.methods.dot(method), fr.only(method, ["kd"])):
        streams = [
            fr.linear_stream_losses(wrapped, w.hidden, w.weight, w.target, teacher=t, bias=w.bias, chunk=4)
            for t in (every, w.teacher)
        ]
        assert_same(*streams)


def test_huge_logits_of_a_drawn_teacher_stay_finite() -> None:
    lg = cases.huge()
    student = lg.student.clone().requires_grad_()
    drawn = SampledLogits.of(lg.teacher, 3, T, generator=torch.Generator().manual_seed(0))
    value = sampled_kl(student, drawn).sum()
    assert bool(value.isfinite())
    assert bool(torch.autograd.grad(value, student)[0].isfinite().all())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: fr.methods.kd(temperature=T, direction="reverse"),
            "only the forward direction.*direction=reverse",
        ),
        (lambda: fr.methods.dkd(temperature=T), "and so kd"),
        (lambda: fr.methods.deepkd(fr.methods.kd(temperature=T)), "and so kd"),
        (lambda: fr.methods.kd(), r"temperature 4.0, .* drawn at 2.0 .*with_args"),
    ],
)
def test_a_method_that_draws_cannot_give_without_a_bias_is_refused(make: Callable[[], Method], message: str) -> None:
    w = words()
    drawn = SampledLogits.of(w.teacher, 3, T)
    with pytest.raises(ValueError, match=message):
        loss(make(), w, teacher=drawn)


@pytest.mark.usefixtures("unchecked")
def test_malformed_draws_are_refused() -> None:
    good = SampledLogits.of(torch.randn(3, 5), 2)
    with pytest.raises(ValueError, match=r"all \[..., m\]"):
        replace(good, weights=good.weights[:, :1])
    with pytest.raises(ValueError, match="int32 or int64"):
        replace(good, indices=good.indices.float())
