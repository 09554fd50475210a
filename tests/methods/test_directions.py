"""Directions of a split and weights of rows: golden numbers, slow twins, and the identities that connect them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate import Logits, Progress
from fractionate.kernels import as_direction
from fractionate.losses import Group
from fractionate.methods.row_weights import EntropyRule
from tests import asserts, cases, golden
from tests.reference import directions as twin

M = fr.methods
END = Progress.end()
DIRECTIONS = ["forward", "reverse", fr.jsd(0.5), fr.jsd(0.1), fr.skew(0.1), fr.skew(0.7), fr.skew_reverse(0.1)]
PARTITIONS = {
    "whole": fr.losses.whole,
    "label": fr.by_target,
    "top 3": lambda lg: fr.by_top(lg, 3),
    "three groups": lambda lg: fr.by_top1_top(lg, 4),
    "a group that may be empty": lambda lg: fr.Partition(
        (Group(lg.labels[:, None], (lg.labels % 2 == 0)[:, None]), Group((lg.labels[:, None] + 1) % lg.classes)),
        lg.classes,
    ),
}


def leaf(lg: Logits) -> Logits:
    lg.student.requires_grad_(True)
    return lg


def gradient(value: Tensor, lg: Logits) -> Tensor:
    return torch.autograd.grad(value, lg.student, retain_graph=True)[0]


# -- golden numbers --------------------------------------------------------------------------

SECOND = golden.cases("losses", second=True)
SPLITS = {"Split-forward", "Split-reverse", "Split-jsd", "Split-skew", "Split-skew-reverse"}


def direction_of(h: dict[str, object]) -> fr.Direction | str:
    name = h["direction"]
    return {
        "jsd": lambda: fr.jsd(h["beta"]),
        "skew": lambda: fr.skew(h["lam"]),
        "rskew": lambda: fr.skew_reverse(h["lam"]),
    }.get(name, lambda: name)()


@pytest.mark.parametrize("case", [c for c in SECOND if c.method in SPLITS], ids=lambda c: c.id)
def test_a_split_in_every_direction_is_golden(case: golden.Case) -> None:
    x = case.inputs()
    count = len(case.outputs["terms"]) - 1
    every = torch.arange(x["student"].shape[1]).expand(x["student"].shape)
    part = fr.Partition(tuple(Group(every, x["groups"] == g) for g in range(count - 1)), every.shape[1])
    s = fr.split_kl(x["student"], x["teacher"], part, case.hyper["temperature"], direction=direction_of(case.hyper))
    terms = {f"within{g}": s.within[:, g].mean() for g in range(count)}
    golden.assert_matches(case, {"total": s.total.mean(), "between": s.between.mean(), "mass": s.mass, **terms}, x)


@pytest.mark.parametrize("case", [c for c in SECOND if c.method == "DRKL"], ids=lambda c: c.id)
def test_drkl_is_dkd_with_both_terms_reversed(case: golden.Case) -> None:
    x, h = case.inputs(), case.hyper
    method = M.drkl(gamma=h["gamma"], temperature=h["temperature"], ce_weight=0.0)
    lg = Logits(x["student"], x["teacher"], x["target"])
    rows = method.components(lg, END)
    terms = {name: rows[name].mean() for name in ("target", "nontarget")}
    golden.assert_matches(case, {"total": method.loss(lg, END), **terms}, x)
    other = M.dkd(beta=h["gamma"], temperature=h["temperature"], direction="reverse")
    asserts.assert_same(other.components(lg, END), rows, rtol=0.0)


@pytest.mark.parametrize("case", [c for c in SECOND if c.method in ("EA-KD", "EA-DKD")], ids=lambda c: c.id)
def test_entropy_weights_are_golden(case: golden.Case) -> None:
    x, h = case.inputs(), case.hyper
    upper = "published-code" if h["h_ub"] == 100 else "log_classes"
    weighed = {"entropy_temperature": h["entropy_temperature"], "upper": upper}
    n = len(x["student"])
    lg = Logits(x["student"], x["teacher"], x.get("target", torch.zeros(n, dtype=torch.int64)))
    if case.method == "EA-KD":
        inner = M.kd(temperature=h["temperature"], kd_weight=1.0, ce_weight=0.0)
    else:
        inner = M.dkd(alpha=h["alpha"], beta=h["beta"], temperature=h["temperature"], ce_weight=0.0)
    raw = h.get("entropy_of", "raw logits") == "raw logits"
    if h.get("standardize"):
        scored = lambda m: M.lskd(m, temperature=None, weight=1.0)  # noqa: E731
        method = M.ea(scored(inner), **weighed) if raw else scored(M.ea(inner, **weighed))
    else:
        method = M.ea(inner, **weighed)
    rows = method.components(lg, END)
    found = {"total": method.loss(lg, END)}
    names = {"tckd": "target", "nckd": "nontarget"}
    found |= {name: rows[names[name]].mean() for name in case.outputs.get("terms", {})}
    plain = inner if not h.get("standardize") else scored(inner)
    of = next(name for name in rows if name != "task")
    found["weights"] = rows[of].detach() / plain.components(lg, END)[of].detach()
    golden.assert_matches(case, found, x)


@pytest.mark.parametrize("case", [c for c in SECOND if c.method == "WSLD"], ids=lambda c: c.id)
def test_weighted_soft_labels_are_golden(case: golden.Case) -> None:
    x, h = case.inputs(), case.hyper
    task = h.get("ce_weight", 0.0)
    method = M.wsld(alpha=h["alpha"], temperature=h["temperature"], ce_weight=task)
    lg = Logits(x["student"], x["teacher"], x["target"])
    rows = method.components(lg, END)
    asserts.assert_equal(rows["kd"], twin.soft_labels(lg.student, lg.teacher, lg.target, h["temperature"]), rtol=1e-6)
    found = {"task": rows["task"].mean(), "kd": (h["alpha"] if task else 1.0) * rows["kd"].mean()}
    golden.assert_matches(case, {"total": method.loss(lg, END), **found}, x)


# -- slow twins and the chain rule -----------------------------------------------------------


@pytest.mark.parametrize("partition", PARTITIONS.values(), ids=PARTITIONS)
@pytest.mark.parametrize("direction", DIRECTIONS, ids=str)
def test_a_split_equals_its_definition(direction: object, partition: object) -> None:
    lg = leaf(cases.easy())
    part, way = partition(lg), as_direction(direction)
    found = fr.split_kl(lg.student, lg.teacher, part, 2.0, direction=direction)
    masks = [fr.Partition((g,), lg.classes).members(lg.rows, lg.student.device) for g in part.groups]
    masks.append(~part.members(lg.rows, lg.student.device))
    groups = [[m[i].nonzero()[:, 0].tolist() for m in masks] for i in range(lg.rows)]
    filled = [[g for g in row if g] for row in groups]
    between, _ = [], None
    for i, row in enumerate(filled):
        b, w = twin.split(way, lg.student[i : i + 1], lg.teacher[i : i + 1], [row], 2.0)
        between.append(b[0])
        asserts.assert_equal(torch.stack([x for x, g in zip(found.within[i], groups[i], strict=True) if g]), w[0])
    asserts.assert_equal(found.between, torch.stack(between))


@pytest.mark.parametrize("partition", PARTITIONS.values(), ids=PARTITIONS)
@pytest.mark.parametrize("direction", DIRECTIONS, ids=str)
def test_every_partition_sums_to_the_whole(direction: object, partition: object) -> None:
    """Value and gradient; the weights of reverse KL are the student's masses, with their graph."""
    lg = leaf(cases.easy())
    whole = fr.split_kl(lg.student, lg.teacher, fr.losses.whole(lg), 3.0, direction=direction).total
    parts = fr.split_kl(lg.student, lg.teacher, partition(lg), 3.0, direction=direction).total
    asserts.assert_equal(parts, whole)
    asserts.assert_equal(gradient(parts.sum(), lg), gradient(whole.sum(), lg))
    assert float(gradient(whole.sum(), lg).sum(1).abs().max()) < 1e-12


def test_reverse_is_forward_of_swapped_networks() -> None:
    lg = cases.easy()
    one = fr.split_kl(lg.student, lg.teacher, fr.by_target(lg), 2.0, direction="reverse")
    other = fr.split_kl(lg.teacher, lg.student, fr.by_target(lg), 2.0, fused=False)
    for name in ("between", "within", "mass"):
        assert torch.equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.8])
def test_mixtures_are_symmetric_and_bounded(weight: float) -> None:
    lg = cases.easy()
    swapped = Logits(lg.teacher, lg.student.detach(), lg.target)

    def total(rows: Logits, direction: object) -> Tensor:
        return fr.split_kl(rows.student, rows.teacher, fr.by_target(rows), 1.0, direction=direction).total

    asserts.assert_equal(total(lg, fr.jsd(weight)), total(swapped, fr.jsd(1 - weight)))
    asserts.assert_equal(total(lg, fr.skew_reverse(weight)), total(swapped, fr.skew(weight)))
    both = weight * total(lg, fr.skew(weight)) + (1 - weight) * total(lg, fr.skew_reverse(1 - weight))
    asserts.assert_equal(total(lg, fr.jsd(weight)), both)
    entropy = -weight * math.log(weight) - (1 - weight) * math.log(1 - weight)
    assert bool((total(lg, fr.jsd(weight)) <= entropy).all())
    assert bool((total(lg, fr.skew(weight)) <= -math.log(weight)).all())


def test_a_small_skew_is_nearly_the_plain_divergence() -> None:
    lg = cases.easy()
    for name, make in (("forward", fr.skew), ("reverse", fr.skew_reverse)):
        exact = fr.split_kl(lg.student, lg.teacher, fr.by_target(lg), 4.0, direction=name).total
        gaps = [
            float(
                (fr.split_kl(lg.student, lg.teacher, fr.by_target(lg), 4.0, direction=make(x)).total - exact)
                .abs()
                .max()
            )
            for x in (1e-2, 1e-4, 1e-8)
        ]
        assert gaps[0] > gaps[1] > gaps[2]
        assert gaps[2] < 1e-5 * float(exact.max())


def test_at_its_ends_jsd_over_its_weight_nears_both_divergences() -> None:
    """Slowly, by about beta log(1 / beta), so the trend is tested."""
    lg = cases.easy(strong=False)

    def total(direction: object) -> Tensor:
        return fr.split_kl(lg.student, lg.teacher, fr.by_target(lg), 4.0, direction=direction).total

    for name, weight in (("forward", lambda x: x), ("reverse", lambda x: 1 - x)):
        exact, shares = total(name), (1e-1, 1e-3, 1e-6)
        gaps = [float((total(fr.jsd(weight(x))) / x - exact).abs().max() / exact.max()) for x in shares]
        assert gaps[0] > gaps[1] > gaps[2]
        assert gaps[2] < 1e-3


@pytest.mark.parametrize("direction", DIRECTIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_large_logits_give_finite_values_and_gradients(direction: object, dtype: torch.dtype) -> None:
    scale = 1e4
    student, teacher = (scale * cases.random_logits(5, 8, 1.0, seed).sign().to(dtype) for seed in (0, 1))
    lg = leaf(Logits(student, teacher, torch.arange(5)))
    for partition in PARTITIONS.values():
        s = fr.split_kl(lg.student, lg.teacher, partition(lg), 1.0, direction=direction)
        for value in (s.between, s.within, s.mass, s.total):
            assert bool(value.isfinite().all())
        assert bool(gradient(s.total.sum() + s.within.sum(), lg).isfinite().all())


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_merged_groups_are_the_coarser_split(direction: str) -> None:
    lg = leaf(cases.easy())
    fine = fr.split_kl(lg.student, lg.teacher, fr.by_top1_top(lg, 4), 2.0, direction=direction).coarsen([[0], [1, 2]])
    coarse = fr.split_kl(lg.student, lg.teacher, fr.by_teacher_top1(lg), 2.0, direction=direction)
    for name in ("between", "within", "mass", "total"):
        a, b = getattr(fine, name), getattr(coarse, name)
        asserts.assert_equal(a, b, name)
    asserts.assert_equal(gradient(fine.total.sum(), lg), gradient(coarse.total.sum(), lg))


def test_against_a_mixture_merging_is_refused_but_the_masses_merge() -> None:
    lg = cases.easy()
    fine = fr.split_kl(lg.student, lg.teacher, fr.by_top1_top(lg, 4), 2.0, direction="jsd")
    with pytest.raises(ValueError, match="jsd"):
        fine.coarsen([[0], [1, 2]])
    coarse = fr.split_kl(lg.student, lg.teacher, fr.by_teacher_top1(lg), 2.0, direction="jsd")
    asserts.assert_equal(fine.between_merged([[0], [1, 2]])[0], coarse.between)


# -- methods ---------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", DIRECTIONS, ids=str)
def test_deepkd_splits_kd_of_every_direction_without_changing_it(direction: object) -> None:
    lg = leaf(cases.easy())
    kd = M.kd(direction=direction)
    asserts.assert_equal(M.deepkd(kd).loss(lg), kd.loss(lg))
    asserts.assert_equal(gradient(M.deepkd(kd).loss(lg), lg), gradient(kd.loss(lg), lg))


@pytest.mark.parametrize("direction", DIRECTIONS, ids=str)
def test_stored_classes_serve_every_direction_with_the_rest_as_one(direction: object) -> None:
    """With all but one class stored nothing is left out."""
    hidden, head = torch.randn(6, 4).double(), torch.randn(9, 4).double()
    teacher, y = 3 * torch.randn(6, 9).double(), torch.arange(6)
    method = M.kd(temperature=2.0, direction=direction)
    top = fr.TopLogits.of(teacher, 8, 2.0)
    found, exact = (fr.linear_loss(method, hidden, head, y, teacher=t) for t in (top, teacher))
    asserts.assert_equal(found, exact, rtol=1e-8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("reverse", "reverse"),
        ("jsd", "jsd(beta=0.5)"),
        ("jsd(0.3)", "jsd(beta=0.3)"),
        ("skew(lam=0.2)", "skew(lam=0.2)"),
    ],
)
def test_a_direction_is_read_from_its_text(text: str, expected: str) -> None:
    assert str(as_direction(text)) == expected
    assert as_direction(str(as_direction(text))) == as_direction(text)
    assert repr(M.kd(direction=text)) == f"<Method kd(direction={text!r})>"


@pytest.mark.parametrize(
    ("given", "message"),
    [("revers", "reverse"), ("jsd(1.0)", "beta"), ("jsd(lam=0.5)", "beta"), ("skew(0)", "lam"), ("", "direction")],
)
def test_a_wrong_direction_is_named(given: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        M.gdkd(direction=given)


def test_kl_and_direction_exclude_each_other() -> None:
    lg = cases.easy()
    with pytest.raises(ValueError, match="give one"):
        M.dkd(kl="reverse", direction="reverse")
    with pytest.raises(ValueError, match="give one"):
        fr.split_kl(lg.student, lg.teacher, fr.by_target(lg), kl="both", direction="jsd")
    with pytest.raises(ValueError, match="forward"):
        fr.split_kl(lg.student, lg.teacher, fr.by_target(lg), fused=True, direction="jsd")


# -- weights of rows -------------------------------------------------------------------------


def first_twice(lg: Logits) -> Tensor:
    return torch.tensor([2.0] + [1.0] * (lg.rows - 1))


def test_a_weight_multiplies_every_distillation_component_and_no_task() -> None:
    lg = cases.easy()
    plain, weighed = M.dkd().components(lg), M.weighted_rows(M.dkd(), first_twice).components(lg)
    for name, x in plain.items():
        assert torch.equal(weighed[name], x if name == "task" else first_twice(lg).to(x.dtype) * x)


def test_uniform_networks_have_the_largest_entropy_weight_and_a_sure_teacher_none() -> None:
    lg = Logits(torch.zeros(2, 5), torch.tensor([[0.0] * 5, [1e4] + [0.0] * 4]), torch.tensor([0, 1]))
    rule = EntropyRule(3.0, "log_classes")
    asserts.assert_equal(rule(lg), torch.tensor([math.log(5), 0.0]), rtol=1e-6)


def test_no_gradient_flows_through_a_weight() -> None:
    lg = leaf(cases.easy(strong=False))
    method = M.ea(M.kd(ce_weight=0.0))
    weight = EntropyRule(3.0, "log_classes")(lg).detach()
    by_hand = 0.9 * (weight * M.kd().components(lg)["kd"]).mean()
    asserts.assert_equal(gradient(method.loss(lg), lg), gradient(by_hand, lg))


def test_rules_that_do_not_fit_are_refused() -> None:
    lg = cases.easy()
    with pytest.raises(ValueError, match="one number per row"):
        M.weighted_rows(M.kd(), lambda rows: rows.teacher).components(lg)
    with pytest.raises(ValueError, match="two views"):
        M.ea(M.mlkd())
