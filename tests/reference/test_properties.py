"""Twins without golden numbers keep what the specification says about them, by hand-made examples."""

from __future__ import annotations

import math

import pytest
import torch

from tests import golden
from tests.reference import deepkd, dgkd, dkd, gdkd, gsnr, kd, lskd, mlkd, nkd, rld, sdd, topkd
from tests.reference.basics import kd as kd_rows
from tests.reference.basics import ranked
from tests.reference.split import by_mass, by_target_top

N, C = 5, 8
T = 4.0


@pytest.fixture
def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    student = (2 * torch.randn(N, C)).double().requires_grad_()
    return student, (4 * torch.randn(N, C)).double(), torch.arange(N)


def close(a: torch.Tensor, b: torch.Tensor, atol: float = 1e-12) -> bool:
    return torch.allclose(a, b, rtol=0, atol=atol)


def test_tckd_has_two_forms(rows) -> None:
    s, t, y = rows
    assert close(dkd.dkd(s, t, y, temperature=T)["target"], dkd.tckd_log_odds(s, t, y, T))


def test_kd_mode_sums_to_kd(rows) -> None:
    s, t, y = rows
    assert close(sum(deepkd.kd_mode(s, t, y, temperature=T).values()), kd_rows(s, t, T))


def test_kd_tends_to_the_mse_of_centred_logits(rows) -> None:
    """T -> infinity: KD tends to 1/2 of the mean squared difference of centred logits."""
    s, t, _ = rows
    assert close(kd_rows(s, t, 1e5), kd.logit_mse(s, t, center=True) / 2, 5e-3)


def test_grouped_kd_tends_to_kd_without_its_smallest_class(rows) -> None:
    s, t, _ = rows
    parts = kd.grouped(s, t, theta=1.0, temperature=T)
    assert [len(groups[1]) for groups in by_mass(t, 1.0, T)] == [1] * N
    assert close(parts["between"] + parts["primary"], kd_rows(s, t, T))


def test_grouped_kd_takes_the_shortest_prefix() -> None:
    p = torch.tensor([[0.1, 0.5, 0.3, 0.1]]).double()
    prefixes = [by_mass(p.log(), theta, 1.0)[0][0] for theta in (0.4, 0.7, 0.85, 0.99)]
    assert prefixes == [[1], [1, 2], [1, 2, 0], [1, 2, 0]]


@pytest.mark.parametrize(
    ("p", "k"),
    [([0.97, 0.01, 0.01, 0.01], 1), ([0.25] * 4, 1), ([0.45, 0.45, 0.05, 0.05], 2), ([0.3, 0.3, 0.3, 0.1], 1)],
)
def test_auto_k_counts_the_classes_above_the_jump(p: list[float], k: int) -> None:
    """One-hot-like and uniform teachers give 1; two classes far above the others give 2."""
    assert gdkd.auto_k(torch.tensor([p]).double().log(), ratio=1.7, cap=100, temperature=1.0) == [k]


def test_auto_k_stops_at_the_cap() -> None:
    p = torch.tensor([[0.3, 0.3, 0.3, 0.05, 0.05]]).double()
    assert gdkd.auto_k(p.log(), ratio=2.0, cap=100, temperature=1.0) == [3]
    assert gdkd.auto_k(p.log(), ratio=2.0, cap=2, temperature=1.0) == [2]


def test_masses_as_weights_make_gdkd_kd(rows) -> None:
    s, t, _ = rows
    v1 = gdkd.gdkd_autow(s, t, mode="v1", k=3, temperature=T)
    assert close(sum(v1.values()), kd_rows(s, t, T))


def test_the_mask_schedule_of_the_paper() -> None:
    """C = 100, K* = 55, E = 240: 5 classes at first, 55 from epoch 73 to 168, all at the end."""
    k = [deepkd.kept_classes(deepkd.epoch_fraction(e, 240), 100, 55.0) for e in range(1, 241)]
    assert (k[0], k[72], k[167], k[239]) == (5, 55, 55, 100)
    assert k == sorted(k)
    assert deepkd.epoch_fraction(1, 1) == 0.0
    with pytest.raises(ValueError, match="plateau"):
        deepkd.kept_classes(0.5, 100, 3.0)


def test_the_two_counting_rules_of_the_mask() -> None:
    t, y = torch.tensor([[9.0, 8.0, 7.0, 6.0]]), torch.tensor([1])
    assert by_target_top(t, y, 3) == [[[1], [0, 2], [3]]]
    assert by_target_top(t, y, 2, count_target=False) == [[[1], [0, 2], [3]]]
    assert by_target_top(t, torch.tensor([0]), 1) == [[[0], [1], [2, 3]]]


def test_the_coupling_has_a_closed_form(rows) -> None:
    """G = T^2 [d^2 + |(1+d) hat q - hat p|^2], and its variants; 0 <= G <= 6 T^2."""
    s, t, y = rows
    q, p = (torch.softmax(z / T, 1) for z in (s, t))
    label = torch.nn.functional.one_hot(y, C).bool()
    sigma, a = q[label], p[label]
    d = (sigma - a)[:, None]
    hat_q, hat_p = (x.masked_fill(label, 0) / (1 - x[label])[:, None] for x in (q, p))
    u = {
        "full": (1 + d) * hat_q - hat_p,
        "masked": hat_q - hat_p,
        "kd_weighted": (d + 1 - a[:, None]) * hat_q - (1 - a[:, None]) * hat_p,
    }
    for reading, vector in u.items():
        found = dgkd.coupling(s, t, y, temperature=T, reading=reading)
        assert close(found, T**2 * (d[:, 0] ** 2 + (vector**2).sum(1)))
        assert bool((found <= 6 * T**2).all())


def test_the_two_gradients_add_up_to_that_of_kd(rows) -> None:
    """g_T + (1 - a) g_N = T (p^S - p^T)."""
    s, t, y = rows
    g_t, g_n = dgkd.gradients(s, t, y, temperature=T)
    rest = (1 - dkd.target_mass(t, y, T))[:, None]
    assert close(g_t + rest * g_n, T * (torch.softmax(s / T, 1) - torch.softmax(t / T, 1)))


@pytest.mark.parametrize("case", [c for c in golden.cases("losses") if c.id.startswith("CTKD/rand-8x10/dkd")])
def test_the_temperature_gradient_over_dkd(case: golden.Case) -> None:
    """Where the published code returns nan: the gradient of the parameter is a finite difference."""
    x, h = case.inputs(), case.hyper

    def total(parameter: torch.Tensor) -> torch.Tensor:
        temperature = lskd.ctkd_temperature(parameter, start=h["t_start"], end=h["t_end"])
        terms = dkd.dkd(x["student"].detach(), x["teacher"], x["target"], temperature=temperature)
        return (h["alpha"] * terms["target"] + h["beta"] * terms["nontarget"]).mean()

    parameter = torch.tensor(h["parameter"]).double().requires_grad_()
    found = lskd.ctkd_parameter_gradient(total(parameter), parameter, h["gradient_weight"])
    step = 1e-5
    slope = (total(parameter.detach() + step) - total(parameter.detach() - step)) / (2 * step)
    assert close(found, h["gradient_weight"] * slope, 1e-7)


def test_rld_is_dkd_where_the_teacher_is_right(rows) -> None:
    s, t, _ = rows
    y = t.argmax(1)
    parts, plain = rld.rld(s, t, y, temperature=T, alpha_temperature=T), dkd.dkd(s, t, y, temperature=T)
    assert close(parts["scd"], plain["target"])
    assert close(parts["mcd"], plain["nontarget"])


def test_rld_has_nothing_below_a_label_at_the_bottom(rows) -> None:
    s, t, _ = rows
    assert rld.rld(s, t, t.argmin(1), temperature=T, alpha_temperature=T)["mcd"].tolist() == [0.0] * N


def test_swapping_twice_is_the_identity(rows) -> None:
    """Where the label is not on top: the swap puts it there, and the same exchange undoes it."""
    _, t, y = rows
    swapped = rld.swap(t, y)
    assert bool((swapped.argmax(1) == y).all())
    assert close(swapped.sort(1).values, t.sort(1).values)
    assert close(rld.swap(swapped, t.argmax(1)), t)


def test_ttm_at_power_1_is_kd_at_temperature_1(rows) -> None:
    s, t, _ = rows
    assert close(nkd.ttm(s, t, power=1.0), kd_rows(s, t, 1.0))
    assert close(nkd.wttm(s, t, power=1.0), kd_rows(s, t, 1.0))


def test_masks_of_mlkd_select_half(rows) -> None:
    _, t, _ = rows
    assert int(mlkd.unsure_rows(t).sum()) == math.ceil(N / 2)
    assert int(mlkd.unsure_classes(t).sum()) == math.ceil(C / 2)


def test_topkd_is_zero_iff_the_student_is_a_positive_multiple(rows) -> None:
    _, t, y = rows
    scaled = topkd.scale_top(t, y, k=3)
    assert close(topkd.top_cosine(2.5 * scaled, scaled, t, k=3), torch.zeros(N).double())
    assert bool((topkd.top_cosine(-scaled, scaled, t, k=3) > 1).all())


def test_sign_safe_scaling_never_lowers_a_logit(rows) -> None:
    """The literal product lowers negative logits; both agree where logits are not negative."""
    _, t, y = rows
    safe, literal = (topkd.scale_top(t - 6, y, k=3, literal=x) for x in (False, True))
    assert bool((safe >= t - 6).all())
    assert bool((literal < t - 6).any())
    positive = t - t.min() + 1
    assert close(topkd.scale_top(positive, y, k=3), topkd.scale_top(positive, y, k=3, literal=True))


def test_scaling_by_hand() -> None:
    v, y = torch.tensor([[4.0, 2.0, -1.0, 1.0]]).double(), torch.tensor([2])
    delta = 0.1 * (3.0 - 0.0)
    # ranks 0, 1 of K = 2 weigh 1.5 and 1.25; the label, which the teacher misses, weighs 2
    expected = [4 * 1.5 + delta, 2 * 1.25 + delta, -1 + 1.0 + delta, 1.0]
    assert close(topkd.scale_top(v, y, k=2)[0], torch.tensor(expected, dtype=torch.float64))


def test_contrast_of_one_row_is_zero_and_scale_free(rows) -> None:
    s, t, _ = rows
    assert topkd.logit_contrast(s[:1], t[:1]).tolist() == [0.0]
    assert close(topkd.logit_contrast(3 * s, t), topkd.logit_contrast(s, t))


def test_regions_are_adaptive_average_pooling() -> None:
    x, w = torch.randn(2, 3, 5, 7).double(), torch.randn(4, 3).double()
    regions = sdd.region_logits(x, w, None, (1, 2, 3))
    pooled = [torch.nn.functional.adaptive_avg_pool2d(x, m).flatten(2).transpose(1, 2) for m in (1, 2, 3)]
    assert close(regions, torch.cat(pooled, 1) @ w.T)


def test_regions_that_disagree_with_the_whole_weigh_2() -> None:
    t = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]])
    assert sdd.region_weights(t, torch.tensor([0, 0])).tolist() == [[1, 2, 1], [1, 2, 1]]


def test_gsnr_by_hand() -> None:
    found = gsnr.gsnr([torch.tensor([1.0, 0.0]), torch.tensor([3.0, 0.0])])
    assert (found.signal, found.noise, found.ratio, found.corrected_signal) == (4.0, 2.0, 2.0, 3.0)


def test_ranking_breaks_ties_towards_the_lower_class() -> None:
    values = torch.tensor([1.0, 2.0, 2.0, 0.0, 0.0])
    assert ranked(values) == [1, 2, 0, 3, 4]
    assert ranked(values, largest=False) == [3, 4, 0, 1, 2]
