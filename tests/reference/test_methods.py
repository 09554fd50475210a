"""Every method equals its slow twin, values and gradients, on graded inputs beyond those of the golden files.

One row per method: the call of the public API, and the twin that returns the components it should have. A twin may
return a scalar for a batch-relational component; it is compared with the mean over the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate import Logits, Method, Progress
from fractionate.losses import with_regions
from tests import cases
from tests.asserts import assert_equal, student_gradients, with_leaf_students
from tests.reference import dgkd, dist, dkd, gdkd, kd, lskd, mlkd, nkd, rld, sdd, topkd
from tests.reference.basics import cross_entropy
from tests.reference.basics import kd as kd_rows

Twin = Callable[[Logits], Mapping[str, Tensor]]
T = 3.0
INPUTS = dict(cases.graded(c=11))
SMOOTH = ("easy", "teacher confident and right", "teacher confident and wrong", "ties")
LATE = Progress(epoch=200)


def three(lg: Logits) -> tuple[Tensor, Tensor, Tensor]:
    return lg.student, lg.teacher, lg.target


def views(lg: Logits) -> mlkd.Views:
    return mlkd.Views(lg.student, lg.strong.student, lg.teacher, lg.strong.teacher)


def _sld(lg: Logits) -> dict[str, Tensor]:
    """The term of the swapped teacher, and that of the student's own swapped logits."""
    temperatures = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    both, own = 0, 0
    for view in (lg, lg.strong):
        common = {"temperatures": temperatures, "detach": True}
        teacher = rld.sld(*three(view), with_student=False, **common)
        both, own = both + teacher, own + rld.sld(*three(view), with_student=True, **common) - teacher
    task = cross_entropy(lg.student, lg.target) + cross_entropy(lg.strong.student, lg.target)
    return {"task": task, "kd": both, "self_kd": own}


def _mlkd(lg: Logits) -> dict[str, Tensor]:
    rows = mlkd.mlkd_masked(views(lg), [T, 3.0, 5.0, 2.0, 6.0])
    kl = rows["weak"] + rows["strong"]
    return {"kd": kl, "class_correlation": rows["cc"], "batch_correlation": rows["bc"]}


def _standardized_dkd(lg: Logits) -> dict[str, Tensor]:
    scored = (lskd.standardize(z) for z in (lg.student, lg.teacher))
    return dkd.dkd(*scored, lg.target, temperature=T)


def _topkd(lg: Logits) -> dict[str, Tensor]:
    scaled = topkd.scale_top(lg.teacher, lg.target, k=4)
    return {
        "contrastive": topkd.logit_contrast(lg.student, lg.teacher).mean(),
        "decoupled": topkd.top_cosine(lg.student, scaled, lg.teacher, k=4),
    }


ROWS: dict[str, tuple[Method, Twin]] = {
    "kd": (fr.methods.kd(temperature=T), lambda lg: {"kd": kd_rows(lg.student, lg.teacher, T)}),
    "dkd": (fr.methods.dkd(temperature=T), lambda lg: dkd.dkd(*three(lg), temperature=T)),
    "dkd_top1": (
        fr.methods.dkd_top1(temperature=T),
        lambda lg: dkd.dkd_top1(lg.student, lg.teacher, temperature=T),
    ),
    "gdkd": (
        fr.methods.gdkd(k=4, temperature=T, kl="both"),
        lambda lg: gdkd.gdkd(lg.student, lg.teacher, k=4, temperature=T, direction="both"),
    ),
    "gdkd, smallest": (
        fr.methods.gdkd(k=4, temperature=T, largest=False),
        lambda lg: gdkd.gdkd(lg.student, lg.teacher, k=4, temperature=T, largest=False),
    ),
    "gdkd3": (
        fr.methods.gdkd3(k=4, temperature=T),
        lambda lg: gdkd.gdkd3(lg.student, lg.teacher, k=4, temperature=T),
    ),
    "gdkd_auto_k": (
        fr.methods.gdkd_auto_k(temperature=T),
        lambda lg: gdkd.gdkd_k_per_row(
            lg.student,
            lg.teacher,
            gdkd.auto_k(lg.teacher, ratio=2.0, cap=100, temperature=T),
            temperature=T,
        ),
    ),
    "dgkd": (fr.methods.dgkd(temperature=T), lambda lg: dgkd.dgkd(*three(lg), temperature=T)),
    "grouped": (
        fr.methods.grouped(theta=0.75, temperature=T),
        lambda lg: kd.grouped(lg.student, lg.teacher, theta=0.75, temperature=T),
    ),
    "logit_mse": (
        fr.methods.logit_mse(),
        lambda lg: {"mse": kd.logit_mse(lg.student, lg.teacher)},
    ),
    "logit_mse, centred": (
        fr.methods.logit_mse(center=True),
        lambda lg: {"mse": kd.logit_mse(lg.student, lg.teacher, center=True)},
    ),
    "nkd": (fr.methods.nkd(temperature=T), lambda lg: nkd.nkd(*three(lg), temperature=T)),
    "ttm": (fr.methods.ttm(l=0.3), lambda lg: {"ttm": nkd.ttm(lg.student, lg.teacher, power=0.3)}),
    "wttm": (fr.methods.wttm(l=0.3), lambda lg: {"wttm": nkd.wttm(lg.student, lg.teacher, power=0.3)}),
    "ofa": (
        fr.methods.ofa(gamma=1.4, temperature=T),
        lambda lg: {"ofa": nkd.ofa(*three(lg), gamma=1.4, temperature=T)},
    ),
    "rld": (
        fr.methods.rld(temperature=T, alpha_temperature=2.0),
        lambda lg: dict(
            zip(
                ("target", "nontarget"),
                rld.rld(*three(lg), temperature=T, alpha_temperature=2.0).values(),
                strict=True,
            )
        ),
    ),
    "dist": (fr.methods.dist(temperature=T), lambda lg: dist.dist(lg.student, lg.teacher, temperature=T)),
    "lskd(dkd)": (fr.methods.lskd(fr.methods.dkd(), temperature=T), _standardized_dkd),
    "swap(kd)": (
        fr.methods.swap(fr.methods.kd(temperature=T)),
        lambda lg: {"kd": kd_rows(lg.student, rld.swap(lg.teacher, lg.target), T)},
    ),
    "sld": (fr.methods.sld(), _sld),
    "mlkd": (fr.methods.mlkd(temperature=T), _mlkd),
    "crld": (
        fr.methods.crld(temperature=T),
        lambda lg: mlkd.crld(views(lg), inner=lambda s, t: kd_rows(s, t, T), tau_weak=0.9, tau_strong=0.2),
    ),
    "topkd": (fr.methods.topkd(k=4), _topkd),
}


def compared(fast: Tensor, slow: Tensor) -> tuple[Tensor, Tensor]:
    """A scalar twin stands for the mean over the rows."""
    return (fast.mean(), slow) if slow.ndim == 0 else (fast, slow)


@pytest.mark.parametrize("case", [name for name, lg in INPUTS.items() if lg.rows > 1])
@pytest.mark.parametrize("name", ROWS)
def test_components_equal_the_twin(name: str, case: str) -> None:
    method, twin = ROWS[name]
    lg = with_leaf_students(INPUTS[case])
    slow, fast = twin(lg), method.components(lg, LATE)
    assert set(slow) <= set(fast) <= {"task", *slow}
    for component, value in slow.items():
        a, b = compared(fast[component], value)
        assert_equal(a, b, component)
        if case in SMOOTH:
            pairs = zip(student_gradients(a.sum(), lg), student_gradients(b.sum(), lg), strict=True)
            for left, right in pairs:
                assert_equal(left, right, f"gradient of {component}")


@pytest.mark.parametrize("scales", [(1,), (1, 2, 4)])
@pytest.mark.parametrize("inner", ["kd", "dkd"])
def test_sdd_equals_the_twin(inner: str, scales: tuple[int, ...]) -> None:
    """Rows are regions: the inner method on each, weights of 1 and 2, divided by their number."""
    lg, heads = cases.easy(n=4, c=7, strong=False), [torch.nn.Linear(d, 7).double() for d in (5, 6)]
    maps = [torch.randn(4, d, 9, 8).double() for d in (5, 6)]
    rows = with_regions(lg, *zip(maps, heads, strict=True), scales)
    method = fr.methods.sdd(
        {"kd": fr.methods.kd(temperature=T), "dkd": fr.methods.dkd(temperature=T)}[inner], scales=scales
    )
    student, teacher = (sdd.region_logits(m, h.weight, h.bias, scales) for m, h in zip(maps, heads, strict=True))
    weight = sdd.region_weights(teacher, lg.target)
    for i in range(4):
        label = lg.target[i].expand(student.shape[1])
        if inner == "kd":
            slow = {"kd": kd_rows(student[i], teacher[i], T)}
        else:
            slow = dkd.dkd(student[i], teacher[i], label, temperature=T)
        found = method.components(rows)
        for name, values in slow.items():
            assert_equal(found[name][i], (weight[i] * values).mean(), name)
