"""SDD: any method on regions. SLD: swapped teachers and swapped students."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import fractionate as fr
from fractionate import Logits, Method, Progress
from fractionate.losses import region_logits, region_weights, swap_target, with_regions
from tests import asserts, cases
from tests.reference import rld as sld_twin
from tests.reference import sdd as twin
from tests.reference.basics import kd

M = fr.methods
LATE = Progress(epoch=200)
SCALES = (1, 2)
COUNT = 5
SDD = {
    "kd+sdd": M.sdd(M.kd(), scales=SCALES),
    "dkd+sdd": M.sdd(M.dkd(), scales=SCALES),
    "nkd+sdd": M.sdd(M.nkd(), scales=SCALES),
    "dkd+sdd+deepkd": M.deepkd(M.sdd(M.dkd(), scales=SCALES), keep=3),
    "kd+sdd+lskd": M.lskd(M.sdd(M.kd(), scales=SCALES)),
    "dist+sdd": M.sdd(M.dist(), scales=SCALES),
}
every_sdd = pytest.mark.parametrize("method", SDD.values(), ids=SDD)
SLD = {"sld": M.sld(), "sld of one view": M.sld(views=1), "sld, not detached": M.sld(detach=False)}
every_sld = pytest.mark.parametrize("method", SLD.values(), ids=SLD)
GRADED = [pytest.param(lg, id=name) for name, lg in cases.graded() if lg.rows]


def rows_of(method: Method) -> asserts.Components:
    return lambda lg: method.components(lg, LATE)


def regional(lg: Logits, seed: int = 7) -> Logits:
    """The rows with five regions each, the first of which is the whole image."""
    noise = [cases.random_logits(lg.rows * COUNT, lg.classes, 2.0, seed + i) for i in (0, 1)]
    whole = torch.arange(lg.rows * COUNT) % COUNT == 0
    views = [
        torch.where(whole[:, None], z.repeat_interleave(COUNT, 0), noise[i].to(z.dtype))
        for i, z in enumerate((lg.student, lg.teacher))
    ]
    return replace(lg, strong=None, regions=Logits(*views, lg.target.repeat_interleave(COUNT)))


# -- SDD -------------------------------------------------------------------------------------


@every_sdd
def test_regional_terms_are_the_weighted_mean_of_the_method_s(method: Method) -> None:
    """Row by row, with every region computed on its own."""
    lg = regional(cases.easy())
    if "dist" in method.name:
        return  # its regions are not independent
    inner = method.origin
    while inner.inner is not None and inner.function is not M.sdd:
        inner = inner.inner
    found = M.sdd(inner.given["method"], scales=SCALES).components(lg, LATE)
    weights = twin.region_weights(lg.regions.teacher.view(lg.rows, COUNT, -1), lg.target)
    for name in set(found) - {"task"}:
        parts = [inner.given["method"].components(lg.regions[i : i + 1], LATE)[name] for i in range(lg.regions.rows)]
        asserts.assert_equal(found[name], (weights * torch.cat(parts).view(lg.rows, COUNT)).mean(1), name)


@every_sdd
def test_sdd_is_finite_and_gives_zero_without_rows(method: Method) -> None:
    for dtype in cases.LOW_PRECISION:
        asserts_finite(method, regional(cases.cast(cases.huge(), dtype)))
    for _, lg in cases.graded():
        asserts_finite(method, regional(lg))
    assert float(method.loss(regional(cases.easy(n=0)), LATE).detach()) == 0.0


def asserts_finite(method: Method, lg: Logits) -> None:
    z = lg.regions.student.clone().requires_grad_()
    for name, x in method.components(replace(lg, regions=replace(lg.regions, student=z)), LATE).items():
        assert bool(x.isfinite().all()), name
        if x.requires_grad:
            (grad,) = torch.autograd.grad(x.sum(), z, retain_graph=True)
            assert bool(grad.isfinite().all()), f"gradient of {name}"


@pytest.mark.parametrize("base", [M.kd(), M.dkd(), M.nkd(), M.dist()], ids=["kd", "dkd", "nkd", "dist"])
def test_the_global_scale_alone_is_the_method_itself(base: Method) -> None:
    lg = replace(cases.easy(), strong=None)
    lg = replace(lg, regions=lg)
    asserts.assert_same(M.sdd(base, scales=(1,)).components(lg, LATE), base.components(lg, LATE))


@every_sdd
def test_sdd_is_row_wise_where_the_method_is(method: Method) -> None:
    if method.row_wise:
        asserts.assert_equal_in_chunks(rows_of(method), regional(cases.easy()), size=2)
    else:
        assert "dist" in method.name


@pytest.mark.compiled
@every_sdd
def test_sdd_compiles(method: Method) -> None:
    asserts.assert_compiles_like_eager(rows_of(method), regional(cases.easy()))


def test_region_weights_are_one_or_two_and_one_for_the_whole_image() -> None:
    lg = regional(cases.easy())
    weights = region_weights(lg, COUNT)
    assert set(weights.flatten().tolist()) == {1.0, 2.0}
    assert torch.equal(weights[:, 0], torch.ones(lg.rows).double())
    asserts.assert_equal(weights, twin.region_weights(lg.regions.teacher.view(lg.rows, COUNT, -1), lg.target))


def test_region_weights_look_at_the_raw_teacher_under_standardisation() -> None:
    lg = regional(cases.easy())
    inside = M.sdd(M.lskd(M.kd()), scales=SCALES).components(lg)
    asserts.assert_same(SDD["kd+sdd+lskd"].components(lg), inside)


@pytest.mark.parametrize("size", [4, 7])
@pytest.mark.parametrize("scales", [(1,), (1, 2), (1, 2, 4)], ids=str)
def test_region_logits_equal_the_twin(scales: tuple[int, ...], size: int) -> None:
    head = nn.Linear(6, 9).double()
    features = torch.randn(3, 6, size, size).double()
    expected = twin.region_logits(features, head.weight, head.bias, scales)
    asserts.assert_equal(region_logits(features, head, scales), expected.flatten(0, 1))


def test_with_regions_repeats_the_targets_and_keeps_the_first_region_global() -> None:
    heads = [nn.Linear(d, 7).double() for d in (4, 8)]
    maps = [torch.randn(3, d, s, s).double() for d, s in ((4, 4), (8, 6))]
    own, teacher = (head(m.mean((2, 3))) for head, m in zip(heads, maps, strict=True))
    lg = with_regions(Logits(own, teacher, torch.tensor([0, 5, 6])), (maps[0], heads[0]), (maps[1], heads[1]), SCALES)
    assert lg.regions.target.tolist() == [0] * 5 + [5] * 5 + [6] * 5
    asserts.assert_equal(lg.regions.student[::COUNT], own)
    asserts.assert_equal(lg.regions.teacher[::COUNT], teacher.detach())
    loss = M.sdd(M.dkd(), scales=SCALES).loss(lg, LATE)
    grads = torch.autograd.grad(loss, [heads[0].weight, heads[1].weight], allow_unused=True)
    assert float(grads[0].abs().sum()) > 0
    assert grads[1] is None, "nothing reaches the teacher's head"


def test_sdd_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="must begin with 1"):
        M.sdd(M.kd(), scales=(2, 4))
    with pytest.raises(ValueError, match="regions have one view"):
        M.sdd(M.mlkd())
    with pytest.raises(ValueError, match="regions="):
        M.sdd(M.kd()).components(cases.easy())
    with pytest.raises(ValueError, match="expected 21 regions"):
        M.sdd(M.kd()).components(regional(cases.easy()))


# -- SLD -------------------------------------------------------------------------------------


@every_sld
def test_values_and_gradients_are_right_and_finite(method: Method) -> None:
    if method.origin.given.get("detach", True) is False:
        asserts.assert_gradcheck(rows_of(method), cases.easy(n=3))
    else:
        asserts.assert_gradcheck(lambda lg: {"kd": rows_of(method)(lg)["kd"]}, cases.easy(n=3))
    for dtype in cases.LOW_PRECISION:
        for size in (200, 1e4):
            asserts.assert_finite(rows_of(method), cases.cast(cases.huge(size=size), dtype))
    for _, lg in cases.graded():
        asserts.assert_finite(rows_of(method), lg)


@every_sld
def test_rows_are_independent_and_the_teacher_gets_no_gradient(method: Method) -> None:
    rows, lg = rows_of(method), cases.easy()
    asserts.assert_equal_in_chunks(rows, lg, size=1)
    asserts.assert_shift_invariant(rows, lg)
    asserts.assert_class_permutation_invariant(rows, lg)
    asserts.assert_no_teacher_gradient(rows, lg)
    asserts.assert_empty_batch_is_zero(lambda lg: method.loss(lg, LATE), lg)


@pytest.mark.compiled
@every_sld
def test_sld_compiles(method: Method) -> None:
    asserts.assert_compiles_like_eager(rows_of(method), cases.easy())


@pytest.mark.parametrize("lg", GRADED)
@pytest.mark.parametrize("epoch", [150, 151])
def test_sld_equals_the_twin(lg: Logits, epoch: int) -> None:
    found = M.sld().components(lg, Progress(epoch=epoch))
    pairs = [(v.student, v.teacher) for v in (lg, lg.strong)]
    expected = sld_twin.sld_two_views(pairs, lg.target, with_student=epoch > 150, detach=True)
    asserts.assert_equal(found["kd"] + found["self_kd"], expected["kd"])
    asserts.assert_equal(found["task"], expected["task"])


def test_the_student_s_own_term_begins_after_its_epoch() -> None:
    lg = cases.easy()
    for epoch, active in ((1, False), (30, False), (31, True)):
        rows = M.sld(start_epoch=30).components(lg, Progress(epoch=epoch))
        assert bool((rows["self_kd"] != 0).any()) == active


def self_gradient(detach: bool, lg: Logits) -> Tensor:
    lg = asserts.with_leaf_students(lg)
    rows = M.sld(views=1, temperatures=[2.0], detach=detach).components(lg, LATE)
    return asserts.student_gradients(rows["self_kd"].sum(), lg)[0]


def test_no_gradient_goes_through_the_swapped_student_unless_asked() -> None:
    lg = cases.easy()
    z = lg.student.clone().requires_grad_()
    target = swap_target(lg.student, lg.target)
    (expected,) = torch.autograd.grad(kd(z, target, 2.0).sum(), z)
    asserts.assert_equal(self_gradient(True, lg), expected)
    assert float((self_gradient(False, lg) - expected).abs().max()) > 1e-3


def test_sld_with_one_temperature_and_view_is_kd_to_the_swapped_teacher() -> None:
    lg = cases.easy()
    found = M.sld(views=1, temperatures=[3.0]).components(lg)
    expected = M.swap(M.kd(temperature=3.0)).components(lg)
    asserts.assert_equal(found["kd"], expected["kd"])
    asserts.assert_equal(found["task"], expected["task"])


@pytest.mark.parametrize(
    "arguments",
    [{"temperatures": []}, {"temperatures": [1.0, -1.0]}, {"start_epoch": -1}, {"kd_weight": -1.0}],
    ids=str,
)
def test_sld_refuses_impossible_arguments(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments)).removesuffix("s")):
        M.sld(**arguments)
