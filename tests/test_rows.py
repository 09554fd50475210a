"""Rows: everything becomes [n, c], what is ignored is gone, and means are weighted the same everywhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import fractionate as fr
from fractionate import Logits, Progress
from fractionate.rows import chunked, chunks, pixels, rois, tokens, weighted_mean, with_logits
from tests import cases
from tests.asserts import assert_equal, assert_same, student_gradients, with_leaf_students

METHODS = [fr.methods.kd(), fr.methods.dkd(warmup=1), fr.methods.gdkd(k=2, warmup=1)]
EACH = pytest.mark.parametrize("method", METHODS, ids=repr)
B, C, H, W = 2, 5, 4, 6


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def labels(*shape: int, classes: int = C, seed: int = 0) -> Tensor:
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(seed))


def maps() -> tuple[Tensor, Tensor, Tensor]:
    """Student and teacher maps with labels, a third of them ignored."""
    y = labels(B, H, W)
    return random(B, C, H, W, seed=1), 3 * random(B, C, H, W, seed=2), y.where(y > 1, 255)


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


# -- chunks ----------------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_rows_in_chunks_equal_all_rows_with_their_gradients(method: fr.Method, size: int) -> None:
    lg = with_leaf_students(replace(cases.easy(n=7, c=C, strong=False), weight=random(7).square()))
    whole, pieces = method.components(lg), chunked(lambda part: method.components(part), lg, size)
    assert_same(pieces, whole, 1e-12)
    for name, rows in whole.items():
        (a,), (b,) = (student_gradients((x * lg.weight).sum(), lg) for x in (pieces[name], rows))
        assert_equal(a, b, f"gradient of {name}", 1e-12)


def test_chunks_cover_every_row_once_and_carry_everything_that_belongs_to_it() -> None:
    lg = everything(7)
    parts = list(chunks(lg, 3))
    assert [part.rows for part in parts] == [3, 3, 1]
    for pick in PICKED.values():
        assert torch.equal(torch.cat([pick(part) for part in parts]), pick(lg))


def test_no_rows_are_one_empty_chunk() -> None:
    assert [part.rows for part in chunks(cases.easy(n=0), 3)] == [0]
    assert chunked(lambda part: {"x": part.student.sum(1)}, cases.easy(n=0), 3)["x"].shape == (0,)


def test_a_chunk_of_no_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least 1 row, got 0"):
        list(chunks(cases.easy(), 0))


# -- picking rows ----------------------------------------------------------------------------------


def everything(n: int) -> Logits:
    """Rows with two views, weights, a ranking, a further teacher, three regions each and an extra loss."""
    lg = cases.easy(n=n, c=C)
    regions = Logits(random(3 * n, C), random(3 * n, C, seed=1), lg.target.repeat_interleave(3))
    return replace(
        lg, weight=random(n), ranking=random(n, C), teachers=(random(n, C),), regions=regions, extra={"hint": random(n)}
    )


PICKED = {
    "student": lambda lg: lg.student,
    "teacher": lambda lg: lg.teacher,
    "target": lambda lg: lg.target,
    "strong": lambda lg: lg.strong.student,
    "weight": lambda lg: lg.weight,
    "ranking": lambda lg: lg.ranking,
    "teachers": lambda lg: lg.teachers[0],
    "regions": lambda lg: lg.regions.student,
    "labels of regions": lambda lg: lg.regions.target,
    "extra": lambda lg: lg.extra["hint"],
}


@pytest.mark.parametrize(
    "rows",
    [slice(2, 5), slice(None), slice(-2, None), slice(None, None, 2), torch.tensor([5, 0]), torch.arange(7) % 3 == 0],
    ids=str,
)
def test_picking_rows_picks_all_that_belongs_to_them(rows: slice | Tensor) -> None:
    lg = everything(7)
    picked = lg[rows]
    for name, pick in PICKED.items():
        whole = pick(lg)
        expected = whole.view(7, 3, *whole.shape[1:])[rows].flatten(0, 1) if "regions" in name else whole[rows]
        assert torch.equal(pick(picked), expected), name


# -- weights ---------------------------------------------------------------------------------------


@EACH
def test_a_row_of_weight_two_counts_as_two_rows(method: fr.Method) -> None:
    lg = cases.easy(n=6, c=C, strong=False)
    counts = torch.tensor([2, 1, 0, 3, 1, 1])
    repeated = lg[torch.arange(6).repeat_interleave(counts)]
    weighted = replace(lg, weight=counts.double())
    for merge in (True, False):
        for method_ in (method, fr.methods.dot(method), fr.methods.deepkd(method)):
            a, b = (method_.stream_losses(x, merge=merge) for x in (weighted, repeated))
            assert_same(a, b, 1e-12)


def test_the_scale_of_all_weights_does_not_matter() -> None:
    x, w = random(6), random(6).square()
    assert_equal(weighted_mean(x, 1e3 * w), weighted_mean(x, w), "", 1e-12)
    assert_equal(weighted_mean(x, torch.ones(6).double()), weighted_mean(x, None), "", 1e-14)
    assert_equal(weighted_mean(x, None), x.mean(), "", 1e-14)


@pytest.mark.parametrize(("n", "weight"), [(0, None), (0, 0), (3, 0)])
def test_no_rows_and_no_weight_are_zero_with_a_graph(n: int, weight: int | None) -> None:
    x = random(n).requires_grad_()
    mean = weighted_mean(x, None if weight is None else torch.zeros(n).double())
    mean.backward()
    assert float(mean.detach()) == 0
    assert torch.equal(x.grad, torch.zeros(n).double())


# -- Logits ----------------------------------------------------------------------------------------


def test_the_teacher_is_detached_and_transforms_keep_the_raw_ranking() -> None:
    teacher = random(3, C).requires_grad_()
    lg = Logits(random(3, C), teacher, labels(3), teachers=(teacher * 2,))
    assert not lg.teacher.requires_grad
    assert not lg.teachers[0].requires_grad
    changed = with_logits(with_logits(lg, lg.student, -lg.teacher), lg.student, lg.teacher * 0)
    assert torch.equal(changed.rank_by, lg.teacher)


def test_soft_labels_have_a_most_likely_class() -> None:
    soft = Logits(random(2, 3), random(2, 3), torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.1, 0.4]]).double())
    assert (soft.soft, soft.labels.tolist()) == (True, [1, 0])
    hard = Logits(random(2, 3), random(2, 3), torch.tensor([2, 0]))
    assert (hard.soft, hard.labels.tolist()) == (False, [2, 0])


GOOD = {"student": random(3, C), "teacher": random(3, C), "target": labels(3)}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"teacher": random(3, 4)}, r"must both be \[n, c\]; got \[3, 5\] and \[3, 4\]. Flatten pixels"),
        ({"student": random(3, C, 1), "teacher": random(3, C, 1)}, r"must both be \[n, c\]"),
        ({"teacher": random(3, C).float()}, "one floating dtype, got torch.float64 and torch.float32; cast one"),
        ({"student": labels(3, C), "teacher": labels(3, C)}, "floating dtype, got torch.int64"),
        ({"teacher": random(3, C).to("meta")}, "student is on cpu, teacher on meta; move one"),
        ({"student": random(3, 1), "teacher": random(3, 1)}, "at least 2 classes are needed, got c=1"),
        ({"target": torch.tensor([0, 1])}, r"target must be int64 \[n\]=\[3\] or soft labels"),
        ({"target": torch.tensor([0, 1, 2], dtype=torch.int32)}, r"target must be int64.*got torch.int32"),
        ({"target": torch.tensor([0, 1, C])}, r"labels must lie in 0..4, got 0..5; ignored positions"),
        ({"target": torch.tensor([0, 1, -100])}, r"labels must lie in 0..4, got -100..1"),
        ({"target": random(3)}, r"holds soft labels \[n, c\]=\[3, 5\], got \[3\]"),
        ({"target": labels(3).to("meta")}, "target is on meta, student on cpu"),
        ({"weight": random(2)}, r"weight must be \[n\]=\[3\] on cpu, got \[2\]"),
        ({"extra": {"hint": random(3, 1)}}, r"hint must be \[n\]=\[3\] on cpu, got \[3, 1\]"),
        ({"ranking": random(3, 4)}, r"the ranking must have the rows and classes of the student \[3, 5\]"),
        ({"teachers": (random(2, C),)}, r"got \[3, 5\] and \[2, 5\]"),
        (
            {"strong": Logits(random(2, C), random(2, C), labels(2))},
            r"the strong view must have.*\[3, 5\], got \[2, 5\]",
        ),
        ({"regions": Logits(random(4, C), random(4, C), labels(4))}, r"regions must be \[n \* r, c\] with n=3, c=5"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_does_not_fit_is_refused_with_what_was_expected(
    wrong: dict[str, object], message: str, unchecked: None
) -> None:
    with pytest.raises(ValueError, match=message):
        Logits(**{**GOOD, **wrong})


# -- Progress --------------------------------------------------------------------------------------


def test_progress_runs_from_zero_to_one() -> None:
    assert [Progress(epoch=e, epochs=5).fraction for e in (1, 3, 5, 6)] == [0.0, 0.5, 1.0, 1.0]
    assert [Progress(step=s, steps=11).step_fraction for s in (0, 5, 10)] == [0.0, 0.5, 1.0]
    assert (Progress(epochs=1).fraction, Progress(steps=1).step_fraction) == (0.0, 0.0)


@pytest.mark.parametrize("wrong", [{"step": -1}, {"epoch": 0}, {"epochs": 0}])
def test_progress_outside_training_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="step counts from 0, epoch from 1"):
        Progress(**wrong)


def test_a_step_wise_schedule_needs_the_number_of_steps() -> None:
    with pytest.raises(ValueError, match=r"needs Progress\(steps=number of steps\)"):
        _ = Progress(step=3).step_fraction
