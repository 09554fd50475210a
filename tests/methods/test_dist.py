"""DIST: correlations along rows and along classes."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
import torch
from torch import Tensor, distributed, multiprocessing

import fractionate as fr
from fractionate import Logits, Method, Progress
from fractionate.losses import column_correlation, row_correlation
from tests import asserts, cases
from tests.reference import dist as twin

DIST = fr.methods.dist()
LATE = Progress(epoch=200)
GRADED = [pytest.param(lg, id=name) for name, lg in cases.graded() if lg.rows]


def rows(lg: Logits) -> dict[str, Tensor]:
    return DIST.components(lg, LATE)


def test_values_and_gradients_are_right_and_finite() -> None:
    asserts.assert_gradcheck(rows, cases.easy(n=4, c=5, strong=False))
    for dtype in cases.LOW_PRECISION:
        for size in (200, 1e4):
            asserts.assert_finite(rows, cases.cast(cases.huge(size=size), dtype))
    for _, lg in cases.graded():
        asserts.assert_finite(rows, lg)


def test_symmetries() -> None:
    lg = cases.easy(strong=False)
    asserts.assert_shift_invariant(rows, lg)
    asserts.assert_class_permutation_invariant(rows, lg)
    asserts.assert_no_teacher_gradient(rows, lg)
    asserts.assert_empty_batch_is_zero(lambda lg: DIST.loss(lg, LATE), lg)


@pytest.mark.compiled
def test_compiles() -> None:
    asserts.assert_compiles_like_eager(rows, cases.easy(strong=False))


@pytest.mark.parametrize("lg", GRADED)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dist_equals_the_twin(lg: Logits, temperature: float) -> None:
    found = DIST.with_args(temperature=temperature).components(lg)
    expected = twin.dist(lg.student, lg.teacher, temperature=temperature)
    asserts.assert_equal(found["inter"], expected["inter"])
    asserts.assert_equal(found["intra"], expected["intra"].expand(lg.rows))


def test_the_scale_is_an_option() -> None:
    lg = cases.easy(strong=False)
    plain = DIST.with_args(scale=False).components(lg)
    for name in ("inter", "intra"):
        asserts.assert_equal(rows(lg)[name], 16 * plain[name])


def test_positive_affine_maps_of_the_teacher_s_probabilities_change_no_row_correlation() -> None:
    lg = cases.easy(strong=False)
    p = lg.teacher.softmax(1)
    mapped = (0.5 * p + 0.5 / lg.classes).log()
    asserts.assert_equal(row_correlation(lg.student, mapped), row_correlation(lg.student, lg.teacher), rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("n", [1, 7])
def test_a_constant_column_contributes_nothing_and_receives_no_gradient(n: int, dtype: torch.dtype) -> None:
    """Equal rows make every column constant, in the student, in the teacher or in both."""
    same = torch.tensor([[0.1, 0.7, -0.3]], dtype=dtype).repeat(n, 1)
    other = cases.random_logits(n, 3, 1.0, seed=3).to(dtype)
    for student, teacher in ((same, other), (other, same), (same, same)):
        leaf = student.clone().requires_grad_()
        rho = column_correlation(leaf, teacher)
        (grad,) = torch.autograd.grad(rho.sum(), leaf)
        assert torch.equal(rho, torch.zeros_like(rho))
        assert torch.equal(grad, torch.zeros_like(grad))


def test_it_is_not_row_wise() -> None:
    assert not DIST.row_wise


def test_rows_of_weight_zero_are_not_there() -> None:
    lg, keep = cases.easy(n=9, strong=False), torch.tensor([1, 0, 1, 1, 0, 1, 1, 0, 1]).bool()
    expected = DIST.loss(lg[keep], LATE)
    asserts.assert_equal(DIST.loss(replace(lg, weight=keep.double()), LATE), expected)


def test_gather_needs_a_process_group() -> None:
    with pytest.raises(ValueError, match="process group"):
        DIST.with_args(gather=True).components(cases.easy(strong=False))


def _worker(
    rank: int, port: int, method: Method, first: int, weight: Tensor, images: Tensor, lg: Logits, out: Tensor
) -> None:
    """One of two processes with some of the rows; the sum of both gradients, by shares, is what is trained with."""
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    own = slice(first, 8) if rank else slice(0, first)
    w = weight.clone().requires_grad_()
    part = Logits(images[own] @ w, lg.teacher[own], lg.target[own])
    loss = part.rows / 8 * method.loss(part)
    (grad,) = torch.autograd.grad(loss, w)
    distributed.all_reduce(grad)
    out[rank] = grad
    distributed.destroy_process_group()


GATHERING = {
    "dist": fr.methods.dist(gather=True, beta=0.0, ce_weight=0.0),
    "ltkd": fr.methods.ltkd(gather=True, ce_weight=0.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("first", [4, 3, 8])
@pytest.mark.parametrize("name", GATHERING)
def test_two_processes_that_gather_equal_one(name: str, first: int) -> None:
    lg = cases.easy(n=8, strong=False)
    images, weight = cases.random_logits(8, 5, 1.0, seed=5), cases.random_logits(5, lg.classes, 1.0, seed=6)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = torch.zeros(2, 5, lg.classes).double().share_memory_()
    rows = replace(lg, student=lg.teacher)
    multiprocessing.spawn(_worker, (port, GATHERING[name], first, weight, images, rows, out), nprocs=2)
    w = weight.clone().requires_grad_()
    whole = Logits(images @ w, lg.teacher, lg.target)
    (grad,) = torch.autograd.grad(GATHERING[name].with_args(gather=False).loss(whole), w)
    for found in out:
        asserts.assert_equal(found, grad)
