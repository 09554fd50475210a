"""What holds for every path of a split: many classes, high temperatures, 16 bits, flat groups, unordered sets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate import Logits
from fractionate.kernels import c_split, top_classes, top_set
from fractionate.losses import TopLogits, by_target_top, coarse, partitions, zscored
from tests import cases
from tests.asserts import assert_equal

M = fr.methods
PATHS = ["compiled", "torch", "plain"]


def rows(n: int, c: int, dtype: torch.dtype = torch.float32) -> Logits:
    student, teacher = (cases.random_logits(n, c, s, seed).to(dtype) for s, seed in ((2.0, 1), (4.0, 2)))
    return Logits(student.requires_grad_(), teacher, torch.arange(n) % c)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("temperature", [1.0, 4.0, 100.0])
@pytest.mark.parametrize("make", [fr.by_target, lambda lg: fr.by_top(lg, 50)], ids=["by_target", "by_top"])
def test_many_classes_and_a_high_temperature_agree_with_float64(
    path: str, temperature: float, make: Callable[[Logits], fr.Partition], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More classes than any vocabulary has. A value is T^2 times a difference of logarithms, each exact to eps."""
    lg = rows(3, 150_000)
    exact = Logits(lg.student.detach().double().requires_grad_(), lg.teacher.double(), lg.target)
    expected = fr.split_kl(exact.student, exact.teacher, make(exact), temperature, fused=False)
    if path == "torch":
        monkeypatch.setattr(c_split, "library", lambda: None)
    elif path == "compiled" and c_split.library() is None:
        pytest.skip("there are no compiled kernels")
    found = fr.split_kl(lg.student, lg.teacher, make(lg), temperature, fused=path != "plain")
    rounding = 8 * torch.finfo(torch.float32).eps * temperature**2
    for name in ("between", "within", "mass"):
        a, b = getattr(found, name).detach().double(), getattr(expected, name).detach()
        assert bool(((a - b).abs() <= rounding + 1e-5 * b.abs()).all()), name
    sums = ((s.within + s.between[:, None]).sum() for s in (found, expected))
    a, b = (torch.autograd.grad(x, of.student)[0] for x, of in zip(sums, (lg, exact), strict=True))
    assert float((a.double() - b).abs().max()) <= 2e-5 * float(b.abs().max())


@pytest.mark.parametrize("factor", [1.0, 0.3, 7.0])
@pytest.mark.parametrize("method", [M.kd(), M.dkd(), M.gdkd(k=3), M.deepkd(M.dkd(), keep=4)], ids=repr)
def test_bfloat16_gradients_are_the_rounded_float32_ones(method: fr.Method, factor: float) -> None:
    """Rounded once, whatever the loss is multiplied by; the distillation alone, as torch rounds the cross-entropy.

    The room is half a step of bfloat16, and what two orders of the same float32 sums differ by.
    """
    short = rows(16, 40, torch.bfloat16)
    exact = Logits(short.student.detach().float().requires_grad_(), short.teacher.float(), short.target)
    terms = fr.only(method, [name for name in method.parts if name != "task"])
    a, b = (torch.autograd.grad(factor * terms.loss(lg), lg.student)[0] for lg in (short, exact))
    assert a.dtype == torch.bfloat16
    half = torch.ldexp(torch.ones_like(b), torch.frexp(b).exponent - 9)
    assert ((a.float() - b).abs() <= half + 1e-7 * b.abs().max()).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_student_is_coarsened_in_float32(dtype: torch.dtype) -> None:
    lg = rows(6, 30, dtype)
    top = TopLogits.of(lg.teacher.float(), 5, 2.0)
    few = coarse(lg, top)
    exact = coarse(Logits(lg.student.detach().float(), lg.teacher.float(), lg.target), top)
    assert few.student.dtype == torch.float32
    assert_equal(few.student.detach(), exact.student, rtol=1e-6)
    assert torch.autograd.grad(few.student.sum(), lg.student)[0].dtype == dtype


@pytest.mark.parametrize("level", [0.0, 1e-3, 0.1, 7.3, 1e4, 3e7, -0.7])
@pytest.mark.parametrize("members", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_members_of_a_group_score_exactly_zero(level: float, members: int, dtype: torch.dtype) -> None:
    """A mean of three equal numbers need not be that number; the score must not see it."""
    student, teacher = cases.random_logits(4, 9, 2.0, 0).to(dtype), cases.random_logits(4, 9, 4.0, 1).to(dtype)
    inside = torch.zeros(4, 9, dtype=torch.bool)
    inside[:, :members] = True
    flat = teacher.masked_fill(inside, level)
    for pair in ((student, flat), (flat, student)):
        for scored in zscored(*pair, inside):
            assert bool((scored[inside] == 0).all())


REFUSED = {
    "reverse": ({"kl": "reverse"}, "forward"),
    "both directions": ({"kl": "both"}, "forward"),
    "a tensor temperature": ({"temperature": torch.tensor(4.0)}, "gradient"),
}


@pytest.mark.parametrize(("options", "why"), REFUSED.values(), ids=REFUSED)
def test_the_fused_path_is_refused_where_it_cannot_be_taken(options: dict[str, object], why: str) -> None:
    lg = rows(2, 5)
    with pytest.raises(ValueError, match=f"fused path cannot be used here: .*{why}"):
        fr.split_kl(lg.student, lg.teacher, fr.by_target(lg), **{"temperature": 4.0, **options}, fused=True)


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (lambda lg: fr.Partition((fr.losses.Group(torch.arange(5).expand(2, 5)),), 5), "no class for the rest"),
        (lambda lg: by_target_top(lg, 4), "no class for the rest"),
        (
            lambda lg: fr.Partition((fr.losses.Group(lg.target[:, None], torch.tensor([[True], [False]])),), 5),
            "must count in every row",
        ),
    ],
)
def test_the_torch_path_is_refused_for_partitions_that_it_cannot_hold(
    part: object, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(c_split, "library", lambda: None)
    lg = rows(2, 5)
    with pytest.raises(ValueError, match=why):
        fr.split_kl(lg.student, lg.teacher, part(lg), fused=True)


# -- sets of best classes, without an order --------------------------------------------------


def tied(n: int, c: int, seed: int) -> Tensor:
    return torch.randint(0, 4, (n, c), generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize("k", [1, 2, 7, 39, 40])
@pytest.mark.parametrize("make", [tied, lambda n, c, seed: cases.random_logits(n, c, 3.0, seed)])
def test_the_set_of_the_best_classes_is_that_of_the_ranking(k: int, make: object) -> None:
    logits = make(50, 40, k)
    found, expected = top_set(logits, k), top_classes(logits, k)
    assert torch.equal(found.sort().values, expected.sort().values)


@pytest.mark.parametrize("count_target", [True, False])
@pytest.mark.parametrize("k", [2, 3, 11, 19])
def test_a_mask_without_ranking_holds_the_same_classes(
    k: int, count_target: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for teacher in (tied(30, 20, k), cases.random_logits(30, 20, 3.0, k).float()):
        lg = Logits(torch.zeros(30, 20), teacher, torch.arange(30) % 20)
        ranked = by_target_top(lg, k, count_target=count_target)
        monkeypatch.setattr(partitions, "MANY", 1)
        chosen = by_target_top(lg, k, count_target=count_target)
        monkeypatch.undo()
        for a, b in zip(ranked.groups, chosen.groups, strict=True):
            assert torch.equal(*(fr.Partition((g,), 20).members(30, teacher.device) for g in (a, b)))


def test_a_mask_of_many_classes_sorts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    lg = rows(2, 5000)
    monkeypatch.setattr(partitions, "top_classes", lambda *_, **__: pytest.fail("ranked"))
    method = M.deepkd(M.dkd(), keep=fr.schedules.phases(plateau=0.55))
    assert method.loss(lg, fr.Progress(epoch=100)).isfinite()


def test_equal_logits_are_in_one_group_of_the_cosines_only() -> None:
    """Of equal logits the first are the largest and the last the smallest."""
    z, v = cases.random_logits(3, 6, 1.0, 0), cases.random_logits(3, 6, 1.0, 1)
    flat = torch.zeros(3, 6, dtype=z.dtype)
    expected = sum(1 - torch.cosine_similarity(z[:, i : i + 2], v[:, i : i + 2]) for i in (0, 2, 4))
    assert_equal(fr.losses.top_cosine(z, v, flat, k=2, alpha=1.0, beta=1.0), expected)
