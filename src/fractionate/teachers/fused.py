"""A folded teacher on a GPU: a convolution, its bias, a sum and a ReLU in one call of cuDNN, where that pays.

The network is traced (``torch.fx``), and convolutions whose outputs only a ReLU reads, or only a sum that only a ReLU
reads, are found in the trace. Whether one call is right and faster is tried for every one of them on a batch, at the
start of a run, because it depends on the release of cuDNN, on the GPU and on the shape: for some there is no such
kernel, and some of those that there are take longer than three plain ones. What is not right or not faster stays.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from ..data import Batch
from ..models import Ask, logits_of
from . import convolution
from .convolution import ROUNDING, FusedConvolution, Seconds, first_line, gpu_seconds
from .live import LiveTeacher
from .traced import traced

DEPTH = 12.0  # times the rounding: how far logits of many layers may lie apart


@dataclass(frozen=True, eq=False)
class Fused:
    """A network, and a sentence on what became of its convolutions."""

    net: nn.Module
    said: str


def fused(
    net: nn.Module,
    images: Tensor,
    *,
    ask: Ask = logits_of,
    dtype: torch.dtype | None = None,
    seconds: Seconds | None = None,
) -> Fused:
    """The network itself, in which convolutions take what follows them along, where that is right and faster.

    Its ``forward`` alone changes; its class and its other methods stay. A network that cannot be traced, because it
    looks at its images to decide what to do, stays as it is, and so does one whose logits came out differently.

    Args:
        net: a frozen network whose norms are folded (``folded``), on a GPU, its weights laid out channels last.
        images: ``[n, ch, h, w]``, a batch as training will show them.
        ask: how its logits are taken.
        dtype: that of the autocast in which it is going to run.
        seconds: how long the device takes for a call, by :func:`gpu_seconds` unless given.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten())
        >>> fused(net, torch.zeros(1, 1, 4, 4)).said
        'as they were: images are on cpu'
    """
    why = _obstacle(net, images)
    if why is not None:
        return Fused(net, f"as they were: {why}")
    try:
        trace, layers = traced(net)
    except Exception as error:  # whatever a network does with images that are none
        return Fused(net, f"as they were: the network cannot be traced ({first_line(error)})")
    if not layers:
        return Fused(net, "as they were: no ReLU follows a convolution that only it reads")
    try:
        _tried(LiveTeacher(net, ask, dtype), trace, layers, images, seconds or gpu_seconds)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError) as error:
        vars(net).pop("forward", None)
        warnings.warn(f"the teacher's convolutions stay as they were: {first_line(error)}", stacklevel=2)
        return Fused(net, f"as they were: {first_line(error)}")
    return Fused(net, _in_words(layers))


def _obstacle(net: nn.Module, images: Tensor) -> str | None:
    if images.device.type not in convolution.DEVICES:
        return f"images are on {images.device.type}"
    if isinstance(net, torch.jit.ScriptModule):
        return "the network is a script"
    if "forward" in vars(net):
        return "the network's forward is not that of its class"
    if torch.backends.cudnn.deterministic or torch.are_deterministic_algorithms_enabled():
        return "deterministic algorithms were asked for"
    return None


def _tried(
    teacher: LiveTeacher, trace: fx.GraphModule, layers: list[FusedConvolution], images: Tensor, seconds: Seconds
) -> None:
    """Let the network run as it was traced; every layer is tried, then all together.

    Raises:
        ValueError: the logits are others.
    """
    few = images[: len(images) // 2 + 1]  # another number of images, lest one was written into the trace
    expected = [_logits(teacher, x) for x in (images, few)]
    for layer in layers:
        layer.refused = "not tried"
    teacher.net.forward = trace.forward
    rounding = max(ROUNDING[layer.layer.weight.dtype] for layer in layers)
    _check([_logits(teacher, x) for x in (images, few)], expected, rounding, "its trace")
    for layer in layers:
        layer.refused, layer.seconds = None, seconds
    _logits(teacher, images)
    for layer in layers:
        layer.seconds = None
    _check([_logits(teacher, x) for x in (images, few)], expected, DEPTH * rounding, "fused convolutions")


def _logits(teacher: LiveTeacher, images: Tensor) -> Tensor:
    count = len(images)
    return teacher(Batch(images, torch.zeros(count, dtype=torch.long), torch.arange(count)))[0].float()


def _check(found: list[Tensor], expected: list[Tensor], tolerance: float, what: str) -> None:
    for a, b in zip(found, expected, strict=True):
        error, scale = float((a - b).abs().max()), float(b.abs().max())
        if not error <= tolerance * scale:
            raise ValueError(f"{what} gave logits that differ by {error:.2g}, the largest being {scale:.2g}")


def _in_words(layers: list[FusedConvolution]) -> str:
    """How many there are, and why not all."""
    left = [layer for layer in layers if layer.refused is not None]
    said = f"{len(layers) - len(left)} of {len(layers)} with the sum and the ReLU behind them in one call"
    reasons = list(dict.fromkeys(str(layer.refused) for layer in left))
    counts = [f"{sum(layer.refused == why for layer in left)} {why}" for why in reasons]
    return said + (f"; as they were: {', '.join(counts)}" if left else "")
