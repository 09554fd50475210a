"""Layouts: everything becomes [n, c], what is ignored is gone, and what does not belong together is refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import fractionate as fr
from fractionate.rows import pixels, rois, tokens
from tests.asserts import assert_equal
from tests.rows.inputs import EACH, B, C, H, W, labels, maps, random

# -- pixels ----------------------------------------------------------------------------------------


def test_every_pixel_that_is_not_ignored_is_one_row_in_reading_order() -> None:
    student, teacher, y = maps()
    lg = pixels(student, teacher, y)
    places = [(b, i, j) for b in range(B) for i in range(H) for j in range(W) if y[b, i, j] != 255]
    assert_equal(lg.student, torch.stack([student[b, :, i, j] for b, i, j in places]))
    assert_equal(lg.teacher, torch.stack([teacher[b, :, i, j] for b, i, j in places]))
    assert lg.target.tolist() == [int(y[place]) for place in places]


@EACH
def test_ignored_pixels_receive_no_gradient_and_change_no_value(method: fr.Method) -> None:
    student, teacher, y = maps()
    student.requires_grad_()
    ignored = (y == 255)[:, None].expand_as(student)
    loss = method.loss(pixels(student, teacher, y))
    (grad,) = torch.autograd.grad(loss, student)
    assert bool((grad[ignored] == 0).all())
    assert bool((grad[~ignored] != 0).any())
    noisy = student.detach().masked_fill(ignored, 77.0)
    assert torch.equal(method.loss(pixels(noisy, teacher, y)), loss.detach())


@EACH
def test_all_pixels_ignored_give_zero_with_a_graph(method: fr.Method) -> None:
    student, teacher, _ = maps()
    student.requires_grad_()
    loss = method.loss(pixels(student, teacher, torch.full((B, H, W), 255)))
    (grad,) = torch.autograd.grad(loss, student)
    assert float(loss.detach()) == 0
    assert not bool(grad.any())


def test_without_an_ignored_label_every_pixel_counts() -> None:
    student, teacher, y = maps()
    assert pixels(student, teacher, y.where(y != 255, 0), ignore_index=None).rows == B * H * W
    with pytest.raises(ValueError, match=r"dropped by rows\.pixels"):
        pixels(student, teacher, y, ignore_index=None)


def test_a_smaller_student_is_resized_to_the_teacher_and_labels_by_nearest_neighbour() -> None:
    student, teacher, y = random(B, C, 2, 3), random(B, C, H, W, seed=2), labels(B, 2 * H, 2 * W)
    lg = pixels(student, teacher, y)
    resized = F.interpolate(student, (H, W), mode="bilinear", align_corners=True)
    assert_equal(lg.student, resized.movedim(1, -1).reshape(-1, C))
    assert_equal(lg.teacher, teacher.movedim(1, -1).reshape(-1, C))
    assert torch.equal(lg.target, y[:, ::2, ::2].flatten())


def test_at_the_labels_size_both_maps_are_resized_and_no_label_is_lost() -> None:
    student, teacher, y = random(B, C, 2, 3), random(B, C, H, W, seed=2), labels(B, 2 * H, 2 * W)
    lg = pixels(student, teacher, y, resize=True)
    assert torch.equal(lg.target, y.flatten())
    for found, map_ in ((lg.student, student), (lg.teacher, teacher)):
        resized = F.interpolate(map_, (2 * H, 2 * W), mode="bilinear", align_corners=True)
        assert_equal(found, resized.movedim(1, -1).reshape(-1, C))


def test_maps_of_another_rank_are_refused(unchecked: None) -> None:
    with pytest.raises(ValueError, match=r"expected logits \[b, c, h, w\] twice and labels \[b, h, w\]"):
        pixels(random(4, C), random(4, C), labels(4))


# -- regions of interest and tokens ----------------------------------------------------------------


def test_the_background_is_the_last_class_and_may_be_dropped() -> None:
    student, teacher, y = random(5, C), random(5, C, seed=1), torch.tensor([0, C - 1, 2, C - 1, 1])
    assert rois(student, teacher, y).rows == 5
    assert torch.equal(rois(student, teacher, y, foreground_only=True).student, student[[0, 2, 4]])


@EACH
def test_no_region_left_gives_zero_with_a_graph(method: fr.Method) -> None:
    student = random(3, C).requires_grad_()
    loss = method.loss(rois(student, random(3, C, seed=1), torch.full((3,), C - 1), foreground_only=True))
    loss.backward()
    assert float(loss.detach()) == 0
    assert not bool(student.grad.any())


def test_tokens_with_the_ignored_label_are_dropped() -> None:
    student, teacher, y = random(2, 3, C), random(2, 3, C, seed=1), torch.tensor([[1, -100, 2], [-100, -100, 0]])
    lg = tokens(student, teacher, y)
    assert_equal(lg.student, student[[0, 0, 1], [0, 2, 2]])
    assert lg.target.tolist() == [1, 2, 0]
    assert tokens(student, teacher, y.clamp(min=0), ignore_index=None).rows == 6


def test_tokens_and_labels_must_agree(unchecked: None) -> None:
    with pytest.raises(ValueError, match=r"logits \[b, t, c\] and labels \[b, t\], got \[2, 3, 5\] and \[2, 4\]"):
        tokens(random(2, 3, C), random(2, 3, C), labels(2, 4))
