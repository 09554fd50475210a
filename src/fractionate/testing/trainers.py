"""The checks of a contract that look at gradient streams: alone, under dot and under deepkd."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..methods import Method, deepkd, dot, only
from ..optim import StreamSGD, stream_grads
from ..rows import Logits, weighted_mean
from . import properties as law
from .checks import exactly_if, refused
from .facts import Contract
from .inputs import students, with_students


def streams(method: Method, contract: Contract) -> None:
    """The stated streams hold all components once; their losses are weighted means and add up to the loss."""
    lg = contract.rows()
    rows = method.components(lg, contract.progress)
    apart = method.stream_losses(lg, contract.progress, merge=False)
    law.require(tuple(apart) == contract.streams, f"streams {tuple(apart)}, stated {contract.streams}")
    for stream in method.streams:
        terms = [method.parts[c].weight(contract.progress) * weighted_mean(rows[c], None) for c in stream.components]
        law.assert_equal(apart[stream.name], torch.stack(terms).sum(), f"stream {stream.name}")
    law.assert_equal(method.loss(lg, contract.progress), torch.stack(list(apart.values())).sum(), "sum of the streams")


def backward_passes(method: Method, contract: Contract) -> None:
    """A step differentiates as often as stated, and moves the weights by finite gradients."""
    _count_passes(method, contract, contract.backward_passes)


def one_component(method: Method, contract: Contract) -> None:
    """``only`` keeps one component with its weight; all of them together are the loss."""
    lg, at = contract.rows(), contract.progress
    rows = method.components(lg, at)
    losses = []
    for name in method.parts:
        single = only(method, name)
        law.assert_same(single.components(lg, at), {name: rows[name]})
        losses.append(single.loss(lg, at))
        law.assert_equal(losses[-1], method.parts[name].weight(at) * rows[name].mean(), f"only({name})")
    law.assert_equal(torch.stack(losses).sum(), method.loss(lg, at), "sum of the components")


def under_dot(method: Method, contract: Contract) -> None:
    """``dot`` changes no component and no weight, and takes two backward passes."""
    wrapped = dot(method, delta=0.25)
    lg, at = contract.rows(), contract.progress
    law.assert_same(wrapped.components(lg, at), method.components(lg, at), rtol=0.0)
    law.assert_equal(wrapped.loss(lg, at), method.loss(lg, at), "loss under dot")
    momenta = dict(wrapped.momenta(0.5))
    law.require(momenta == {"task": 0.25, "distillation": 0.75}, f"momenta under dot: {momenta}")
    _count_passes(wrapped, contract, 2)


def under_deepkd(method: Method, contract: Contract) -> None:
    """``deepkd`` keeps the loss and takes two backward passes; without roles it refuses, naming the components."""
    if not contract.roles:
        nameless = [name for name, part in method.parts.items() if part.role is None]
        law.require(bool(nameless), "every component has a role, but the contract says that deepkd does not work")
        refused(lambda: deepkd(method), *nameless)
        return
    wrapped = deepkd(method, delta=0.25)
    lg, at = contract.rows(), contract.progress
    exactly_if(
        contract.deepkd_keeps_loss,
        "the same loss under deepkd",
        lambda: law.assert_equal(wrapped.loss(lg, at), method.loss(lg, at), "loss under deepkd"),
    )
    found = [stream.name for stream in wrapped.streams]
    law.require(found == ["task", "target", "nontarget"], f"streams under deepkd: {found}")
    momenta = dict(wrapped.momenta(0.5))
    law.require(momenta == {"task+nontarget": 0.75, "target": 0.25}, f"momenta under deepkd: {momenta}")
    _count_passes(wrapped, contract, 2)


class _Counted(torch.autograd.Function):
    """The identity, which counts how often it is differentiated."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, calls: list[int]) -> Tensor:
        """The logits as they are."""
        ctx.calls = calls
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """The gradient as it is."""
        ctx.calls.append(1)
        return grads[0], None


def _count_passes(method: Method, contract: Contract, expected: int) -> None:
    leaf, lg, calls = _counted_rows(contract)
    grads = stream_grads(method.stream_losses(lg, contract.progress), [leaf])
    found = len(calls)
    law.require(found == expected, f"{method.name}: {found} backward passes, expected {expected}")
    stated = method.backward_passes
    law.require(stated == expected, f"{method.name} says {stated} backward passes, expected {expected}")
    optimizer = StreamSGD([leaf], lr=0.1, momentum=method.momenta(0.5))
    before = leaf.detach().clone()
    optimizer.step(grads)
    moved = leaf.detach() - before
    law.require(bool(moved.isfinite().all()) and bool(moved.any()), f"{method.name}: the step is {moved}")


def _counted_rows(contract: Contract) -> tuple[Tensor, Logits, list[int]]:
    """Rows whose student logits, and further losses, depend on one leaf that counts its derivatives."""
    calls: list[int] = []
    lg = contract.rows()
    leaf = torch.cat(students(lg)).requires_grad_()
    counted = _Counted.apply(leaf, calls)
    extra = {name: x + 0.1 * counted[: lg.rows].square().mean(1) for name, x in lg.extra.items()}
    views = counted.split([len(z) for z in students(lg)])
    return leaf, with_students(replace(lg, extra=extra), views), calls
