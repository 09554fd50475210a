"""Losses of maps of logits, ``[b, c, h, w]``, a chunk of pixels at a time: no copy of the maps as rows, ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._typing import Float, Int
from ..rows import Corners, Labels, Logits, Progress, fitted_maps, pixels, weighted_mean
from .method import Method
from .streams import merged_streams

ChunkLoss = Callable[[Tensor, int, Tensor], Mapping[str, Tensor]]
CHUNK = 8192  # pixels; with 19 classes of float32 a few tensors of 0.6 MiB


def pixel_losses(
    method: Method,
    student: Float[Tensor, "b c h w"],
    teacher: Float[Tensor, "b c h2 w2"],
    target: Tensor,
    *,
    ignore_index: int | None = 255,
    resize: bool = False,
    labels: Labels = "aligned",
    corners: Corners = True,
    weight: Tensor | None = None,
    progress: Progress | None = None,
    merge: bool | None = None,
    chunk: int = CHUNK,
) -> dict[str, Float[Tensor, ""]]:
    """``method.stream_losses`` of the pixels of two maps of logits, a chunk at a time, for large crops.

    Equals ``method.stream_losses(fr.rows.pixels(student, teacher, target))`` with its gradient, and holds no map as
    rows: loss and gradient of a chunk come from one look, in the forward pass, and what is kept until the backward pass
    is one gradient ``[b, c, h, w]`` per stream. A method of one stream has the one loss ``"loss"``.

    Args:
        method: any method whose rows are independent, with one view and no learned parameters of its own.
        student, teacher, target, ignore_index, resize, labels, corners, weight: as in ``fr.rows.pixels``; a map that is
            resized is held in both sizes.
        progress, merge: as in :meth:`Method.stream_losses`.
        chunk: pixels whose rows are held at once.

    Returns:
        stream name -> scalar, for :func:`stream_grads`, or for ``sum(losses.values()).backward()``; differentiable
        once. 0 with a graph if no pixel has a label.

    Raises:
        ValueError: as ``fr.rows.pixels``; a method that cannot be evaluated pixel by pixel.
        RuntimeError: a second backward pass through the same losses, or one with ``create_graph=True``.

    Source: gradients in the forward pass as in Liger Kernel's fused losses (arXiv 2410.10989).

    Example:
        >>> import torch, fractionate as fr
        >>> z, t, y = torch.randn(1, 5, 4, 6, requires_grad=True), torch.randn(1, 5, 4, 6), torch.randint(5, (1, 4, 6))
        >>> losses = fr.pixel_losses(fr.methods.kd(), z, t, y, chunk=7)
        >>> whole = fr.methods.kd().loss(fr.rows.pixels(z, t, y))
        >>> bool(torch.isclose(losses["loss"], whole))
        True
    """
    where = "pixel_losses"
    _check(where, method, chunk)
    options: dict[str, Any] = {"ignore_index": ignore_index, "resize": resize, "labels": labels, "corners": corners}
    maps = fitted_maps(where, student, teacher, target, **options, weight=weight)
    if maps[2] is None:
        raise ValueError(f"{where}: target is None; for pixels without labels take method.loss(fr.rows.pixels(...))")
    return _losses(method, PixelMaps(maps[0], maps[1].detach(), maps[2], ignore_index, maps[3]), progress, merge, chunk)


@dataclass(frozen=True, eq=False)
class PixelMaps:
    """Two maps of logits with the labels of their pixels, all of one size: what rows would be made of.

    Args:
        student, teacher: ``[b, c, h, w]``.
        target: ``[b, h, w]``.
        ignore_index: label of pixels that count nowhere.
        weight: ``[b, h, w]`` or ``None``.
    """

    student: Tensor
    teacher: Tensor
    target: Tensor
    ignore_index: int | None = 255
    weight: Tensor | None = None

    @property
    def kept(self) -> Tensor:
        """``[b, h w]`` whether a pixel counts."""
        truth = self.target.flatten(1)
        return torch.ones_like(truth, dtype=torch.bool) if self.ignore_index is None else truth != self.ignore_index

    @property
    def total_weight(self) -> Float[Tensor, ""]:
        """Sum of the weights of all pixels that count, or their number."""
        kept = self.kept
        if self.weight is None:
            return kept.sum(dtype=torch.float32)
        wide = torch.float64 if self.weight.dtype == torch.float64 else torch.float32
        return torch.where(kept, self.weight.flatten(1), torch.zeros_like(self.weight.flatten(1))).sum(dtype=wide)

    @property
    def rows(self) -> Logits:
        """The pixels that count as rows."""
        return pixels(self.student, self.teacher, self.target, ignore_index=self.ignore_index, weight=self.weight)


def pixel_means(
    method: Method, maps: PixelMaps, progress: Progress | None, merge: bool | None, chunk: int = CHUNK
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The mean of every component, detached, and the losses of :func:`pixel_losses`, from the same look.

    Raises:
        ValueError: a method that cannot be evaluated pixel by pixel.
    """
    _check("pixel_means", method, chunk)
    means: dict[str, Tensor] = {}
    losses = _losses(method, maps, progress, merge, chunk, means)
    return means, losses


def _losses(
    method: Method,
    maps: PixelMaps,
    progress: Progress | None,
    merge: bool | None,
    chunk: int,
    means: dict[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """A scalar per stream; the means of all components are added up in ``means``, if it is given."""
    own, other, truth = maps.student, maps.teacher, maps.target.flatten(1)
    counted = None if maps.weight is None else maps.weight.flatten(1)
    total, here = maps.total_weight, progress or Progress.end()
    total = torch.where(total == 0, torch.ones_like(total), total)
    dtype = torch.promote_types(own.dtype, other.dtype)
    names = tuple(s.name for s in merged_streams(method.streams, method.update, merge))
    if means is not None:
        means |= dict.fromkeys(method.parts, torch.zeros((), dtype=dtype, device=own.device))

    def losses(rows: Tensor, image: int, part: Tensor) -> Mapping[str, Tensor]:
        given = other[image].flatten(1)[:, part].T
        heavy = None if counted is None else counted[image][part]
        lg = Logits(rows.to(dtype), given.to(dtype), truth[image][part], weight=heavy)
        share = lg.total_weight / total
        if means is None:
            return {name: share * x for name, x in method.stream_losses(lg, progress, merge).items()}
        found = {name: weighted_mean(x, lg.weight) for name, x in method.components(lg, here).items()}
        for name, x in found.items():
            means[name] = means[name] + (share * x).detach()
        return {name: share * x for name, x in method.combine(found, here, merge).items()}

    wanted = torch.is_grad_enabled() and own.requires_grad
    values = _ChunkedMaps.apply(own, (losses, names, _chunks(maps.kept, chunk), wanted))
    return dict(zip(names, values, strict=True))


def unchunked(method: Method) -> str | None:
    """Why a method cannot be evaluated a chunk of pixels at a time; ``None`` where it can."""
    if not method.row_wise:
        return "relates pixels to each other, so a chunk of them is not enough"
    if method.views != 1 or method.regions or method.token:
        return "needs a second view, head or regions"
    if method.module is not None:
        return "learns parameters of its own, which would get no gradient"
    return None


def _check(where: str, method: Method, chunk: int) -> None:
    if reason := unchunked(method):
        raise ValueError(f"{where}: {method.name} {reason}; use method.stream_losses(fr.rows.pixels(...)) instead")
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        raise ValueError(f"{where}: chunk must be a number of pixels of at least 1, got {chunk!r}")


def _chunks(kept: Tensor, chunk: int) -> Iterator[tuple[int, Int[Tensor, " m"]]]:
    """Image by image, the places of so many pixels that count."""
    for image, row in enumerate(kept):
        for part in row.nonzero()[:, 0].split(chunk):
            if len(part):
                yield image, part


class _ChunkedMaps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, plan: Any) -> tuple[Tensor, ...]:
        loss, names, chunks, wanted = plan
        wide = torch.float64 if student.dtype == torch.float64 else torch.float32
        values = [torch.zeros((), dtype=wide, device=student.device) for _ in names]
        grads = [torch.zeros_like(student, memory_format=torch.contiguous_format) for _ in names] if wanted else []
        for image, part in chunks:
            _add_chunk(values, grads, loss, names, student[image].detach().flatten(1), image, part)
        # Not saved by autograd: each gradient is scaled in place and handed on, so that it is never held twice.
        ctx.kept = dict(enumerate(grads))
        ctx.set_materialize_grads(False)
        return tuple(values)

    @staticmethod
    def backward(ctx: Any, *arriving: Tensor | None) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "pixel_losses: create_graph=True asks for a graph of the gradient, but the gradient was computed in "
                "the forward pass and has none; use method.loss(fr.rows.pixels(...)) to differentiate twice"
            )
        total = None
        for i, scale in enumerate(arriving):
            if scale is None:
                continue
            if i not in ctx.kept:
                raise RuntimeError("pixel_losses: each loss can be differentiated once; compute the losses again")
            grad = ctx.kept.pop(i).mul_(scale)
            total = grad if total is None else total.add_(grad)
        return total, None


def _add_chunk(
    values: Sequence[Tensor],
    grads: Sequence[Tensor],
    loss: ChunkLoss,
    names: Sequence[str],
    logits: Float[Tensor, "c p"],
    image: int,
    part: Int[Tensor, " m"],
) -> None:
    """Add one chunk to every loss. A function of its own, so that nothing of a chunk outlives it."""
    rows = logits[:, part].T.contiguous().requires_grad_(bool(grads))
    with torch.set_grad_enabled(bool(grads)):
        losses = loss(rows, image, part)
    for i, name in enumerate(names):
        if name not in losses:
            continue
        values[i] += losses[name].detach()
        if losses[name].requires_grad:
            (grad,) = torch.autograd.grad(losses[name], rows, retain_graph=i + 1 < len(names))
            grads[i][image].flatten(1)[:, part] = grad.T
