"""Groups whose size every row decides: the knee of the teacher's logits, and the mass of the non-targets."""

import pytest
import torch

import fractionate as fr
from fractionate.config.method import MethodSpec
from fractionate.losses import by_knee, by_target_mass, knee_k
from tests.reference import gdkd as twin


def rows(classes=9, n=40, scale=3.0):
    generator = torch.Generator().manual_seed(classes)
    z = torch.randn(2, n, classes, generator=generator, dtype=torch.float64)
    return fr.Logits(z[0], scale * z[1], torch.arange(n) % classes)


@pytest.mark.parametrize("classes", [3, 9, 50])
@pytest.mark.parametrize("cap", [2, 100])
def test_the_knee_is_that_of_the_loop_over_rows(classes, cap):
    teacher = rows(classes).teacher
    assert knee_k(teacher, cap=cap).tolist() == [twin.knee(row, cap) for row in teacher.tolist()]


def test_the_knee_does_not_see_temperature_shift_or_scale():
    teacher = rows(20).teacher
    assert torch.equal(knee_k(teacher), knee_k(0.25 * teacher + 7))
    assert len(set(knee_k(teacher).tolist())) > 1


def test_a_best_logit_far_above_all_others_stands_alone_and_a_group_stays_together():
    """The two kinds of teachers that GDKD and GDKD3 are made for, under one rule."""
    far = torch.tensor([[30.0, 3.0, 2.8, 2.5, 2.0, 1.9, 1.5, 1.0]])
    bend = torch.tensor([[12.0, 11.5, 11.0, 10.0, 1.0, 0.8, 0.4, 0.0]])
    assert knee_k(torch.cat([far, bend])).tolist() == [1, 4]


@pytest.mark.parametrize("row", [torch.zeros(1, 6), torch.linspace(0, 5, 6)[None], -torch.arange(6.0)[None].square()])
def test_logits_without_a_knee_have_a_group_of_one(row):
    """All alike, on a line, or bent the other way."""
    assert knee_k(row).tolist() == [1]


def test_gdkd_with_auto_is_gdkd_with_every_rows_own_k():
    lg = rows(12)
    sizes = knee_k(lg.teacher)
    found = fr.methods.gdkd(k="auto").components(lg)
    for i, k in enumerate(sizes.tolist()):
        one = fr.Logits(lg.student[i : i + 1], lg.teacher[i : i + 1], lg.target[i : i + 1])
        for name, value in fr.methods.gdkd(k=k).components(one).items():
            torch.testing.assert_close(found[name][i : i + 1], value)
    assert by_knee(lg).size == 2


def test_gdkd_with_auto_keeps_the_chain_rule():
    lg = rows(12)
    split = fr.split_kl(lg.student, lg.teacher, by_knee(lg), 4.0)
    kd = fr.methods.kd(ce_weight=0, kd_weight=1).components(lg)["kd"]
    torch.testing.assert_close(split.between + (split.mass * split.within).sum(1), kd)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("theta", [0.3, 0.9, 1.0])
def test_the_mask_keeps_what_the_loop_over_rows_keeps(temperature, theta):
    lg = rows(10)
    group = by_target_mass(lg, theta, temperature).groups[1]
    p = (lg.teacher / temperature).softmax(1).tolist()
    for i, row in enumerate(p):
        expected = twin.kept_by_mass(row, int(lg.target[i]), theta - 1e-12)
        assert set(group.index[i][group.valid[i]].tolist()) == expected


def test_a_mask_of_its_own_size_holds_the_mass_and_drops_the_rest():
    lg = rows(30)
    method = fr.methods.deepkd(fr.methods.dkd(), keep="auto")
    kept = by_target_mass(lg, 0.9, 4.0).groups[1].valid.sum(1)
    assert int(kept.min()) < int(kept.max()) < 29
    whole = fr.methods.deepkd(fr.methods.dkd())
    found, full = method.components(lg), whole.components(lg)
    torch.testing.assert_close(found["target"], full["target"])
    assert not torch.allclose(found["nontarget"], full["nontarget"])
    moved = fr.Logits(lg.student.clone(), lg.teacher, lg.target)
    last = (lg.teacher.scatter(1, lg.target[:, None], 1e9)).argmin(1)
    moved.student[torch.arange(len(last)), last] += 5  # a class that every mask drops
    torch.testing.assert_close(method.components(moved)["nontarget"], found["nontarget"])


@pytest.mark.parametrize("base", ["kd", "dkd", "mlkd", "dgkd", "nkd"])
def test_every_method_with_a_mask_takes_one_of_its_own_size(base):
    lg = rows(12)
    strong = fr.Logits(lg.student, lg.teacher, lg.target)
    lg = fr.Logits(lg.student, lg.teacher, lg.target, strong=strong)
    found = MethodSpec.parse(f"{base}+deepkd(keep=auto)").build().loss(lg)
    assert torch.isfinite(found)
    assert found != MethodSpec.parse(f"{base}+deepkd").build().loss(lg)


def test_what_auto_cannot_be_is_said():
    with pytest.raises(ValueError, match="largest"):
        fr.methods.gdkd(k="auto", largest=False)
    with pytest.raises(ValueError, match="'auto'"):
        fr.methods.deepkd(fr.methods.dkd(), keep=-1)
