"""TopKD's parts as plug-ins: a scaled teacher, a contrast and cosines under and beside any method."""

from __future__ import annotations

import pytest
import torch

import fractionate as fr
from fractionate import Logits, Progress
from tests import asserts, cases
from tests.reference import topkd as twin

m = fr.methods
LATE = Progress(epoch=100)
CLASSES = 8


def easy() -> Logits:
    return cases.easy(c=CLASSES, strong=False)


def rows_of(method: fr.Method) -> asserts.Components:
    return lambda lg: method.components(lg, LATE)


BASES = {"kd": m.kd(), "dkd": m.dkd(), "gdkd": m.gdkd(k=3), "lskd": m.lskd(m.kd()), "dgkd": m.dgkd()}
every_base = pytest.mark.parametrize("base", BASES.values(), ids=BASES)


@every_base
def test_the_scaled_teacher_only_replaces_the_teacher(base: fr.Method) -> None:
    lg = easy()
    scaled = twin.scale_top(lg.teacher, lg.target, k=2)
    by_hand = base.components(Logits(lg.student, scaled, lg.target, ranking=lg.teacher))
    found = m.with_scaled_teacher(base, k=2).components(lg)
    asserts.assert_same(found, by_hand)
    asserts.assert_equal(found["task"], base.components(lg)["task"])
    assert m.with_scaled_teacher(base).needs_labels


def test_the_scaled_teacher_works_in_half_precision_and_under_deepkd() -> None:
    method = m.with_scaled_teacher(m.dkd(), k=2)
    asserts.assert_finite(rows_of(method), cases.cast(cases.huge(CLASSES), torch.float16))
    lg = easy()
    asserts.assert_same(m.deepkd(method).components(lg), method.components(lg))
    masked = m.deepkd(method, keep=3).components(lg)["nontarget"]
    assert not torch.allclose(masked, method.components(lg)["nontarget"])


@every_base
def test_an_added_part_leaves_the_other_components_alone(base: fr.Method) -> None:
    lg = easy()
    before = base.components(lg)
    contrast = m.with_contrast(base, weight=0.5, tau=0.2)
    cosine = m.with_top_cosine(contrast, weight=2.0, k=2)
    rows = cosine.components(lg)
    asserts.assert_same({name: rows[name] for name in before}, before)
    asserts.assert_equal(rows["contrastive"], twin.logit_contrast(lg.student, lg.teacher, tau=0.2))
    extra = 0.5 * rows["contrastive"].mean() + 2 * rows["decoupled"].mean()
    asserts.assert_equal(cosine.loss(lg, LATE), base.loss(lg, LATE) + extra)
    assert (contrast.row_wise, cosine.needs_labels) == (False, True)


def test_an_added_part_with_a_role_goes_to_that_stream() -> None:
    method = m.with_top_cosine(m.with_contrast(m.kd(), role="task"), k=2, role="nontarget")
    streams = {s.name: s.components for s in m.deepkd(method, delta_nontarget=0.01).streams}
    assert streams == {
        "task": ("task", "contrastive"),
        "target": ("target",),
        "nontarget": ("nontarget", "decoupled"),
    }
    with pytest.raises(ValueError, match="without a role"):
        m.deepkd(m.with_contrast(m.kd()))


def test_a_part_cannot_be_added_twice_or_into_streams() -> None:
    with pytest.raises(ValueError, match="already has a component 'contrastive'"):
        m.with_contrast(m.with_contrast(m.kd()))
    with pytest.raises(ValueError, match="several streams"):
        m.with_top_cosine(m.dot(m.kd()))
