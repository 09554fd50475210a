"""Monitors measure what their formulas say, and never touch what they look at."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import fractionate as fr
from fractionate.monitors import GSNR, cosines, norms, shares
from tests.asserts import assert_equal
from tests.reference.gsnr import gsnr as slow_gsnr


def noisy(count: int, size: int = 50, signal: float = 1.0, noise: float = 1.0, seed: int = 0) -> Iterator[Tensor]:
    """Gradients of one direction plus independent noise."""
    random = torch.Generator().manual_seed(seed)
    direction = torch.randn(size, generator=random).double()
    for _ in range(count):
        yield signal * direction + noise * torch.randn(size, generator=random).double()


def read(gradients: Iterator[Tensor] | list[Tensor], window: int, mode: str = "block") -> fr.monitors.Gsnr:
    monitor = GSNR(window, mode)
    for g in gradients:
        monitor.update({"task": [g]})
    return monitor.read()["task"]


# -- GSNR ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["block", "sliding"])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_a_gradient_that_never_varies_has_infinite_ratio(mode: str, scale: float) -> None:
    constant = scale * torch.linspace(-1, 1, 101)
    found = read([constant] * 7, 7, mode)
    assert found.ratio == math.inf
    assert found.noise == 0
    assert found.signal == pytest.approx(float(constant.double().square().sum()), rel=1e-6)


@pytest.mark.parametrize("mode", ["block", "sliding"])
def test_a_gradient_that_is_always_zero_has_ratio_zero(mode: str) -> None:
    assert read([torch.zeros(4)] * 3, 3, mode) == fr.monitors.Gsnr(0.0, 0.0, 0.0, 3)


@pytest.mark.parametrize("window", [5, 20, 80])
def test_pure_noise_has_a_ratio_of_about_one_over_the_window(window: int) -> None:
    found = read(noisy(window, size=20_000, signal=0.0), window)
    assert found.ratio == pytest.approx(1 / window, rel=0.1)
    assert found.signal < 0.1 * found.noise / window, "the corrected signal is about 0"


@pytest.mark.parametrize("mode", ["block", "sliding"])
@pytest.mark.parametrize("noise", [1e-6, 1.0, 1e3])
def test_both_windows_agree_with_the_slow_estimate(mode: str, noise: float) -> None:
    gradients = list(noisy(9, noise=noise))
    found, slow = read(gradients, 9, mode), slow_gsnr(gradients)
    assert found.ratio == pytest.approx(slow.ratio, rel=1e-9)
    assert found.noise == pytest.approx(slow.noise, rel=1e-9)
    assert found.signal == pytest.approx(slow.corrected_signal, rel=1e-9, abs=1e-12)


def test_float32_gradients_lose_no_small_noise_under_a_large_signal() -> None:
    """A difference of large sums would: their squares are 10 orders of magnitude apart."""
    gradients = [g.float() for g in noisy(50, signal=1e3, noise=1e-2)]
    assert read(gradients, 50).ratio == pytest.approx(slow_gsnr(gradients).ratio, rel=1e-2)


def test_a_block_reports_the_last_full_one_and_a_sliding_window_the_last_gradients() -> None:
    gradients = list(noisy(13))
    block, sliding = read(gradients, 5), read(gradients, 5, "sliding")
    assert block.ratio == pytest.approx(slow_gsnr(gradients[5:10]).ratio)
    assert sliding.ratio == pytest.approx(slow_gsnr(gradients[8:]).ratio)


def test_an_unfinished_first_block_is_reported_and_one_gradient_is_not() -> None:
    gradients = list(noisy(4))
    assert read(gradients, 200).count == 4
    monitor = GSNR(5)
    monitor.update({"task": [gradients[0]]})
    assert monitor.read() == {}


@pytest.mark.parametrize(("mode", "told"), [("block", [5, 10]), ("sliding", [*range(5, 14)])])
def test_a_window_is_told_once_and_an_unfinished_one_not_at_all(mode: str, told: list[int]) -> None:
    gradients, monitor = list(noisy(13)), GSNR(5, mode)
    assert monitor.ended() == {}
    for step, g in enumerate(gradients, start=1):
        monitor.update({"task": [g]})
        found = monitor.ended()["task"]
        assert (found is not None) == (step in told)
        assert found is None or found.ratio == pytest.approx(slow_gsnr(gradients[step - 5 : step]).ratio)
        assert monitor.ended() == {"task": None}


def test_of_several_windows_that_ended_the_last_one_is_told() -> None:
    gradients, monitor = list(noisy(13)), GSNR(5)
    for g in gradients:
        monitor.update({"task": [g]})
    assert monitor.ended() == monitor.read()
    assert monitor.ended() == {"task": None}


def test_the_ratio_is_invariant_to_scale_and_independent_of_how_parameters_are_cut() -> None:
    gradients = list(noisy(6))
    whole = read(gradients, 6)
    assert read([1e4 * g for g in gradients], 6).ratio == pytest.approx(whole.ratio)
    monitor = GSNR(6)
    for g in gradients:
        monitor.update({"task": [g[:20].view(4, 5), None, g[20:]]})
    assert monitor.read()["task"].ratio == pytest.approx(whole.ratio)


def test_a_gradient_that_is_not_a_number_stays_visible() -> None:
    assert math.isnan(read([torch.tensor([1.0]), torch.tensor([math.nan])], 2).ratio)


def test_a_parameter_that_a_stream_reaches_only_sometimes_counts_as_zero_in_between() -> None:
    net, monitor = nn.Linear(2, 1).double(), GSNR(2)
    one = fr.StreamGrads({"a": (torch.ones(1, 2).double(), torch.ones(1).double())}, tuple(net.parameters()))
    other = fr.StreamGrads({"a": (torch.ones(1, 2).double(), None)}, tuple(net.parameters()))
    monitor.update(one)
    monitor.update(other)
    flat = [torch.tensor([1.0, 1, 1]), torch.tensor([1.0, 1, 0])]
    assert monitor.read()["a"].ratio == pytest.approx(slow_gsnr(flat).ratio)


@pytest.mark.parametrize(("window", "mode"), [(1, "block"), (5, "blocks")])
def test_a_window_without_variance_or_an_unknown_mode_is_refused(window: int, mode: str, unchecked: None) -> None:
    with pytest.raises(ValueError, match="window of at least 2 and mode 'block' or 'sliding'"):
        GSNR(window, mode)


# -- norms, cosines, shares --------------------------------------------------------------------


def streams(**values: list[float]) -> dict[str, list[Tensor | None]]:
    """Every value is the gradient of a parameter of its own."""
    return {name: [torch.tensor([v]) for v in row] for name, row in values.items()}


def test_norms_and_shares_by_hand() -> None:
    grads = streams(task=[3.0, 4.0], target=[0.0, 15.0])
    assert norms(grads) == {"task": 5.0, "target": 15.0}
    assert shares(grads) == {"task": 0.25, "target": 0.75}


def test_shares_of_zero_gradients_are_zero() -> None:
    assert shares(streams(a=[0.0], b=[0.0])) == {"a": 0.0, "b": 0.0}


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_cosines_of_parallel_opposite_and_orthogonal_streams_at_any_scale(scale: float) -> None:
    found = cosines(streams(a=[1.0, 1.0], b=[2 * scale, 2 * scale], c=[-scale, -scale], d=[scale, -scale]))
    expected = {("a", "b"): 1, ("a", "c"): -1, ("a", "d"): 0, ("b", "c"): -1, ("b", "d"): 0, ("c", "d"): 0}
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_cosine_with_a_zero_gradient_is_zero() -> None:
    assert cosines(streams(a=[1.0], b=[0.0])) == {("a", "b"): 0.0}


def test_a_parameter_that_one_stream_misses_counts_as_zero() -> None:
    grads = {"a": [torch.tensor([3.0]), torch.tensor([4.0])], "b": [torch.tensor([1.0]), None], "c": [None, None]}
    assert norms(grads) == {"a": 5.0, "b": 1.0, "c": 0.0}
    assert cosines(grads)["a", "b"] == pytest.approx(0.6)


def test_half_precision_gradients_are_measured_in_float32() -> None:
    assert norms({"a": [torch.full((4,), 200.0, dtype=torch.float16)]}) == {"a": 400.0}


# -- observers ---------------------------------------------------------------------------------


def test_monitors_change_no_gradient_no_parameter_and_no_update() -> None:
    watched, alone = (train(watch) for watch in (True, False))
    for a, b in zip(watched, alone, strict=True):
        assert torch.equal(a, b)


def train(watch: bool) -> list[Tensor]:
    """Four steps of DeepKD with separate streams; parameters, buffers and all gradients on the way."""
    torch.manual_seed(0)
    net, method, monitors = nn.Linear(3, 5), fr.methods.deepkd(fr.methods.dkd()), [GSNR(2), GSNR(2, "sliding")]
    opt = fr.StreamSGD(net.parameters(), lr=0.1, momentum=method.momenta(0.9, merge=False))
    seen: list[Tensor] = []
    for _ in range(4):
        lg = fr.Logits(net(torch.randn(6, 3)), torch.randn(6, 5), torch.arange(6) % 5)
        grads = fr.stream_grads(method.stream_losses(lg, merge=False), net)
        if watch:
            for monitor in monitors:
                monitor.update(grads)
                monitor.read()
            assert sum(shares(grads).values()) == pytest.approx(1)
            assert set(norms(grads)) == {"task", "target", "nontarget"}
            assert len(cosines(grads)) == 3
        seen += [g.clone() for stream in grads.values() for g in stream]
        opt.step(grads)
    return seen + [p.detach() for p in net.parameters()] + [v for p in net.parameters() for v in opt.state[p].values()]


def test_the_sum_of_the_streams_has_the_norm_that_norms_and_cosines_imply() -> None:
    random = torch.Generator().manual_seed(1)
    grads = {name: [torch.randn(9, generator=random)] for name in "abc"}
    size, angle = norms(grads), cosines(grads)
    squared = sum(n**2 for n in size.values()) + 2 * sum(size[a] * size[b] * angle[a, b] for a, b in angle)
    total = torch.stack([g for (g,) in grads.values()]).sum(0)
    assert_equal(torch.tensor(squared), total.square().sum(), "law of cosines", 1e-5)
