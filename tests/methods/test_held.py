"""Properties that small changes of the code had slipped past: methods."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import fractionate as fr
from fractionate import Logits, Method, Progress
from fractionate.losses.sizes import auto_k
from fractionate.methods.gdkd_k import by_class

END = Progress.end()


def two_views(n: int = 6, c: int = 5) -> Logits:
    g = torch.Generator().manual_seed(3)
    weak, given, strong, other = (torch.randn(n, c, generator=g, dtype=torch.float64) for _ in range(4))
    target = torch.randint(0, c, (n,), generator=g)
    return Logits(weak, given, target, strong=Logits(strong, other, target))


def test_the_task_of_two_views_is_the_cross_entropy_of_both_and_of_one_view_that_of_one() -> None:
    lg = two_views()
    assert lg.strong is not None
    weak, strong = (F.cross_entropy(x.student, x.labels, reduction="none") for x in (lg, lg.strong))
    torch.testing.assert_close(fr.methods.mlkd().components(lg, END)["task"], weak + strong)
    torch.testing.assert_close(fr.methods.kd().components(lg, END)["task"], weak)


def test_swapped_labels_of_two_views_are_those_of_both() -> None:
    lg = two_views()
    assert lg.strong is not None
    both, weak, strong = (
        fr.methods.sld(views=views).components(x, END)["kd"] for views, x in ((2, lg), (1, lg), (1, lg.strong))
    )
    torch.testing.assert_close(both, weak + strong)


def test_published_masks_act_on_the_relation_of_rows_as_the_fraction_they_keep() -> None:
    lg = two_views()
    confidence = lg.teacher.softmax(1).amax(1)
    kept = (confidence <= confidence.quantile(0.5, interpolation="lower")).double().mean()
    expected = torch.zeros(lg.rows, dtype=torch.float64)
    for t in (4.0, 3.0, 5.0, 2.0, 6.0):
        p, q = ((z / t).softmax(1) for z in (lg.teacher, lg.student))
        expected += (p @ p.T - q @ q.T).square().sum(1)
    found = fr.methods.mlkd(form="published-code").components(lg, END)["batch_correlation"]
    torch.testing.assert_close(found.mean(), kept * expected.mean())


def test_weights_by_default_are_those_of_the_published_configurations() -> None:
    assert {name: part.weight(END) for name, part in fr.methods.mlkd().parts.items()} == {
        "task": 0.1,
        "kd": 0.9,
        "class_correlation": 0.9,
        "batch_correlation": 0.9,
    }


@pytest.mark.parametrize(
    "method", [fr.methods.kd(), fr.methods.dkd(), fr.methods.gdkd(k=2), fr.methods.dkd(ce_weight=0)]
)
def test_a_loss_is_the_weighted_sum_of_the_means_of_its_components(method: Method) -> None:
    lg = replace(two_views(), strong=None)
    for rows in (lg, Logits(lg.student.float().requires_grad_(), lg.teacher.float(), lg.target)):
        parts = method.components(rows, END)
        expected = sum((method.parts[name].weight(END) * x.mean() for name, x in parts.items()), torch.zeros(()))
        torch.testing.assert_close(method.loss(rows, END), expected.to(rows.student.dtype), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("role", ["task", "target", "nontarget"])
def test_an_extra_loss_joins_the_stream_of_its_role(role: str) -> None:
    found = fr.methods.with_extra(fr.methods.dkd(), name="hint", role=role)
    assert found.parts["hint"].role == role


def test_all_classes_but_the_last_may_lie_above_the_first_jump() -> None:
    teacher = torch.tensor([[9.0, 9.0, 9.0, 0.0]])
    assert auto_k(teacher, 1.0, ratio=1.5, cap=10).tolist() == [3]
    lg = Logits(teacher, teacher, torch.tensor([0]))
    assert by_class(lg, None, 3, 1.0, 1.5, 10).groups[0].index.shape == (1, 3)
