"""Live teachers: networks as functions from batches to logits, their batch norms folded into the layers before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .._spoken import spoken
from ..data import Batch
from ..models import Ask, copy_of, logits_of, switched


def in_channels_last(net: nn.Module) -> nn.Module:
    """The same network, its weights laid out channels last."""
    convertible: Any = net  # torch's annotations do not know this call in every release
    return convertible.to(memory_format=torch.channels_last)


class Teacher(Protocol):
    """Logits of a batch, and of its strong view if it has one.

    A live network is one; a table of stored logits, read by ``batch.index``, or a folded network are others.
    """

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """``[n, c]`` logits of ``batch.images``, and of ``batch.strong`` or ``None``."""
        ...


@dataclass(frozen=True, eq=False)
class LiveTeacher:
    """A network run on every batch, in evaluation mode, without building a graph.

    Args:
        net: the teacher; it is frozen and put into evaluation mode.
        ask: how its logits are taken.
        dtype: that of the autocast in which it runs, wherever it is called; ``None`` leaves that to the caller.
        fused: what became of its convolutions on a GPU (:func:`fractionate.teachers.fused.fused`), for the summary.

    Example:
        >>> teacher = LiveTeacher(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
        >>> weak, strong = teacher(Batch(torch.zeros(5, 1, 8, 8), torch.zeros(5).long(), torch.arange(5)))
        >>> tuple(weak.shape), strong is None
        ((5, 10), True)
    """

    net: nn.Module
    ask: Ask = logits_of
    dtype: torch.dtype | None = None
    fused: str | None = None

    @spoken
    def __post_init__(self) -> None:
        frozen(self.net)

    @spoken
    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Logits of both views."""
        with torch.inference_mode(), self._precision(batch.images):
            weak = self.ask(self.net, batch.images, "teacher")
            strong = None if batch.strong is None else self.ask(self.net, batch.strong, "teacher")
        # copies made out here are ordinary tensors, which a backward pass may keep
        return weak.clone(), None if strong is None else strong.clone()

    def _precision(self, images: Tensor) -> AbstractContextManager[object]:
        return nullcontext() if self.dtype is None else torch.autocast(images.device.type, self.dtype)


def frozen(net: nn.Module) -> nn.Module:
    """The network itself, in evaluation mode, its parameters without gradient: one by one, for ScriptModules."""
    for parameter in switched(net, False).parameters():
        parameter.requires_grad_(False)
    return net


TOLERANCE = 1e-4
PROBED = 8


@spoken
def folded(
    net: nn.Module,
    images: Tensor,
    *,
    channels_last: bool = True,
    compiled: bool = False,
    ask: Ask = logits_of,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """A frozen copy for inference with every batch norm that directly follows a convolution folded into it.

    Pairs are found by running the network once, so any network will do; what cannot be folded (a norm before its
    convolution, layers that run twice, a convolution that others read too) stays. The copy keeps the network's class
    and methods. Its logits were compared with the original's, to 1e-4 of the largest; on the CPU, because the
    convolutions of a GPU round what they read to 10 bits (TF32) and would differ by more than that.

    Args:
        net: network, which is left as it is.
        images: ``[n, ch, h, w]`` a few normalised images to run it on, on its device.
        channels_last: lay weights and activations out so.
        compiled: let ``torch.compile`` compile the copy, at its first call.
        ask: how its logits are taken.
        dtype: that of ``torch.autocast``, in which alone the copy is going to run: see :func:`cast_once`.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3))
        >>> folded(net, torch.randn(2, 1, 8, 8))[1]
        Identity()
    """
    if isinstance(net, torch.jit.ScriptModule):  # compiled already; its layers are none that could be changed
        return frozen(net)
    device, images = images.device, images[:PROBED].cpu()
    plain = frozen(copy_of(net).cpu())
    pairs = _pairs(plain, images, ask)
    chosen = _without(plain, pairs)
    if not _agree(plain, chosen, images, ask):
        chosen = _without(plain, [pair for pair in pairs if _agree(plain, _without(plain, [pair]), images, ask)])
        chosen = chosen if _agree(plain, chosen, images, ask) else plain
    if dtype is not None:
        chosen = cast_once(chosen, images, dtype, ask)
    chosen = chosen.to(device)
    if channels_last:
        chosen = in_channels_last(chosen)
    if compiled:
        chosen.compile()
    return chosen


def cast_once(net: nn.Module, images: Tensor, dtype: torch.dtype, ask: Ask = logits_of) -> nn.Module:
    """A copy whose plain convolutions and linear layers hold their weights as autocast would cast them at every call.

    Autocast keeps the casts of weights that are trained, and makes those of a frozen network anew in every pass. The
    logits are the same to the last bit, which is tried on the CPU; where they are not, because a network reads its
    weights in another way, it is given back as it is.

    Args:
        net: network, frozen, on the CPU.
        images: ``[n, ch, h, w]`` a few of them, likewise.
        dtype: of the autocast around every later call.
        ask: how its logits are taken.

    Example:
        >>> net = frozen(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))
        >>> cast_once(net, torch.randn(2, 1, 2, 2), torch.bfloat16)[1].weight.dtype
        torch.bfloat16
    """
    short = copy_of(net)
    for module in short.modules():
        if _absorbs(module) or type(module) is nn.Linear:
            module.to(dtype)
    with torch.inference_mode(), torch.autocast("cpu", dtype):
        try:
            same = torch.equal(ask(net, images, "teacher"), ask(short, images, "teacher"))
        except (RuntimeError, ValueError):  # weights that meet other numbers outside of autocast's operations
            same = False
    return short if same else net


def _pairs(net: nn.Module, images: Tensor, ask: Ask) -> list[tuple[str, str]]:
    """Names of convolutions and of the norms that take their outputs, both of which run exactly once."""
    calls: dict[str, list[tuple[Tensor, Tensor]]] = {}
    with _recording(net, calls), torch.inference_mode():
        ask(net, images, "teacher")
    once = {name: found[0] for name, found in calls.items() if len(found) == 1}
    made_by = {id(out): name for name, (_, out) in once.items() if _absorbs(net.get_submodule(name))}
    norms = {name: given for name, (given, _) in once.items() if _foldable(net.get_submodule(name))}
    return [(made_by[id(given)], name) for name, given in norms.items() if id(given) in made_by]


def _absorbs(module: nn.Module) -> bool:
    """A plain convolution whose weights are not computed anew in every pass, as those of weight norm are."""
    return type(module) is nn.Conv2d and not module._forward_pre_hooks


def _foldable(module: nn.Module) -> bool:
    """A plain batch norm (a subclass may do more) with running statistics (without them it depends on the batch)."""
    return type(module) is nn.BatchNorm2d and module.running_mean is not None


@contextmanager
def _recording(net: nn.Module, calls: dict[str, list[tuple[Tensor, Tensor]]]) -> Iterator[None]:
    """Note what enters and leaves every convolution and norm; the tensors are kept, so that their ids stay theirs."""
    handles = [
        module.register_forward_hook(
            lambda _, given, out, name=name: calls.setdefault(name, []).append((given[0], out))
        )
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _without(net: nn.Module, pairs: list[tuple[str, str]]) -> nn.Module:
    """A copy in which the norm of every pair is part of its convolution."""
    short = copy_of(net)
    for convolution, norm in pairs:
        layer, scale = short.get_submodule(convolution), short.get_submodule(norm)
        assert isinstance(layer, nn.Conv2d)
        assert isinstance(scale, nn.BatchNorm2d)
        for name, module in ((convolution, fuse_conv_bn_eval(layer, scale)), (norm, nn.Identity())):
            parent, _, child = name.rpartition(".")
            setattr(short.get_submodule(parent), child, module)
    return short


@torch.inference_mode()
def _agree(net: nn.Module, other: nn.Module, images: Tensor, ask: Ask) -> bool:
    expected, found = (ask(n, images, "teacher") for n in (net, other))
    return float((found - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())
