"""Losses of maps, chunk by chunk: those of all pixels as rows, with their gradients, whatever the chunk."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import fractionate as fr
from tests import asserts

M = fr.methods
CLASSES = 6
METHODS = {
    "kd": M.kd(),
    "dkd": M.dkd(),
    "gdkd": M.gdkd(k=2),
    "gdkd3": M.gdkd3(k=3),
    "ea": M.ea(M.kd()),
    "dot": M.dot(M.kd()),
    "deepkd": M.deepkd(M.dkd(), keep=3),
    "deepkd, published code": M.deepkd(M.dkd(), rule="published-code"),
    "lskd": M.lskd(M.gdkd(k=2)),
}


def maps(size: tuple[int, int] = (5, 7), seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(2, CLASSES, *size, generator=draw).double() for _ in range(2))
    target = torch.randint(CLASSES, (2, *size), generator=draw)
    target[0, :2], target[1, 3] = 255, 255
    return student.requires_grad_(), teacher, target


def assert_same_streams(method: fr.Method, student: Tensor, *rest: Tensor, chunk: int, **options: object) -> None:
    expected = method.stream_losses(fr.rows.pixels(student, *rest, **options))
    wanted = fr.stream_grads(expected, [student])
    found = fr.pixel_losses(method, student, *rest, chunk=chunk, **options)
    asserts.assert_same({k: x.detach() for k, x in found.items()}, {k: x.detach() for k, x in expected.items()})
    grads = fr.stream_grads(found, [student])
    for name, (grad,) in wanted.items():
        asserts.assert_equal(grads[name][0], grad)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("name", METHODS)
def test_chunks_give_the_losses_and_gradients_of_all_pixels(name: str, chunk: int) -> None:
    assert_same_streams(METHODS[name], *maps(), chunk=chunk)


def test_maps_of_other_sizes_and_weights_are_those_of_rows() -> None:
    student, teacher, target = maps()
    larger = target.repeat_interleave(2, 1).repeat_interleave(2, 2)
    heavy = torch.rand(larger.shape, generator=torch.Generator().manual_seed(1)).double()
    for options in ({}, {"resize": True}, {"labels": "published"}, {"weight": heavy}, {"ignore_index": None}):
        labels = larger.clamp_max(CLASSES - 1) if options == {"ignore_index": None} else larger
        assert_same_streams(M.dkd(), student, teacher, labels, chunk=9, **options)
    big = torch.nn.functional.interpolate(teacher, (10, 14), mode="bilinear", align_corners=True)
    assert_same_streams(M.dkd(), student, big, larger, chunk=9)
    for corners in (False, (True, False), (False, True)):
        assert_same_streams(M.dkd(), student, big, larger, chunk=9, corners=corners)


def test_half_precision_is_that_of_rows() -> None:
    student, teacher, target = maps()
    half = student.detach().bfloat16().requires_grad_()
    rows = fr.rows.pixels(half, teacher.bfloat16(), target)
    found = fr.pixel_losses(M.gdkd(k=2), half, teacher.bfloat16(), target, chunk=11)["loss"]
    torch.testing.assert_close(found, M.gdkd(k=2).loss(rows), rtol=1e-4, atol=0)
    (one,), (other,) = (torch.autograd.grad(x, [half]) for x in (found, M.gdkd(k=2).loss(rows)))
    assert one.dtype == torch.bfloat16
    torch.testing.assert_close(one, other, rtol=0.02, atol=1e-4)


def test_no_pixel_with_a_label_is_a_loss_of_nothing_with_a_graph() -> None:
    student, teacher, target = maps()
    losses = fr.pixel_losses(METHODS["deepkd"], student, teacher, torch.full_like(target, 255))
    assert {x.item() for x in losses.values()} == {0.0}
    sum(losses.values()).backward()
    assert student.grad is not None
    assert not student.grad.any()


def test_a_second_backward_pass_is_refused_not_wrong() -> None:
    student, *rest = maps()
    loss = fr.pixel_losses(M.kd(), student, *rest)["loss"]
    with pytest.raises(RuntimeError, match="create_graph"):
        torch.autograd.grad(loss, student, create_graph=True)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        loss.backward()


def test_what_cannot_be_done_by_the_pixel_is_refused() -> None:
    for method, word in (
        (M.dist(), "relates"),
        (M.mlkd(form="one_view"), "relates"),
        (M.ctkd(), "learns"),
        (M.deit(), "head"),
    ):
        with pytest.raises(ValueError, match=word):
            fr.pixel_losses(method, *maps())
    with pytest.raises(ValueError, match="chunk"):
        fr.pixel_losses(M.kd(), *maps(), chunk=0)


def test_pixels_without_labels_are_refused_with_the_way_to_their_loss(unchecked: None) -> None:
    student, teacher, _ = maps()
    with pytest.raises(ValueError, match=r"target is None.*rows\.pixels"):
        fr.pixel_losses(M.kd(), student, teacher, None)  # type: ignore[arg-type]
