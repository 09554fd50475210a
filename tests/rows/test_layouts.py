"""Layouts: everything becomes [n, c], what is ignored is gone, and what does not belong together is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import fractionate as fr
from fractionate.rows import images, pixels, rois, tokens
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


def test_a_smaller_student_is_resized_to_the_teacher_and_labels_are_picked_as_published() -> None:
    student, teacher, y = random(B, C, 2, 3), random(B, C, H, W, seed=2), labels(B, 2 * H, 2 * W)
    lg = pixels(student, teacher, y, labels="published")
    resized = F.interpolate(student, (H, W), mode="bilinear", align_corners=True)
    assert_equal(lg.student, resized.movedim(1, -1).reshape(-1, C))
    assert_equal(lg.teacher, teacher.movedim(1, -1).reshape(-1, C))
    assert torch.equal(lg.target, y[:, ::2, ::2].flatten())


@pytest.mark.parametrize("corners", [True, False])
def test_a_label_is_the_one_where_a_pixel_of_enlarged_logits_lies(corners: bool) -> None:
    """A map whose values are its own positions, enlarged as networks do it, tells where every pixel went."""
    rows, columns, many = 3, 5, (18, 38)
    here = torch.stack(torch.meshgrid(torch.arange(rows) * 1.0, torch.arange(columns) * 1.0, indexing="ij"))[None]
    enlarged = F.interpolate(here, many, mode="bilinear", align_corners=corners)[0]
    y = torch.arange(many[0] * many[1]).reshape(1, *many) % C
    both = random(1, C, rows, columns), random(1, C, rows, columns, seed=1)
    found = pixels(*both, y, corners=corners).target.reshape(rows, columns)
    for i in range(rows):
        for j in range(columns):
            distance = (enlarged[0] - i).abs() * (many[0] - 1) / (rows - 1)
            distance = distance.square() + ((enlarged[1] - j).abs() * (many[1] - 1) / (columns - 1)).square()
            assert found[i, j] in y[0][distance <= distance.min() + (1e-3 if corners else 0.6)]


def test_labels_of_networks_without_aligned_corners_lie_in_the_middle_of_what_a_logit_covers() -> None:
    y = torch.arange(128).reshape(1, 1, 128).expand(1, 128, 128)
    both = torch.zeros(1, 128, 16, 16), torch.zeros(1, 128, 16, 16)
    found = pixels(*both, y, corners=False).target.reshape(16, 16)[0].double()
    assert bool(((found - (torch.arange(16) * 8 + 3.5)).abs() <= 0.5).all())


def ramp(few: int, corners: bool, many: int = 60) -> Tensor:
    """``[1, 2, few, few]`` where in a picture of 60 x 60 pixels its own places lie when it is enlarged."""
    at = torch.linspace(0, many - 1, few) if corners else (torch.arange(few) + 0.5) * many / few - 0.5
    return torch.stack(torch.meshgrid(at, at, indexing="ij"))[None].double()


@pytest.mark.parametrize("few", [15, 20, 60])
@pytest.mark.parametrize("corners", [(True, False), (False, True), (True, True), (False, False)])
def test_a_student_is_read_where_the_teacher_s_pixels_lie_however_both_are_enlarged(
    few: int, corners: tuple[bool, bool]
) -> None:
    own, other = ramp(few, corners[0]), ramp(12, corners[1])
    lg = pixels(own, other, torch.zeros(1, 60, 60).long(), corners=corners)
    expected = lg.teacher.clamp(float(own.min()), float(own.max()))  # nothing is known beyond the outermost logits
    torch.testing.assert_close(lg.student, expected)


@pytest.mark.parametrize("corners", [(True, False), (False, True)])
def test_at_the_labels_size_every_map_is_enlarged_in_its_own_way(corners: tuple[bool, bool]) -> None:
    student, teacher, y = random(B, C, 2, 3), random(B, C, H, W, seed=2), labels(B, 2 * H, 2 * W)
    lg = pixels(student, teacher, y, resize=True, corners=corners)
    for found, map_, way in ((lg.student, student, corners[0]), (lg.teacher, teacher, corners[1])):
        resized = F.interpolate(map_, (2 * H, 2 * W), mode="bilinear", align_corners=way)
        assert_equal(found, resized.movedim(1, -1).reshape(-1, C))


@pytest.mark.parametrize(("corners", "said"), [((True, False), "needs labels"), (1, "must be True, False")])
def test_ways_of_enlarging_that_cannot_be_followed_are_refused(corners: Any, said: str, unchecked: None) -> None:
    with pytest.raises(ValueError, match=said):
        pixels(random(B, C, 2, 3), random(B, C, H, W), corners=corners)


def test_the_published_labels_lie_up_to_a_stride_off() -> None:
    y = torch.arange(64).reshape(1, 1, 64).expand(1, 64, 64)
    shift = [
        pixels(torch.zeros(1, 64, 8, 8), torch.zeros(1, 64, 8, 8), y, labels=rule).target.reshape(8, 8)[0]
        for rule in ("aligned", "published")
    ]
    assert (shift[0] - shift[1]).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


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


@pytest.mark.parametrize(("background", "foreground"), [(0, [1, 2, 3, 4]), (C - 1, [0, 2, 4])])
def test_regions_of_the_background_class_that_is_named_may_be_dropped(background: int, foreground: list[int]) -> None:
    student, teacher, y = random(5, C), random(5, C, seed=1), torch.tensor([0, C - 1, 2, C - 1, 1])
    assert rois(student, teacher, y, background=background).rows == 5
    lg = rois(student, teacher, y, foreground_only=True, background=background)
    assert torch.equal(lg.student, student[foreground])
    assert torch.equal(lg.teacher, teacher[foreground])
    assert torch.equal(lg.target, y[foreground])


def test_the_background_is_never_guessed() -> None:
    for y, background, missing in (
        (labels(5), None, r"background= is missing.*0 in torchvision.*4 in detectron2"),
        (None, 0, "labels .* missing"),
        (labels(5), C, r"one of the classes 0\.\.4, got 5"),
        (labels(5), -1, "got -1"),
    ):
        with pytest.raises(ValueError, match=missing):
            rois(random(5, C), random(5, C), y, foreground_only=True, background=background)


@EACH
def test_no_region_left_gives_zero_with_a_graph(method: fr.Method) -> None:
    student = random(3, C).requires_grad_()
    loss = method.loss(
        rois(student, random(3, C, seed=1), torch.full((3,), C - 1), foreground_only=True, background=C - 1)
    )
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


# -- images ----------------------------------------------------------------------------------------


def test_images_hold_what_they_were_given() -> None:
    student, teacher, y, weight = random(4, C), random(4, C, seed=1), labels(4), random(4).square()
    lg = images(student, teacher, y, weight=weight)
    given = {"student": student, "teacher": teacher, "target": y, "weight": weight}
    for name, x in given.items():
        assert torch.equal(getattr(lg, name), x), name
    assert (lg.strong, lg.regions, lg.ranking, lg.teachers, dict(lg.extra)) == (None, None, None, (), {})
    soft = random(4, C).softmax(1)
    assert torch.equal(images(student, teacher, soft).target, soft)
    assert images(student, teacher).target is None


# -- rows that do not belong together --------------------------------------------------------------

TOGETHER = {"tokens": (tokens, (2, 6, C)), "pixels": (pixels, (2, C, 2, 3)), "rois": (rois, (6, C))}
STRANGE_TEACHERS = [
    ("tokens", (6, 2, C), "same tokens in the same order"),
    ("tokens", (3, 4, C), "same tokens in the same order"),
    ("tokens", (2, 5, C), r"teacher has rows \[2, 5\], the student \[2, 6\]"),
    ("tokens", (12, C), r"teacher has rows \[12\]"),
    ("tokens", (C,), "teacher has rows"),
    ("pixels", (3, C, 2, 3), "same images"),
    ("pixels", (C, 2, 3), "expected logits"),
    ("pixels", (1, C, 2, 3), "same images"),
    ("rois", (5, C), "same regions"),
    ("tokens", (2, 6, C + 2), r"7 classes, the student 5; both need one vocabulary \(cut padding.*teacher\[\.\.\., :5"),
    ("tokens", (2, 6, C - 1), r"vocabulary \(cut padding.*student\[\.\.\., :4"),
    ("pixels", (2, C + 1, 2, 3), "both need one vocabulary"),
    ("rois", (6, C + 1), "both need one vocabulary"),
]


@pytest.mark.parametrize(("layout", "shape", "words"), STRANGE_TEACHERS)
def test_a_teacher_of_other_rows_or_classes_is_refused(
    layout: str, shape: tuple[int, ...], words: str, unchecked: None
) -> None:
    rows, own = TOGETHER[layout]
    positions = (own[0], *own[2:]) if layout == "pixels" else own[:-1]
    for y in (labels(*positions), None):
        with pytest.raises(ValueError, match=rf"rows\.{layout}.*{words}"):
            rows(random(*own), random(*shape), y)


@pytest.mark.parametrize("layout", TOGETHER)
def test_labels_and_weights_of_other_rows_are_refused(layout: str) -> None:
    rows, own = TOGETHER[layout]
    positions = (own[0], *own[2:]) if layout == "pixels" else own[:-1]
    fewer = (positions[0] - 1, *positions[1:])
    with pytest.raises(ValueError, match="label"):
        rows(random(*own), random(*own), labels(*fewer))
    with pytest.raises(ValueError, match="weight must be"):
        rows(random(*own), random(*own), labels(*positions), weight=random(*fewer))
    with pytest.raises(ValueError, match=r"integers, got torch\.float64"):
        rows(random(*own), random(*own), random(*positions))


@pytest.mark.parametrize("layout", TOGETHER)
def test_arrays_and_integers_of_any_size_are_labels(layout: str) -> None:
    rows, own = TOGETHER[layout]
    y = labels(*((own[0], *own[2:]) if layout == "pixels" else own[:-1]))
    expected = rows(random(*own), random(*own), y)
    for given in (y.int(), y.byte(), y.numpy(), y.numpy().astype("int16"), y.tolist()):
        found = rows(random(*own), random(*own), given).target
        assert found.dtype == torch.int64
        assert torch.equal(found, expected.target)


# -- rows without labels, rows with weights --------------------------------------------------------


@pytest.mark.parametrize("layout", TOGETHER)
def test_without_labels_every_position_is_a_row(layout: str) -> None:
    rows, own = TOGETHER[layout]
    student, teacher = random(*own), random(*own, seed=1)
    positions = (own[0], *own[2:]) if layout == "pixels" else own[:-1]
    bare, labelled = rows(student, teacher), rows(student, teacher, labels(*positions))
    assert bare.target is None
    assert_equal(bare.student, labelled.student)
    assert_equal(bare.teacher, labelled.teacher)


def test_the_labels_size_needs_labels() -> None:
    with pytest.raises(ValueError, match="resize=True works at the size of the labels"):
        pixels(random(B, C, H, W), random(B, C, H, W), resize=True)


def test_the_weight_of_a_position_stays_with_its_row() -> None:
    student, teacher, y = maps()
    weight = random(B, H, W, seed=3).square()
    assert_equal(pixels(student, teacher, y, weight=weight).weight, weight[y != 255])
    t = torch.tensor([[1, -100, 2], [-100, -100, 0]])
    per_token = random(2, 3).square()
    found = tokens(random(2, 3, C), random(2, 3, C), t, weight=per_token).weight
    assert_equal(found, per_token[t != -100])
    regions = rois(
        *(random(3, C),) * 2, torch.tensor([0, 1, 0]), foreground_only=True, background=0, weight=y.new_ones(3)
    )
    assert regions.weight.tolist() == [1]


def test_weights_are_reduced_to_the_logits_as_labels_are() -> None:
    student, teacher, y = random(B, C, 2, 3), random(B, C, H, W, seed=2), labels(B, 2 * H, 2 * W)
    weight = random(B, 2 * H, 2 * W).square().float()
    found = pixels(student, teacher, y, weight=weight, labels="published").weight
    assert_equal(found, weight[:, ::2, ::2].flatten())


@EACH
def test_a_mean_over_sequences_is_the_mean_of_their_means(method: fr.Method) -> None:
    student, teacher, y = random(4, 3, C), random(4, 3, C, seed=1), labels(4, 3)
    y[0, 1:], y[1, 0], y[3] = -100, -100, -100  # 1, 2, 3 and 0 tokens are left
    found = method.loss(tokens(student, teacher, y, mean_over="sequences"))
    each = [method.loss(tokens(student[i : i + 1], teacher[i : i + 1], y[i : i + 1])) for i in range(3)]
    assert_equal(found, torch.stack(each).mean(), "", 1e-12)


def test_weights_of_tokens_act_inside_their_sequence(unchecked: None) -> None:
    y = torch.tensor([[1, 2, 3], [1, -100, -100]])
    weight = torch.tensor([[1.0, 2.0, 1.0], [5.0, 7.0, 0.0]])
    lg = tokens(random(2, 3, C), random(2, 3, C), y, weight=weight, mean_over="sequences")
    assert lg.weight.tolist() == [0.25, 0.5, 0.25, 1.0]
    with pytest.raises(ValueError, match="did you mean 'sequences'"):
        tokens(random(2, 3, C), random(2, 3, C), y, mean_over="sequence")


@pytest.mark.parametrize("other", [(16, 12), (16, 16), (12, 20), (25, 25)])
@pytest.mark.parametrize("place", ["teacher", "labels"])
def test_a_map_that_was_turned_cut_or_padded_is_refused(place: str, other: tuple[int, int]) -> None:
    sizes = {"teacher": (12, 16), "labels": (12, 16), place: other}
    student, teacher = torch.randn(2, 5, 12, 16), torch.randn(2, 5, *sizes["teacher"])
    with pytest.raises(ValueError, match="no scaling of one picture"):
        pixels(student, teacher, torch.zeros(2, *sizes["labels"]).long())


@pytest.mark.parametrize(
    ("size", "scaled"), [((65, 129), (9, 17)), ((65, 129), (8, 16)), ((3, 4), (6, 8)), ((5, 5), (1, 1))]
)
def test_a_map_that_was_scaled_and_rounded_is_taken(size: tuple[int, int], scaled: tuple[int, int]) -> None:
    lg = pixels(torch.randn(1, 3, *scaled), torch.randn(1, 3, *size), torch.zeros(1, *size).long())
    assert lg.rows == size[0] * size[1]


@pytest.mark.parametrize("turned", [False, True])
def test_a_scaled_map_may_be_off_by_less_than_a_pixel(turned: bool) -> None:
    def of(h: int, w: int) -> int:
        size = (w, h) if turned else (h, w)
        return pixels(torch.randn(1, 3, *size), torch.randn(1, 3, 100, 100)).rows

    assert of(10, 11) == 100 * 100
    with pytest.raises(ValueError, match="no scaling"):
        of(10, 12)


def test_a_further_teacher_that_ends_in_softmax_is_warned_of() -> None:
    z = torch.randn(2, 3)
    with pytest.warns(UserWarning, match=r"teachers\[0\] holds probabilities"):
        fr.Logits(z, z, torch.tensor([0, 1]), teachers=(z.softmax(1),))
