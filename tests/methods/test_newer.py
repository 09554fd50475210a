"""Methods since 2023 (GKD, DistiLLM, TAD, ATKD, LDRLD, TIE-KD, LTKD, TPKD, SKD's direction): golden numbers, twins."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate import Logits, Method
from tests import asserts, cases, golden
from tests.reference import newer as twin

M = fr.methods
SECOND = [*golden.cases("losses", second=True), *golden.cases("losses", check="stable", second=True)]
Inputs = dict[str, Tensor]
Found = dict[str, Tensor]


def of(name: str) -> pytest.MarkDecorator:
    """Every golden case of these methods."""
    found = [case for case in SECOND if case.method in name.split()]
    assert found
    return pytest.mark.parametrize("case", found, ids=lambda case: case.id)


def wide(case: golden.Case) -> Inputs:
    """The inputs in float64; those of stable cases are float32 numbers, their values are computed in float64."""
    x = {name: t.detach().double() if t.is_floating_point() else t for name, t in case.inputs().items()}
    x["student"].requires_grad_()
    return x


def rows_of(x: Inputs, *, shift: bool = False) -> Logits:
    """Rows with labels, or the valid tokens of sequences; ``shift``: position t is judged by the label of t + 1."""
    student, teacher = x["student"], x["teacher"]
    if "labels" in x:
        return fr.rows.tokens(student, teacher, x["labels"])
    if "pad" not in x:
        return Logits(student, teacher, x.get("target"))
    target = x["target"].masked_fill(x["pad"].bool(), -100)
    if shift:
        student, teacher, target = student[:, :-1], teacher[:, :-1], target[:, 1:]
    return fr.rows.tokens(student, teacher, target)


def means(method: Method, lg: Logits) -> Found:
    """The total without cross-entropy, and the mean of every component."""
    rows = method.components(lg)
    return {"total": method.loss(lg), **{name: x.mean() for name, x in rows.items()}}


def per_row(function: Callable[..., Tensor], lg: Logits, **options: object) -> Tensor:
    return torch.stack([function(z, t, **options) for z, t in zip(lg.student, lg.teacher, strict=True)])


def scale(h: dict, lg: Logits, x: Inputs) -> float:
    """What the mean over rows is multiplied by to get the published reduction, which also leaves out T^2."""
    sums = {"sum over valid tokens": lg.rows, "sum over all tokens / batch size": lg.rows / len(x["student"])}
    return sums.get(h.get("reduction", ""), 1.0) / h["temperature"] ** 2


# -- divergences of language models ----------------------------------------------------------


@of("JSD JSD-topk ReverseKL")
def test_gkd_is_golden(case: golden.Case) -> None:
    x, h = wide(case), case.hyper
    if "labels" not in x and "target" not in x:
        x["labels"] = torch.zeros(x["student"].shape[:2], dtype=torch.int64)
    lg, options = rows_of(x), {name: h[name] for name in ("k", "tail") if name in h}
    beta, factor = float(h.get("beta", 1.0)), scale(h, lg, x)
    method = M.gkd(beta=beta, temperature=h["temperature"], ce_weight=0.0, **options)
    golden.assert_matches(case, {"total": factor * method.loss(lg)}, x)
    if case.record["check"] == "stable" or not lg.rows:
        return
    slow = per_row(twin.gkd, lg, beta=beta, temperature=h["temperature"], **options).mean()
    golden.assert_matches(case, {"total": factor * slow}, x)


@of("Skew-forward Skew-reverse")
def test_distillm_is_golden(case: golden.Case) -> None:
    x, h = wide(case), case.hyper
    lg, reverse = rows_of(x), case.method == "Skew-reverse"
    method = M.distillm(lam=h["lam"], reverse=reverse, temperature=h["temperature"], ce_weight=0.0)
    total = scale(h, lg, x) * method.loss(lg)
    if "cross-entropy" in h.get("value", ""):  # the published value has the teacher's entropy
        p = lg.teacher.softmax(1)
        total = total - (p * p.log()).sum(1).mean()
    golden.assert_matches(case, {"total": total}, x)


@of("TAD")
def test_tad_is_golden(case: golden.Case) -> None:
    x, h = case.inputs(), case.hyper
    if "labels" in x:
        kept = x["labels"] != -100
        ids = torch.arange(len(kept))[:, None].expand(kept.shape)[kept].double()
        plain = rows_of(x)
        lg = Logits(plain.student, plain.teacher, plain.target, extra={"sequence": ids})
    else:
        lg, ids = rows_of({**x, "target": torch.zeros(len(x["student"]), dtype=torch.int64)}), torch.zeros(1)
        ids = ids.expand(lg.rows)
    method = M.tad(k=h["k"], beta=h["beta"], temperature=h["temperature"], ce_weight=0.0)
    slow = [twin.tad(z, t, k=h["k"]) for z, t in zip(lg.student, lg.teacher, strict=True)]
    head, inside, mass = (torch.stack(each) for each in zip(*slow, strict=True))
    mean = torch.stack([mass[ids == i].mean() for i in ids])
    expected = {"head": head.mean(), "tail": (mass / mean * inside).mean()}
    expected["total"] = expected["head"] + h["beta"] * expected["tail"]
    for found in (means(method, lg), expected):
        split = fr.split_kl(lg.student, lg.teacher, fr.by_top(lg, h["k"]), h["temperature"])
        further = {"tail_mass": mass, "normaliser": torch.stack([mass[ids == i].mean() for i in ids.unique()])}
        asserts.assert_equal(split.mass[:, 1], mass)
        found |= {name: shaped(case, name, further[name], x) for name in further if name in case.outputs}
        golden.assert_matches(case, found, x)


def shaped(case: golden.Case, name: str, value: Tensor, x: Inputs) -> Tensor:
    """Values of the valid tokens where the golden file has them, the file's own numbers elsewhere."""
    stored = case.array(case.outputs[name])
    if stored.shape == value.shape:
        return value
    kept = x["labels"] != -100
    full = stored.clone()
    full[kept] = value
    return full


def test_tad_is_gdkd_with_the_masses_as_weights() -> None:
    lg = cases.easy()
    mass = fr.split_kl(lg.student, lg.teacher, fr.by_top(lg, 3), 1.0).mass[:, 1].mean()
    options = {"k": 3, "temperature": 1.0, "ce_weight": 0.0}
    other = M.gdkd_auto_weight(version="v1", w0=1.0, m1=1.0, m2=2.0 / float(mass), **options)
    asserts.assert_equal(M.tad(beta=2.0, **options).loss(lg), other.loss(lg))
    kd = M.kd(temperature=1.0, kd_weight=1.0, ce_weight=0.0)
    asserts.assert_equal(M.tad(beta=float(mass), **options).loss(lg), kd.loss(lg))


def test_a_teacher_without_a_tail_teaches_none() -> None:
    lg = Logits(torch.zeros(2, 4), torch.tensor([[1e4, 0.0, 0.0, 0.0]] * 2), torch.tensor([0, 1]))
    assert float(M.tad(k=1).components(lg)["tail"].abs().max()) == 0.0


# -- easy and hard rows ----------------------------------------------------------------------


@of("ATKD")
def test_atkd_is_golden(case: golden.Case) -> None:
    x, h = case.inputs(), case.hyper
    lg, reverse = rows_of(x, shift=True), h["setting"] == "reverse"
    way = "reverse" if reverse else "forward"
    method = M.atkd(easy_weight=h["easy_weight"], temperature=1.0, direction=way, ce_weight=0.0)
    slow = {n: torch.stack(r).mean() for n, r in twin.atkd(lg.student, lg.teacher, lg.target, reverse=reverse).items()}
    easy = h["easy_weight"]
    slow["total"] = easy * slow["easy_nontarget"] + (1 - easy) * (slow["hard_target"] + slow["hard_nontarget"])
    golden.assert_matches(case, slow, x)
    asserts.assert_equal(method.components(lg)["target"].mean(), (1 - easy) * slow["hard_target"])
    golden.assert_matches(case, {**slow, "total": method.loss(lg)}, x)


def test_a_batch_without_easy_rows_is_hard_altogether() -> None:
    lg = cases.easy(1)
    hard = M.dkd(alpha=0.8, beta=0.8, temperature=1.0, ce_weight=0.0).loss(lg)
    asserts.assert_equal(M.atkd(ce_weight=0.0).loss(lg), hard)


def test_easy_rows_with_their_share_and_the_target_are_dkd() -> None:
    lg = cases.easy()
    both = M.dkd(alpha=1.0, beta=1.0, temperature=1.0).components(lg)
    doubt = 1 - lg.teacher.softmax(1).gather(1, lg.labels[:, None])[:, 0]
    easy = doubt < doubt.median()
    share = float(easy.double().mean())
    whole = M.atkd(easy_weight=share, ce_weight=0.0).loss(lg) + (both["target"] * easy).mean()
    asserts.assert_equal(whole, (both["target"] + both["nontarget"]).mean())


# -- ranked classes --------------------------------------------------------------------------


@of("LDRLD")
def test_ldrld_is_golden(case: golden.Case) -> None:
    x, h = case.inputs(), case.hyper
    lg = rows_of(x)
    options = {"k": h["k"], "temperature": h["temperature"]}
    method = M.ldrld(alpha=h["alpha"], beta=h["beta"], ce_weight=h["ce_weight"], **options)
    slow = [twin.ldrld(z, t, **options) for z, t in zip(lg.student, lg.teacher, strict=True)]
    expected = {name: torch.stack([row[name] for row in slow]).mean() for name in slow[0]}
    found = means(method, lg)
    expected["task"] = found["task"]
    expected["total"] = h["ce_weight"] * expected["task"] + h["alpha"] * (expected["pairs"] + expected["top"])
    expected["total"] = expected["total"] + h["beta"] * expected["rest"]
    for terms in (found, expected):
        golden.assert_matches(case, {**terms, "local": terms["pairs"] + terms["top"]}, x)


def test_nothing_matches_the_mass_of_the_student_s_best() -> None:
    lg = cases.easy()
    top = fr.losses.by_student_top(lg, 3).groups[0].index
    raised = Logits(lg.student.scatter_add(1, top, torch.full(top.shape, 2.0).double()), lg.teacher, lg.target)
    a, b = (M.ldrld(k=3).components(rows) for rows in (lg, raised))
    for name in ("pairs", "top", "rest"):
        asserts.assert_equal(a[name], b[name])


@of("TIE-KD TIE-KD-exact")
def test_tie_kd_is_golden(case: golden.Case) -> None:
    x, h = case.inputs(), case.hyper
    lg = rows_of(x)
    slow = [twin.tie(z, t, k=h["k"]) for z, t in zip(lg.student, lg.teacher, strict=True)]
    terms = {name: torch.stack([row[name] for row in slow]).mean() for name in slow[0]}
    terms["rank"] = terms["rank_order"] + terms["rank_union"]
    terms["total"] = terms["kl"] + terms["rank"]
    found = {**terms, **means(M.tie_kd(k=h["k"], ce_weight=0.0), lg)}
    factor = h.get("tokens", 1)  # the published sum
    for each in (found, terms):
        golden.assert_matches(case, {name: factor * value for name, value in each.items()}, x)
        asserts.assert_equal(each["rank"], terms["rank"])


def test_the_teacher_s_order_costs_nothing() -> None:
    lg = cases.easy(strong=False)
    same = Logits(0.1 * lg.teacher, lg.teacher, lg.target)
    assert float(M.tie_kd(k=4).components(same)["rank"].max()) == 0.0


# -- the whole batch -------------------------------------------------------------------------


@of("LTKD")
def test_ltkd_is_golden(case: golden.Case) -> None:
    x, h = case.inputs(), case.hyper
    lg = Logits(x["student"], x["teacher"])
    slow = twin.ltkd(lg.student, lg.teacher, h["groups"], temperature=h["temperature"])
    aim = slow.pop("between_target")
    terms = {name: rows.mean() for name, rows in slow.items()}
    method = M.ltkd(groups=h["groups"], alpha=h["alpha"], beta=h["beta"], temperature=h["temperature"], ce_weight=0.0)
    for each in (terms, means(method, lg)):
        within = torch.stack([value for name, value in each.items() if name.startswith("within")]).sum()
        total = each.get("total", h["alpha"] * each["between"] + h["beta"] * within)
        golden.assert_matches(case, {**each, "within": within, "total": total, "between_target": aim}, x)


def test_equal_rows_are_aimed_at_equal_masses() -> None:
    lg = cases.easy()
    one = Logits(lg.student[:1], lg.teacher[:1], lg.target[:1])
    own = fr.split_kl(one.student, one.teacher, fr.losses.by_classes(one, ((0, 1), tuple(range(2, lg.classes)))), 4.0)
    even = 16 * (0.5 * (0.5 / own.log_mass[1].exp()).log()).sum()
    groups = ((0, 1), tuple(range(2, lg.classes)))
    asserts.assert_equal(M.ltkd(groups=groups).components(one)["between"][0], even)


def test_classes_are_grouped_by_how_often_they_are_seen() -> None:
    assert fr.losses.class_groups([1, 9, 5, 7], 2) == ((1, 3), (2, 0))
    counted, given = M.ltkd(groups=2, counts=[1, 9, 5, 7]), M.ltkd(groups=[[1, 3], [2, 0]])
    lg = Logits(cases.random_logits(5, 4, 1.0, 0), cases.random_logits(5, 4, 2.0, 1), torch.arange(5) % 4)
    asserts.assert_same(counted.components(lg), given.components(lg), rtol=0.0)
    with pytest.raises(ValueError, match="exactly one group"):
        M.ltkd(groups=[[0, 1], [1, 2]]).components(lg)
    with pytest.raises(ValueError, match="give one"):
        M.ltkd(groups=[[0], [1]], counts=[1, 2])


@of("SKD-direction SKD-streamlined")
def test_gram_direction_is_golden(case: golden.Case) -> None:
    x, h = case.inputs(), case.hyper
    lg = rows_of({"target": torch.zeros(len(x["student"]), dtype=torch.int64), **x})
    if case.method == "SKD-direction":
        method = M.gram_direction(kd_weight=0.0, ridge=h["ridge"], ce_weight=0.0)
        slow = twin.gram_direction(lg.student, lg.teacher, ridge=h["ridge"]).mean()
        for total in (method.loss(lg), slow):
            golden.assert_matches(case, {"total": total}, x)
        return
    options = {"temperature": h["temperature"], "ridge": h["ridge"]}
    both, task = {"kd_weight": h["kd_weight"], "weight": h["kd_weight"]}, h["ce_weight"]
    method, plain = (M.gram_direction(**options, **both, ce_weight=task, masks=m) for m in ("fractions", "off"))
    found, unmasked = means(method, lg), means(plain, lg)
    terms = {f"{name}_unmasked": unmasked[name] for name in ("kd", "direction")}
    terms |= {name: h["kd_weight"] * found[name] for name in ("kd", "direction")}
    golden.assert_matches(case, {**terms, "total": found["total"], "task": task * found["task"]}, x)


def test_gram_masks_select_the_rows_and_classes_of_which_the_teacher_is_less_sure(unchecked: None) -> None:
    lg = Logits(cases.random_logits(4, 6, 2.0, 0), cases.random_logits(4, 6, 4.0, 1), torch.zeros(4, dtype=torch.int64))
    sure = lg.teacher.softmax(1)
    rows, classes = sure.amax(1).argsort()[:2], sure.sum(0).argsort()[:3]
    found, plain = (M.gram_direction(masks=m).components(lg) for m in ("select", "off"))
    kept = torch.zeros(4).index_fill(0, rows, 1.0)
    asserts.assert_equal(found["kd"], kept * plain["kd"])
    half = twin.gram_direction(lg.student[:, classes], lg.teacher[:, classes], ridge=None) / 2
    torch.testing.assert_close(found["direction"], half)
    with pytest.raises(ValueError, match="masks"):
        M.gram_direction(masks="rows")  # type: ignore[arg-type]


def test_the_published_ridge_whitens_nothing() -> None:
    lg = Logits(cases.random_logits(64, 100, 2.0, 0), cases.random_logits(64, 100, 4.0, 1))
    grads = []
    for ridge in (None, 0.1):
        z = lg.student.clone().requires_grad_()
        value = fr.losses.gram_direction(z, lg.teacher, ridge=ridge).mean()
        grads.append(torch.autograd.grad(value, z)[0].flatten())
    assert float(torch.cosine_similarity(grads[0], grads[1], dim=0)) > 0.999


def test_a_ridge_at_the_teacher_is_zero_with_zero_gradient_and_needs_two_rows() -> None:
    lg = cases.easy()
    z = lg.teacher.clone().requires_grad_()
    value = fr.losses.gram_direction(z, lg.teacher, ridge=0.1).sum()
    (grad,) = torch.autograd.grad(value, z)
    assert float(value.detach()) < 1e-12
    assert bool(grad.isfinite().all())
    with pytest.raises(ValueError, match="one row"):
        M.gram_direction(ridge=0.1).loss(cases.easy(1))


def test_a_row_of_weight_zero_is_not_there_in_a_whitened_direction() -> None:
    lg, keep = cases.easy(), torch.arange(6) != 2
    all_of_it = fr.losses.gram_direction(lg.student, lg.teacher, ridge=0.01, weight=keep.double())
    part = fr.losses.gram_direction(lg.student[keep], lg.teacher[keep], ridge=0.01)
    asserts.assert_equal(all_of_it[keep], part)


# -- the projected gradient ------------------------------------------------------------------


@of("TPKD")
def test_tpkd_is_golden(case: golden.Case) -> None:
    x, h = case.inputs(), case.hyper
    lg = rows_of(x)
    slow = [twin.tpkd(z, t, y) for z, t, y in zip(lg.student, lg.teacher, lg.labels.tolist(), strict=True)]
    direction = fr.losses.conditional_projection(lg.student, lg.teacher, lg.labels)
    asserts.assert_equal(direction, torch.stack([d for _, d in slow]))
    found = means(M.tpkd(weight=h["weight"]), lg)
    asserts.assert_equal(found["conditional"], torch.stack([value for value, _ in slow]).mean())
    of_label = -direction.gather(1, lg.labels[:, None])[:, 0]
    golden.assert_matches(case, {**found, "direction": direction, "compensation": of_label}, x)


def test_the_projection_takes_no_margin_from_the_label_and_still_points_at_the_teacher() -> None:
    lg = cases.easy()
    d = fr.losses.conditional_projection(lg.student, lg.teacher, lg.labels)
    label = torch.nn.functional.one_hot(lg.labels, lg.classes).bool()
    r, q = (z.masked_fill(label, -torch.inf).softmax(1) for z in (lg.student, lg.teacher))
    u = r - q
    assert float(d.sum(1).abs().max()) < 1e-12
    margin = (d - d[label][:, None]).masked_fill(label, torch.inf).amin(1)
    assert float(margin.abs().max()) < 1e-12  # never below 0, and touched
    asserts.assert_equal((u * d).sum(1), d.square().sum(1))
    least = lg.classes / (2 * (lg.classes - 1)) * u.square().sum(1)
    assert bool((d.square().sum(1) >= least - 1e-12).all())


def test_a_step_along_the_projection_keeps_every_margin_of_a_step_along_the_label_s_gradient() -> None:
    """tpkd promises this for one plain step: z - eta v never has a smaller margin than z - eta (p - e)."""
    lg = cases.easy()
    label = torch.nn.functional.one_hot(lg.labels, lg.classes).double()
    task = lg.student.softmax(1) - label
    d = fr.losses.conditional_projection(lg.student, lg.teacher, lg.labels)
    z = leafed(lg)
    M.tpkd(weight=0.5).loss(Logits(z, lg.teacher, lg.target)).backward()
    asserts.assert_equal(lg.rows * z.grad, task + d / 2)
    for eta in (0.1, 1.0, 10.0):
        without, with_it = (lg.student - eta * g for g in (task, task + d / 2))
        margins = [(x * label).sum(1, keepdim=True) - x for x in (without, with_it)]
        assert bool((margins[1] >= margins[0] - 1e-9).all())


def leafed(lg: Logits) -> torch.Tensor:
    return lg.student.detach().clone().requires_grad_(True)


# -- views -----------------------------------------------------------------------------------


def test_every_component_may_read_a_view_of_its_own() -> None:
    lg = cases.easy()
    assert lg.strong is not None
    weak, strong = (M.dkd().components(rows) for rows in (lg, lg.strong))
    found = M.on_view(M.dkd(), distillation="weak", task="strong", components={"nontarget": "strong"}).components(lg)
    asserts.assert_same(
        found, {"task": strong["task"], "target": weak["target"], "nontarget": strong["nontarget"]}, rtol=0.0
    )
    with pytest.raises(ValueError, match="several views"):
        M.on_view(M.mlkd())
    with pytest.raises(ValueError, match="nontarget"):
        M.on_view(M.dkd(), components={"nontargt": "weak"})


def test_the_head_of_tad_leaves_a_tail_of_one_class_however_few_there_are() -> None:
    lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
    few, nine = fr.methods.tad().components(lg), fr.methods.tad(k=9).components(lg)
    assert all(torch.equal(few[name], nine[name]) for name in nine)


def test_tad_has_a_mean_for_every_sequence_of_tokens() -> None:
    """Sequences of other lengths, through ``rows.tokens``: the losses of the sequences alone, each by its tokens."""
    student, teacher = (
        cases.random_logits(10, 9, 2.0, 0).view(2, 5, 9),
        cases.random_logits(10, 9, 4.0, 1).view(2, 5, 9),
    )
    y = torch.tensor([[1, -100, -100, 2, 3], [4, 5, 6, 7, 8]])
    method = M.tad(k=3, ce_weight=0.0)
    lg = fr.rows.tokens(student, teacher, y)
    assert lg.extra["sequence"].tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    alone = [method.loss(fr.rows.tokens(student[i : i + 1], teacher[i : i + 1], y[i : i + 1])) for i in range(2)]
    asserts.assert_equal(method.loss(lg), (3 * alone[0] + 5 * alone[1]) / 8)
    together = method.loss(Logits(lg.student, lg.teacher, lg.target))
    assert abs(float(together - method.loss(lg))) > 1e-6
