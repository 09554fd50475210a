"""The fused kernel, the calls it stands for and the formula move alike, whatever the memory layout."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from fractionate.optim import StreamSGD, arithmetic
from fractionate.optim.arithmetic import _foreach, fusible, heavy_ball

CASES = [
    {"momentum": m, "decay": d, "dampening": k, "nesterov": n, "first": f}
    for m, d, (k, n), f in itertools.product(
        (0.0, 0.9), (0.0, 0.1), ((0.0, False), (0.3, False), (0.0, True)), (True, False)
    )
    if m or not n
]
SHAPES = [(3,), (33,), (4, 5), (6, 5, 3, 3), (7, 4, 1, 1)]


def tensors(dtype: torch.dtype) -> list[Tensor]:
    return [torch.randn(shape, dtype=dtype) for shape in SHAPES]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_kernel_moves_by_the_formula(case: dict[str, float]) -> None:
    p, g, v = (tensors(torch.float64) for _ in range(3))
    m, decay = case["momentum"], case["decay"]
    full = [b + decay * a for a, b in zip(p, g, strict=True)]
    balls = full if case["first"] else [m * c + (1 - case["dampening"]) * b for b, c in zip(full, v, strict=True)]
    steps = full if not m else [b + m * c for b, c in zip(full, balls, strict=True)] if case["nesterov"] else balls
    expected = [a - 0.1 * s for a, s in zip(p, steps, strict=True)]
    for move in (heavy_ball, lambda *x, **k: _foreach(*x, *k.values())):
        params, buffers = [x.clone() for x in p], [x.clone() for x in v] if m else []
        given = [x.clone() for x in g]
        move(params, given, buffers, lr=0.1, **case)
        assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-14) for a, b in zip(params, expected, strict=True))
        assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-14) for a, b in zip(buffers, balls, strict=False))
        assert all(torch.equal(a, b) for a, b in zip(given, g, strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_learning_rate_may_be_a_tensor(case: dict[str, float]) -> None:
    p, g, v = (tensors(torch.float32) for _ in range(3))
    for move in (heavy_ball, lambda *x, **k: _foreach(*x, *k.values())):
        found = []
        for lr in (0.1, torch.tensor(0.1)):
            params, buffers = [x.clone() for x in p], [x.clone() for x in v] if case["momentum"] else []
            move(params, [x.clone() for x in g], buffers, lr=lr, **case)
            found.append([*params, *buffers])
        assert all(torch.allclose(a, b, rtol=1e-6, atol=1e-7) for a, b in zip(*found, strict=True))


def test_tensors_that_do_not_lie_alike_take_the_general_way() -> None:
    p, g, v = (tensors(torch.float32) for _ in range(3))
    assert fusible(p, g, v)
    last = torch.channels_last
    turned = [x.to(memory_format=last) if x.ndim == 4 else x for x in g]
    assert not fusible(p, turned, v)
    assert not fusible(p, g, [x.T if x.ndim == 2 else x for x in v])
    assert not fusible([*p, torch.zeros(3, dtype=torch.float64)], [*g, torch.zeros(3)], [*v, torch.zeros(3)])
    assert not fusible([torch.zeros(4, 6)[:, ::2]], [torch.zeros(4, 6)[:, ::2]], [])
    assert fusible(*([x.to(memory_format=last) if x.ndim == 4 else x for x in y] for y in (p, g, v)))


@pytest.mark.parametrize(
    "layouts", [*itertools.product((torch.contiguous_format, torch.channels_last), repeat=2)], ids=str
)
def test_layouts_of_weights_and_gradients_change_no_step(
    layouts: tuple[torch.memory_format, torch.memory_format],
) -> None:
    start = torch.randn(6, 5, 3, 3, dtype=torch.float64)
    plain, laid = start.clone(), start.clone().to(memory_format=layouts[0])
    made = [StreamSGD([p], lr=0.1, momentum={"a": 0.9, "b": 0.5}, weight_decay=0.01) for p in (plain, laid)]
    for _ in range(3):
        a, b = torch.randn_like(start), torch.randn_like(start)
        made[0].step({"a": [a], "b": [b]})
        made[1].step({"a": [a.to(memory_format=layouts[1])], "b": [b]})
    assert torch.allclose(plain, laid, rtol=1e-12, atol=1e-14)


def test_one_tensor_that_lies_otherwise_does_not_take_the_others_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where the general way is slow for all of them; here its device is played."""
    last = torch.channels_last
    p, g, v = (tensors(torch.float32) for _ in range(3))
    g = [x.to(memory_format=last) if x.ndim == 4 else x for x in g]  # the 1 x 1 convolution lies both ways at once
    whole = [[x.clone() for x in row] for row in (p, v)]
    heavy_ball(whole[0], g, whole[1], lr=0.1, momentum=0.9, decay=0.1, dampening=0.0, nesterov=False, first=False)
    general: list[int] = []

    def noted(params: list[Tensor], *rest: object) -> None:
        general.append(len(params))
        _foreach(params, *rest)

    monkeypatch.setattr(arithmetic, "_foreach", noted)
    monkeypatch.setattr(arithmetic, "local", lambda row, like=(): [Elsewhere(x) for x in row])
    heavy_ball(p, g, v, lr=0.1, momentum=0.9, decay=0.1, dampening=0.0, nesterov=False, first=False)
    assert general == [1]  # the 3 x 3 convolution alone
    for a, b in zip([*p, *v], [*whole[0], *whole[1]], strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-7)


class Elsewhere(Tensor):
    """A tensor that says it is on no CPU, and shares its memory with one that is."""

    @staticmethod
    def __new__(cls, x: Tensor) -> Elsewhere:
        return x.as_subclass(cls)

    is_cpu = False
