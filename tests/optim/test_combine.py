"""Combine rules equal their twins and the golden numbers; what they promise; what they refuse."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fractionate as fr
from fractionate.optim import StreamGrads
from fractionate.optim.products import BrokenGradient, log_scales, products, projection_weights, shortest
from tests import golden
from tests.optim.problem import DKD, Shifted, network, rows
from tests.reference import combine as slow

GOLDEN = [golden.Case(record) for record in golden.table("combine.json")["cases"]]
CASES = [c for c in GOLDEN if c.method in ("MinNorm", "DTO-KD", "PCGrad")]
RULES = ("total", "min_norm", "min_norm_log", "pcgrad")
DOT = fr.methods.dot(DKD, delta=0.0)


def streams(g: Tensor) -> dict[str, list[Tensor]]:
    """Rows of a matrix as streams over two parameters."""
    return {f"s{i}": [row[:3].clone(), row[3:].clone().view(-1, 1)] for i, row in enumerate(g)}


def flat(gradient: tuple[Tensor | None, ...]) -> Tensor:
    return torch.cat([g.flatten() for g in gradient if g is not None])


def by_name(losses: Tensor) -> dict[str, Tensor]:
    return {f"s{i}": x for i, x in enumerate(losses)}


def drawn(k: int, seed: int, d: int = 6) -> Tensor:
    """Gradients of unlike lengths, some close to parallel, some against each other."""
    random = torch.Generator().manual_seed(seed)
    g = torch.randn(k, d, generator=random, dtype=torch.float64)
    g = g + torch.randn(1, d, generator=random, dtype=torch.float64) * float(torch.randint(-1, 3, (), generator=random))
    return g * 10 ** (2 * torch.rand(k, 1, generator=random, dtype=torch.float64) - 1)


# -- golden numbers, twins -------------------------------------------------------------------------


def twin(case: golden.Case, g: Tensor, losses: Tensor | None) -> tuple[Tensor, Tensor]:
    if case.method == "PCGrad":
        return slow.pcgrad(g, case.hyper["orders"])
    return slow.min_norm(g) if case.method == "MinNorm" else slow.min_norm_of_logs(g, losses)


def ours(case: golden.Case, g: Tensor, losses: Tensor | None) -> tuple[Tensor, Tensor]:
    given, k = streams(g), len(g)
    if case.method == "PCGrad":
        w = torch.tensor(projection_weights(products(given), case.hyper["orders"]), dtype=g.dtype)
        direction = flat(fr.combine.pcgrad(given)) if k == 2 else w @ g
        return direction, w
    if case.method == "MinNorm":
        return flat(fr.combine.min_norm(given)), torch.tensor(
            [*fr.combine.weights(given, "min_norm").values()], dtype=g.dtype
        )
    w = fr.combine.weights(given, "min_norm_log", by_name(losses))
    return flat(fr.combine.min_norm(given, by_name(losses), log=True)), torch.tensor([*w.values()], dtype=g.dtype)


@pytest.mark.parametrize("rule", [twin, ours])
@pytest.mark.parametrize("case", [c for c in CASES if c.record["check"] == "reference"], ids=lambda c: c.id)
def test_golden(case: golden.Case, rule: Any) -> None:
    inputs = case.inputs()
    direction, weights = rule(case, inputs["grads"], inputs.get("losses"))
    golden.assert_close(direction, case.array(case.outputs["direction"]), f"{case.id} direction")
    if "weights" in case.outputs and "equal" not in case.id:  # equal gradients may share the weight in any way
        golden.assert_close(weights, case.array(case.outputs["weights"]), f"{case.id} weights")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(0, 10**6))
def test_the_shortest_vector_is_the_best_over_all_sets_of_streams(k: int, seed: int) -> None:
    g = drawn(k, seed)
    direction, reference = flat(fr.combine.min_norm(streams(g))), slow.min_norm(g)[0]
    assert float((direction - reference).norm()) <= 1e-6 * float(g.norm(dim=1).max())
    assert float(direction.norm()) <= float(reference.norm()) + 1e-9 * float(g.norm(dim=1).max())


# -- what the rules promise ------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10**6))
def test_no_loss_rises_along_the_shortest_vector(k: int, seed: int) -> None:
    """<d, g_i> >= |d|^2, with equality where the weight is above 0."""
    g = drawn(k, seed)
    w = torch.tensor(shortest(g @ g.T), dtype=torch.float64)
    d = w @ g
    slack = (g @ d - d @ d) / g.norm(dim=1) / g.norm(dim=1).max()
    assert float(w.sum()) == pytest.approx(1)
    assert bool((w >= 0).all())
    assert float(slack.min()) > -1e-9
    assert float(slack[w > 1e-6].abs().max()) < 1e-9


@pytest.mark.parametrize("seed", range(6))
def test_a_factor_on_a_loss_changes_nothing_of_logarithms(seed: int) -> None:
    g, losses = drawn(2, seed), torch.tensor([0.3, 2.0], dtype=torch.float64)
    factors = torch.tensor([[7.0], [0.2]], dtype=torch.float64)
    one = flat(fr.combine.min_norm(streams(g), by_name(losses), log=True))
    other = flat(fr.combine.min_norm(streams(factors * g), by_name(factors[:, 0] * losses), log=True))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_agreeing_streams_leave_all_weight_to_the_short_one_and_their_sum_to_pcgrad() -> None:
    given = streams(torch.tensor([[1.0, 0, 0, 0], [3.0, 1, 0, 0]]))
    assert fr.combine.weights(given, "min_norm") == {"s0": 1.0, "s1": 0.0}
    assert fr.combine.weights(given, "pcgrad") == fr.combine.weights(given, "total") == {"s0": 1.0, "s1": 1.0}


def test_two_conflicting_streams_are_projected_off_each_other() -> None:
    g = torch.tensor([[1.0, 0, 0, 0], [-1.0, 2, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(flat(fr.combine.pcgrad(streams(g))), g[0] + g[1] - (g[1] @ g[0]) * (g[0] + g[1] / 5))
    assert float(flat(fr.combine.pcgrad(streams(torch.stack([g[0], -g[0]])))).norm()) == 0


def test_the_orders_of_three_streams_follow_the_seed_and_no_other_generator() -> None:
    given = streams(torch.tensor([[1.0, 0, 0, 1], [-1.0, 1, 0, 0], [0.0, -1, 0.5, -2]]))
    found = []
    for seed in (5, 5, 6, 7, 8):
        torch.manual_seed(len(found))
        found.append(tuple(fr.combine.weights(given, "pcgrad", seed=seed).values()))
    assert found[0] == found[1]
    assert len(set(found)) > 1
    torch.manual_seed(0)
    one = fr.combine.pcgrad(given)
    torch.manual_seed(0)
    assert torch.equal(flat(one), flat(fr.combine.pcgrad(given)))


def test_the_total_is_the_gradient_of_the_summed_loss() -> None:
    net = network()
    losses = DOT.stream_losses(rows(net, 0), merge=False)
    gradient = fr.combine.total(fr.stream_grads(losses, net))
    DKD.loss(rows(net, 0)).backward()
    for p, g in zip(net.parameters(), gradient, strict=True):
        torch.testing.assert_close(g, p.grad, rtol=1e-12, atol=1e-14)


# -- missing, zero, one, unlike --------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_one_stream_keeps_its_direction(rule: str) -> None:
    g = drawn(1, 0)
    found = fr.combine.weights(streams(g), rule, {"s0": 4.0})
    assert found == {"s0": 0.25 if rule == "min_norm_log" else 1.0}


@pytest.mark.parametrize("rule", RULES)
def test_missing_gradients_are_zeros_and_what_nobody_reaches_stays_without(rule: str) -> None:
    p = [torch.zeros(2), torch.zeros(1), torch.zeros(3)]
    some = {"a": (torch.ones(2), None, None), "b": (None, -torch.ones(1), None)}
    full = {"a": (torch.ones(2), torch.zeros(1), None), "b": (torch.zeros(2), -torch.ones(1), None)}
    losses = {"a": 1.0, "b": 2.0}
    one, two = (fr.combine.combined(StreamGrads(x, tuple(p)), rule, losses)["loss"] for x in (some, full))
    assert one[2] is None
    assert two[2] is None
    assert torch.equal(flat(one), flat(two))
    assert all(g.shape == q.shape for g, q in zip(one, p, strict=True) if g is not None)


@pytest.mark.parametrize("empty", [None, torch.zeros(3)], ids=["none", "zero"])
def test_a_stream_without_gradient_does_not_stop_the_others(empty: Tensor | None) -> None:
    g = torch.tensor([1.0, 2.0, 3.0])
    for count in (1, 2):
        given = {f"s{i}": [g + i] for i in range(count)} | {"empty": [empty]}
        assert fr.combine.weights(given, "min_norm")["empty"] == 0
        for rule in ("min_norm", "pcgrad"):
            assert sum(x for x in fr.combine.weights(given, rule).values()) > 0
        assert float(flat(fr.combine.min_norm(given)).norm()) >= float(g.norm()) - 1e-6


@pytest.mark.parametrize("rule", RULES)
def test_nothing_but_zeros_gives_zeros(rule: str) -> None:
    grads = StreamGrads({"a": (torch.zeros(2), None), "b": (None, torch.zeros(1))}, (torch.zeros(2), torch.zeros(1)))
    found = fr.combine.combined(grads, rule, {"a": 1.0, "b": 1.0})["loss"]
    assert [g.tolist() for g in found] == [[0.0, 0.0], [0.0]]


def test_equal_gradients_share_the_weight() -> None:
    g = torch.randn(1, 7, generator=torch.Generator().manual_seed(0))
    assert fr.combine.weights(streams(g.repeat(2, 1)), "min_norm") == {"s0": 0.5, "s1": 0.5}
    direction = flat(fr.combine.min_norm(streams(g.repeat(4, 1))))
    torch.testing.assert_close(direction, g[0])


def test_frozen_parameters_stay_without_gradient_and_keep_it_out_of_the_products() -> None:
    net, part = network(), network()
    net[0].requires_grad_(False)
    grads = fr.stream_grads(DOT.stream_losses(rows(net, 0), merge=False), net)
    part[0].requires_grad_(False)
    alone = fr.stream_grads(DOT.stream_losses(rows(part, 0), merge=False), part[2].parameters())
    gradient = fr.combine.min_norm(grads)
    assert gradient[:2] == (None, None)
    for g, h in zip(gradient[2:], fr.combine.min_norm(alone), strict=True):
        torch.testing.assert_close(g, h, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_products_are_of_float64_whatever_the_gradients_are(dtype: torch.dtype) -> None:
    """65504 squared is beyond float16, 1e30 squared beyond float32; sums of many small numbers keep their digits."""
    large = 1e30 if dtype != torch.float16 else 6e4
    g = torch.tensor([[large, 0, 0, 0], [0, large, 0, 0]], dtype=dtype)
    found = fr.combine.min_norm(streams(g))
    assert all(x.dtype == dtype for x in found)
    assert fr.combine.weights(streams(g), "min_norm") == {"s0": 0.5, "s1": 0.5}
    many = {"a": [torch.full((70_000,), 0.01, dtype=dtype)], "b": [torch.full((70_000,), 0.02, dtype=dtype)]}
    one, two = float(many["a"][0][0]), float(many["b"][0][0])
    assert float(products(many)[0, 1]) == pytest.approx(70_000 * one * two, rel=1e-12)


def test_lengths_that_differ_by_much_do_not_hide_a_conflict() -> None:
    g = torch.tensor([[1e-8, 0, 0, 0], [-1e4, 1e4, 0, 0], [0, 0, 1e4, 0]], dtype=torch.float64)
    d = torch.tensor(shortest(g @ g.T), dtype=torch.float64) @ g
    assert float(g[1] @ d) >= float(d @ d) * (1 - 1e-9) > 0


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("rule", RULES[1:])
def test_gradients_that_are_not_finite_are_refused_by_name(rule: str, value: float) -> None:
    given = {"task": [torch.ones(2)], "kd": [torch.tensor([1.0, value])]}
    with pytest.raises(BrokenGradient, match=r"stream 'kd' is not finite") as raised:
        fr.combine.weights(given, rule, {"task": 1.0, "kd": 1.0})
    assert raised.value.stream == "kd"


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (None, "need the loss of every stream"),
        ({"task": 1.0}, r"none of \['kd'\]"),
        ({"task": 1.0, "kd": 0.0}, "'kd' is 0"),
        ({"task": -0.5, "kd": 1.0}, "'task' is -0.5"),
        ({"task": float("nan"), "kd": 1.0}, "'task' is nan"),
    ],
)
def test_losses_without_a_logarithm_are_refused(losses: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fr.combine.min_norm({"task": [torch.ones(2)], "kd": [torch.ones(2)]}, losses, log=True)


@pytest.mark.parametrize(("loss", "factor"), [(0.5, 2.0), (1e-8, 1e8), (1e-30, 1e8)])
def test_the_logarithm_of_a_loss_that_vanishes_has_no_more_than_a_hundred_million_times_its_gradient(
    loss: float, factor: float
) -> None:
    assert log_scales(["a"], {"a": loss}) == pytest.approx([factor], rel=1e-12)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("grads", "rule", "message"),
    [
        ({"a": [torch.ones(1)]}, "minnorm", "unknown rule 'minnorm': did you mean 'min_norm'"),
        ({}, "total", "no stream"),
        ({"a": [torch.ones(1)], "b": []}, "min_norm", "every stream needs a gradient, or None"),
    ],
)
def test_what_cannot_be_combined_is_refused(grads: Any, rule: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fr.combine.weights(grads, rule)


# -- where the gradient goes -----------------------------------------------------------------------


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop], ids=lambda m: m.__name__)
def test_any_torch_optimizer_takes_it_and_every_loss_falls(make: Any) -> None:
    net = network()
    optimizer = make(net.parameters(), lr=0.01)
    before = {name: x.item() for name, x in DOT.stream_losses(rows(net, 0), merge=False).items()}
    for _ in range(30):
        losses = DOT.stream_losses(rows(net, 0), merge=False)
        fr.combine.into_grad(net, fr.combine.min_norm(fr.stream_grads(losses, net), losses, log=True))
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    after = {name: x.item() for name, x in DOT.stream_losses(rows(net, 0), merge=False).items()}
    assert all(after[name] < before[name] for name in before)


def test_a_gradient_that_does_not_fit_is_refused_before_any_is_written() -> None:
    net = nn.Linear(2, 1)
    with pytest.raises(ValueError, match="got 1 gradients for 2 parameters"):
        fr.combine.into_grad(net, [torch.ones(1, 2)])
    with pytest.raises(ValueError, match=r"shape \[2\] for a parameter of \[1\]"):
        fr.combine.into_grad(net, [torch.ones(1, 2), torch.ones(2)])
    assert net.weight.grad is None


@pytest.mark.parametrize("shape", [(5, 6), (30,)])
def test_gradients_of_two_parameters_in_one_memory_are_clipped_and_unscaled_once(shape: tuple[int, ...]) -> None:
    """Of a weight that is base + delta; and where one gradient is given for both."""
    net, wanted = Shifted(*shape), Shifted(*shape)
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    for scale in (1.0, 1024.0):
        scaler, plain = (torch.amp.GradScaler("cpu", init_scale=scale) for _ in range(2))
        optimizers = [torch.optim.SGD(n.parameters(), lr=1.0) for n in (net, wanted)]
        loss = scaler.scale(net(x).square().mean())
        fr.combine.into_grad(net, fr.combine.total(fr.stream_grads({"loss": loss}, net)))
        wanted.zero_grad()
        plain.scale(wanted(x).square().mean()).backward()
        for n, s, o in zip((net, wanted), (scaler, plain), optimizers, strict=True):
            s.unscale_(o)
            nn.utils.clip_grad_norm_(n.parameters(), 0.1)
        for p, q in zip(net.parameters(), wanted.parameters(), strict=True):
            assert torch.equal(p.grad, q.grad)


def test_gradients_are_copied_where_they_lie_in_one_memory_and_nowhere_else() -> None:
    """Rows of one tensor, as AllReduce gives them, do not overlap; one number shown many times cannot be scaled."""
    params = [nn.Parameter(torch.zeros(3)) for _ in range(5)]
    flat, one = torch.arange(6.0), torch.ones(1).expand(3)
    given = [flat[:3], flat[3:], flat[1:4], one, flat[:3]]
    fr.combine.into_grad(params, given)
    kept = [p.grad.data_ptr() == g.data_ptr() for p, g in zip(params, given, strict=True)]
    assert kept == [True, True, False, False, False]
    expected = [(0.5 * g).tolist() for g in given]
    for p in params:
        p.grad.mul_(0.5)
    assert [p.grad.tolist() for p in params] == expected


@pytest.mark.parametrize("make", [fr.StreamSGD, fr.StreamAdamW])
def test_stream_optimizers_of_one_momentum_take_the_total_as_the_summed_loss(make: Any) -> None:
    net, other = network(), network()
    opts = [make(n.parameters(), 0.05) for n in (net, other)]
    for step in range(5):
        grads = fr.stream_grads(DOT.stream_losses(rows(net, step), merge=False), net)
        opts[0].step(fr.combine.combined(grads, "total"))
        opts[1].step(fr.stream_grads({"loss": DKD.loss(rows(other, step))}, other))
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


def test_combining_leaves_the_streams_as_they_are() -> None:
    net = network()
    losses = DOT.stream_losses(rows(net, 0), merge=False)
    grads = fr.stream_grads(losses, net)
    before = copy.deepcopy(dict(grads))
    for rule in RULES:
        fr.combine.combined(grads, rule, losses)
    for name, row in before.items():
        assert all(torch.equal(g, h) for g, h in zip(row, grads[name], strict=True))


def test_a_function_of_the_matrix_of_streams_takes_the_place_of_a_rule() -> None:
    net = network()
    net[0].bias.requires_grad_(False)
    grads = fr.stream_grads(DOT.stream_losses(rows(net, 0), merge=False), net)
    for ours, theirs in zip(fr.combine.aggregated(grads, lambda m: m.sum(0)), fr.combine.total(grads), strict=True):
        assert (ours is None and theirs is None) or torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["IMTLG", "PCGrad", "MGDA"])
def test_torchjd_s_aggregators_fit(name: str) -> None:
    torchjd = pytest.importorskip("torchjd.aggregation", reason="pip install torchjd")
    net = network()
    grads = fr.stream_grads(DOT.stream_losses(rows(net, 0), merge=False), net)
    found = fr.combine.aggregated(grads, getattr(torchjd, name)())
    assert [g.shape for g in found] == [p.shape for p in net.parameters()]
    if name == "PCGrad":
        torch.testing.assert_close(flat(found), flat(fr.combine.pcgrad(grads)), rtol=1e-9, atol=1e-12)
