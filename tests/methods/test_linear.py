"""Losses from hidden states equal the losses of the logits they would have made, in values and gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate import Method
from tests.asserts import assert_equal, assert_same
from tests.methods.language import Words, gradients, words

METHODS: dict[str, Callable[[], Method]] = {
    "kd": lambda: fr.methods.kd(),
    "dkd": lambda: fr.methods.dkd(warmup=1),
    "dkd_top1": lambda: fr.methods.dkd_top1(warmup=1),
    "gdkd": lambda: fr.methods.gdkd(k=3, warmup=1),
    "gdkd-reverse": lambda: fr.methods.gdkd(k=3, warmup=1, kl="reverse"),
    "gdkd3": lambda: fr.methods.gdkd3(k=3, warmup=1),
    "nkd": lambda: fr.methods.nkd(),
    "lskd": lambda: fr.methods.lskd(fr.methods.kd()),
    "deepkd": lambda: fr.methods.deepkd(fr.methods.dkd(warmup=1)),
    "deepkd-kd": lambda: fr.methods.deepkd(fr.methods.kd(), delta_task=0.02),
    "deepkd-mask": lambda: fr.methods.deepkd(fr.methods.dkd(warmup=1), keep=4),
    "dot-gdkd": lambda: fr.methods.dot(fr.methods.gdkd(k=3, warmup=1)),
}
CHUNKS = (1, 3, 1000)


def streams(method: Method, w: Words, chunk: int, **more: object) -> dict[str, Tensor]:
    return fr.linear_stream_losses(
        method, w.hidden, w.weight, w.target, teacher=w.teacher, bias=w.bias, chunk=chunk, **more
    )


def loss(method: Method, w: Words, chunk: int = 3, **more: object) -> Tensor:
    given = {"teacher": w.teacher, "bias": w.bias, "chunk": chunk} | more
    return fr.linear_loss(method, w.hidden, w.weight, w.target, **given)


def rows_under_autocast(w: Words) -> fr.Logits:
    """Autocast makes bfloat16 logits; the teacher keeps its precision."""
    return fr.rows.tokens(w.logits.float(), w.teacher, w.target)


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("name", METHODS)
def test_every_stream_equals_the_plain_path(name: str, chunk: int) -> None:
    w, method = words(), METHODS[name]()
    for merge in (None, False):
        plain, fast = method.stream_losses(w.rows, merge=merge), streams(method, w, chunk, merge=merge)
        assert_same(fast, plain)
        for stream in plain:
            assert_same(gradients(fast[stream], w.leaves), gradients(plain[stream], w.leaves))


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_equals_the_plain_path(name: str) -> None:
    w, method = words(), METHODS[name]()
    plain, fast = method.loss(w.rows), loss(method, w)
    assert_equal(fast, plain)
    assert_same(gradients(fast, w.leaves), gradients(plain, w.leaves))


def test_streams_are_differentiated_one_by_one_and_together() -> None:
    """One backward each through the whole network, or one of their weighted sum: both as in the plain path."""
    w, method = words(), fr.methods.deepkd(fr.methods.dkd(), delta_task=0.02)
    fast, plain = streams(method, w, 4), method.stream_losses(w.rows)
    assert list(fast) == ["task", "target", "nontarget"]
    one_by_one = [fr.stream_grads(losses, w.leaves) for losses in (fast, plain)]
    for stream in plain:
        for a, b in zip(one_by_one[0][stream], one_by_one[1][stream], strict=True):
            assert_equal(a, b, stream)
    fast, plain = streams(method, w, 4), method.stream_losses(w.rows)
    mixed = [sum(i * x for i, x in enumerate(losses.values(), 2)) for losses in (fast, plain)]
    assert_same(gradients(mixed[0], w.leaves), gradients(mixed[1], w.leaves))


def test_progress_reaches_the_schedules() -> None:
    w, method = words(), fr.methods.dkd(warmup=20)
    progress = fr.Progress(epoch=5)
    assert_equal(loss(method, w, progress=progress), method.loss(w.rows, progress))


def test_ignored_tokens_are_not_there() -> None:
    """Their hidden states get no gradient, and what they hold, NaN even, makes no difference."""
    w, method = words(), fr.methods.dkd()
    gone = w.target == -100
    assert 0 < gone.sum() < gone.numel()
    hidden = w.hidden.detach().masked_fill(gone[..., None], torch.nan).requires_grad_()
    teacher = w.teacher.masked_fill(gone[..., None], torch.nan)
    spoilt = w._replace(hidden=hidden, teacher=teacher)
    assert_equal(loss(method, spoilt), loss(method, w))
    found, expected = gradients(loss(method, spoilt), spoilt.leaves), gradients(loss(method, w), w.leaves)
    assert_same(found, expected)
    assert not found["hidden"][gone].any()


def test_the_mean_is_over_the_kept_tokens_of_the_whole_batch() -> None:
    w, method = words(), fr.methods.kd()
    kept = int((w.target != -100).sum())
    parts = [loss(method, Words(w.hidden[i], w.weight, w.bias, w.target[i], w.teacher[i]), count=kept) for i in (0, 1)]
    assert_equal(parts[0] + parts[1], loss(method, w))
    assert_equal(loss(method, w, count=torch.tensor(2.0 * kept)), loss(method, w) / 2)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_row_weights_weigh_the_mean(chunk: int) -> None:
    """Weights equal repeated tokens, and a chunk of weight 0 adds nothing."""
    w, method = words(ignored=0), fr.methods.dkd()
    times = torch.tensor([[2, 0, 1, 0, 0, 0, 3], [1, 0, 0, 0, 0, 0, 0]])
    repeated = [x.flatten(0, 1).repeat_interleave(times.flatten(), 0) for x in (w.hidden, w.target, w.teacher)]
    expected = loss(method, Words(repeated[0], w.weight, w.bias, repeated[1], repeated[2]), chunk)
    weighted = loss(method, w, chunk, row_weight=times.double())
    assert_equal(weighted, expected)
    assert_same(gradients(weighted, w.leaves), gradients(expected, w.leaves))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("tokens", [0, 3])
def test_no_kept_token_gives_zero_with_a_graph(name: str, tokens: int) -> None:
    w, method = words(t=tokens, ignored=1.1), METHODS[name]()
    for value in streams(method, w, 2).values():
        assert value.item() == 0
        assert not any(g.any() for g in gradients(value, w.leaves).values())


def test_frozen_sources_get_no_gradient() -> None:
    """Only what requires a gradient is accumulated: with the matrix frozen, nothing of its size is made."""
    w, method = words(), fr.methods.kd()
    frozen = w._replace(weight=w.weight.detach(), bias=None)
    value = fr.linear_loss(method, frozen.hidden, frozen.weight, w.target, teacher=w.teacher, chunk=3)
    kept = [x for x in value.grad_fn.next_functions[0][0].saved_tensors if x is not None]
    assert [x.shape for x in kept] == [(14, 5)]
    plain = method.loss(fr.rows.tokens(frozen.hidden @ frozen.weight.T, w.teacher, w.target))
    assert_equal(*(torch.autograd.grad(x, frozen.hidden)[0] for x in (value, plain)))
    with torch.no_grad():
        assert not loss(method, w).requires_grad


def test_a_matrix_tied_to_the_embedding_gets_both_gradients() -> None:
    w, method = words(ignored=0), fr.methods.kd()
    ids = torch.arange(14).view(2, 7) % 11
    hidden = torch.nn.functional.embedding(ids, w.weight).tanh()
    fast = fr.linear_loss(method, hidden, w.weight, w.target, teacher=w.teacher, chunk=4)
    plain = method.loss(fr.rows.tokens(hidden @ w.weight.T, w.teacher, w.target))
    assert_equal(*(torch.autograd.grad(x, w.weight, retain_graph=True)[0] for x in (fast, plain)))


def test_teacher_logits_may_be_computed_from_hidden_states() -> None:
    """No gradient reaches the teacher, whose hidden states may be of another width."""
    w, other = words(), words(d=3, seed=1)
    lazy = fr.LinearLogits(*other.leaves)
    found = loss(fr.methods.dkd(), w, teacher=lazy)
    dense = loss(fr.methods.dkd(), w, teacher=other.logits)
    assert_equal(found, dense)
    assert_same(gradients(found, w.leaves), gradients(dense, w.leaves))
    assert torch.autograd.grad(found, other.leaves, allow_unused=True) == (None,) * 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_equals_the_plain_path_up_to_its_rounding(dtype: torch.dtype) -> None:
    """Against float64, at most twice the plain path's error: every chunk's share of a gradient is rounded once."""
    exact = words(t=40)
    low, method = exact.to(dtype), fr.methods.gdkd(k=3, warmup=1)
    reference = gradients(method.loss(exact.rows), exact.leaves)
    fast, plain = gradients(loss(method, low, 16), low.leaves), gradients(method.loss(low.rows), low.leaves)
    for name, expected in reference.items():
        assert fast[name].dtype == dtype
        errors = [float((x[name].double() - expected).norm() / expected.norm()) for x in (fast, plain)]
        assert errors[0] <= 2 * errors[1]
        assert errors[1] < 0.05


def test_gradients_of_float16_do_not_underflow_before_the_loss_is_scaled() -> None:
    """A mean over many tokens has tiny gradients; they are summed unscaled, so a gradient scaler still works."""
    w = words(t=4).to(torch.float16)
    scaled = 2.0**16 * loss(fr.methods.kd(), w, count=2.0**20)
    expected = 2.0**-4 * loss(fr.methods.kd(), w, count=1)
    assert_same(gradients(scaled, w.leaves), gradients(expected, w.leaves), rtol=2e-3)


def test_a_teacher_of_higher_precision_is_not_rounded() -> None:
    w = words()
    low = w.to(torch.float32)._replace(teacher=w.teacher + 1e4)
    assert_equal(loss(fr.methods.kd(), low).double(), loss(fr.methods.kd(), w), rtol=1e-5)


def test_autocast_computes_the_logits_in_its_dtype() -> None:
    w = words().to(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        fast, plain = loss(fr.methods.dkd(), w), fr.methods.dkd().loss(rows_under_autocast(w))
    assert fast.dtype == torch.float32
    assert_equal(fast, plain, rtol=1e-5)
    found, expected = gradients(fast, w.leaves), gradients(plain, w.leaves)
    assert all(x.dtype == torch.float32 for x in found.values())
    assert_same(found, expected, rtol=2e-2)


def test_differentiating_twice_is_refused() -> None:
    w = words()
    with pytest.raises(RuntimeError, match=r"has none; use method\.loss"):
        torch.autograd.grad(loss(fr.methods.kd(), w), w.hidden, create_graph=True)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {"hidden": w.hidden[..., :4]}, r"output matrix \[c, d\].*\[2, 7, 4\], \[11, 5\]"),
        (lambda w: {"target": w.target[:, 1:]}, r"labels \[...\].*\[2, 6\]"),
        (lambda w: {"teacher": w.teacher[..., 1:]}, "teacher has 10 classes, the student 11"),
        (lambda w: {"teacher": w.teacher[:, 1:]}, r"teacher has rows \[2, 6\]"),
        (lambda w: {"row_weight": torch.ones(2)}, "row_weight must be"),
        (lambda w: {"chunk": 0}, "at least 1, got 0"),
        (lambda w: {"method": fr.methods.dist()}, "relates the rows"),
        (lambda w: {"method": fr.methods.mlkd()}, "relates the rows|second view"),
        (lambda w: {"method": fr.methods.ctkd(fr.methods.kd())}, "learns parameters of its own"),
        (lambda w: {"target": w.target.masked_fill(w.target == -100, 11)}, r"labels must lie in 0\.\.10"),
    ],
)
def test_what_cannot_be_computed_is_refused(change: Callable[[Words], dict[str, object]], message: str) -> None:
    w = words()
    given = {"method": fr.methods.kd(), "hidden": w.hidden, "weight": w.weight, "target": w.target}
    with pytest.raises(ValueError, match=message):
        fr.linear_loss(**(given | {"teacher": w.teacher} | change(w)))
