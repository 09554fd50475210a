"""Means over rows: weighted the same everywhere, in chunks, in parts of a step, and where training stands."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import fractionate as fr
from fractionate import Logits, Progress
from fractionate.rows import chunked, chunks, pixels, weighted_mean, with_weight
from tests import cases
from tests.asserts import assert_equal, assert_same, student_gradients, with_leaf_students
from tests.rows.inputs import EACH, B, C, H, W, everything, maps, random
from tests.rows.test_logits import PICKED

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


def test_the_end_is_the_last_step_of_the_last_epoch() -> None:
    end = fr.Progress.end()
    assert (end.epoch, end.step) == (end.epochs, (end.steps or 0) - 1)


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


# -- parts of a step -------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("weighed", [False, True])
def test_parts_of_a_batch_with_ignored_pixels_combine_to_the_mean_of_the_whole(
    method: fr.Method, weighed: bool
) -> None:
    student, teacher, y = maps()
    y[0, 1:] = 255  # the parts hold 4 or fewer rows and 14 or more
    weight = random(B, H, W, seed=3).square() if weighed else None
    whole = pixels(student, teacher, y, weight=weight)
    parts = [
        pixels(
            student[i : i + 1], teacher[i : i + 1], y[i : i + 1], weight=None if weight is None else weight[i : i + 1]
        )
        for i in range(B)
    ]
    means, totals = (torch.stack(x) for x in ([method.loss(p) for p in parts], [p.total_weight for p in parts]))
    assert_equal(weighted_mean(means, totals), method.loss(whole), "", 1e-12)
    assert_equal(totals.sum(), whole.total_weight, "", 1e-12)
    assert abs(float(means.mean() - method.loss(whole))) > 0.01  # weighed by images it is another number


def test_a_part_without_rows_counts_for_nothing() -> None:
    none, some = everything(0), everything(4)
    kd = fr.methods.kd()
    means, totals = torch.stack([kd.loss(none), kd.loss(some)]), torch.stack([none.total_weight, some.total_weight])
    assert float(weighted_mean(means, totals)) == pytest.approx(float(kd.loss(some)))
    assert float(weighted_mean(means[:1], totals[:1])) == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_rows_are_counted_exactly_in_every_precision(dtype: torch.dtype) -> None:
    z = torch.zeros(4097, 2, dtype=dtype)
    assert float(Logits(z, z).total_weight) == 4097
    assert Logits(z, z).total_weight.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_weights_multiply() -> None:
    lg, rule = everything(6), random(6, seed=9).square()
    weighted = with_weight(lg, rule)
    assert torch.equal(weighted.weight, lg.weight * rule)
    assert torch.equal(with_weight(replace(lg, weight=None), rule).weight, rule)
    x = random(6, seed=8)
    expected = (lg.weight * rule * x).sum() / (lg.weight * rule).sum()
    assert_equal(weighted_mean(x, weighted.weight), expected, "", 1e-12)


# -- Progress --------------------------------------------------------------------------------------


def test_a_loop_that_counts_in_steps_alone_stands_where_one_that_counts_epochs_does() -> None:
    z, t = torch.randn(4, 10), torch.randn(4, 10)
    lg, method = Logits(z, t, torch.arange(4)), fr.methods.gdkd(ce_weight=0)
    for step in (0, 40, 500, 999):
        epoch = 1 + step * 240 // 1000
        by_epochs = method.loss(lg, Progress(epoch=epoch, epochs=240))
        assert torch.equal(method.loss(lg, Progress(step=step, steps=1000)), by_epochs)
    assert [Progress(step=s, steps=4, epochs=2).epoch for s in (0, 1, 2, 3, 4, 9)] == [1, 1, 2, 2, 2, 2]
    assert Progress(step=3, steps=4, epoch=7).epoch == 7
    assert Progress(step=3).epoch == 1


def test_progress_takes_no_numbers_without_names() -> None:
    """``Progress(1, 3)`` looks like epoch 1 of 3, and was step 1 of epoch 3."""
    with pytest.raises(TypeError, match="positional"):
        Progress(1, 3)  # type: ignore[misc]


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_row_weights_of_half_precision_count_as_the_same_numbers_in_float32(dtype: torch.dtype) -> None:
    """The sum of 70,000 ones is infinite in float16, and 256 stays 256 in bfloat16."""
    n = 70_000
    z, t, y = torch.randn(n, 3), torch.randn(n, 3), torch.randint(3, (n,))
    weight = torch.rand(n).to(dtype)
    for given in (weight, torch.ones(n, dtype=dtype)):
        found, expected = (fr.methods.kd().loss(Logits(z, t, y, weight=w)) for w in (given, given.float()))
        assert torch.equal(found, expected)
        maps = [x.T.reshape(1, 3, 280, 250) for x in (z, t)]
        two = [
            fr.methods.kd().loss(fr.rows.pixels(*maps, y.reshape(1, 280, 250), weight=w.reshape(1, 280, 250)))
            for w in (given, given.float())
        ]
        assert torch.equal(*two)
