"""A distillation token: the labels read one head, the teacher's terms the other, whatever is wrapped around them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import fractionate as fr
from tests import asserts, cases

M = fr.methods


def rows(seed: int = 0) -> fr.Logits:
    lg = replace(cases.easy(), strong=None)
    return replace(lg, token=replace(lg, student=lg.student.flip(0) + seed))


def at_token(lg: fr.Logits) -> fr.Logits:
    assert lg.token is not None
    return lg.token


@pytest.mark.parametrize("method", [M.kd(), M.dkd(), M.gdkd(k=2), M.dist(), M.ea(M.kd())], ids=str)
def test_every_term_reads_the_token_and_the_label_loss_does_not(method: fr.Method) -> None:
    lg = rows()
    found, alone = M.on_view(method, distillation="token").components(lg), method.components(at_token(lg))
    asserts.assert_same(found, {**alone, "task": method.components(lg)["task"]}, rtol=0.0)


def test_standardising_outside_is_standardising_inside() -> None:
    inside, outside = M.on_view(M.lskd(M.kd()), distillation="token"), M.lskd(M.on_view(M.kd(), distillation="token"))
    asserts.assert_same(outside.components(rows()), inside.components(rows()), rtol=0.0)


def test_another_teacher_teaches_the_token_too() -> None:
    lg, other = rows(), rows().teacher.flip(1)
    both = replace(lg, teachers=(other,), token=replace(at_token(lg), teachers=(other,)))
    found = M.per_teacher(M.on_view(M.kd(), distillation="token"), shifts=[0.0, 0.0]).components(both)
    asserts.assert_equal(found["kd_2"], M.kd().components(replace(at_token(lg), teacher=other))["kd"])


def test_a_slice_of_the_rows_takes_the_same_slice_of_the_token() -> None:
    lg, method = rows(), M.deit()
    asserts.assert_equal(method.components(lg[1:3])["hard"], method.components(lg)["hard"][1:3])


def test_the_deepkd_streams_of_the_soft_form_add_up_to_its_loss() -> None:
    lg, method = rows(), M.deit(form="soft", temperature=2.0)
    asserts.assert_equal(M.deepkd(method).loss(lg), method.loss(lg))


def test_no_second_head_is_a_sentence() -> None:
    with pytest.raises(ValueError, match="token"):
        M.deit().loss(replace(rows(), token=None))
    with pytest.raises(ValueError, match="several views"):
        M.on_view(M.deit())
    with pytest.raises(ValueError, match="soft form"):
        M.deit(reduction="deit")


@pytest.mark.parametrize("form", ["hard", "soft"])
def test_timm_s_task_has_the_same_loss_and_gradient(form: str) -> None:
    pytest.importorskip("timm.task", reason="timm >= 1.0.23 has tasks")
    from timm.models.deit import VisionTransformerDistilled
    from timm.task import TokenDistillationTask

    torch.manual_seed(0)
    size = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2, "num_classes": 5}
    student, teacher = (VisionTransformerDistilled(**size) for _ in range(2))
    for net in (student, teacher):  # their heads begin as zeros
        torch.nn.init.normal_(net.head.weight)
        torch.nn.init.normal_(net.head_dist.weight)
        net.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    images, target = torch.randn(6, 3, 16, 16), torch.randint(5, (6,))
    task = TokenDistillationTask(student, teacher, distill_type=form, temperature=2.0, verbose=False).train()
    expected = task(images, target)["loss"]
    wanted = torch.autograd.grad(expected, list(student.parameters()))

    heads = student(images)
    answers = teacher.eval()(images).detach()
    lg = fr.Logits(heads[0], answers, target, token=fr.Logits(heads[1], answers, target))
    loss = M.deit(form=form, temperature=2.0, weight=1.0, ce_weight=1.0).loss(lg)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, list(student.parameters())), wanted)
