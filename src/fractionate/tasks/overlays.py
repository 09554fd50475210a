"""Small pictures of what networks say about images: the image, its labels, the teacher's and the student's answer."""

from __future__ import annotations

import colorsys
import io
import json
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from .._typing import Bool
from ..data import Batch, Source, normalization_of
from ..data.batch import Normalization
from ..models import switched
from ..models.dense import maps_of, same_size
from .counts import labelled

SHOWN, WIDEST = 3, 320  # images, and pixels of one of the pictures side by side
SHARE = 0.6  # of the colour in what is painted over
GOLDEN = 0.618034  # of a turn: hues that follow each other lie far apart
LEGEND = "legend.json"


def overlays(
    student: nn.Module, teacher: nn.Module | None, source: Source, ignore: int, count: int = SHOWN
) -> dict[str, bytes]:
    """A few images of a source as PNG, and the colours of the classes as JSON, by the names of files.

    Every picture has parts side by side: image, labels, teacher (if there is one), student. Pixels that count nowhere
    (void, and those with the label ``ignore``) keep their grey.

    Args:
        student, teacher: networks that give maps of logits.
        source: images in a fixed order, spread over which some are taken.
        ignore: label that does not count.
        count: how many.
    """
    rule = normalization_of(source) or Normalization.none(3)
    step = max(1, source.count // count)
    wanted = set(range(step // 2, source.count, step)[:count])
    keep = partial(labelled, ignore=ignore, classes=source.num_classes)
    found: dict[str, bytes] = {}
    for batch in source.batches(1):
        for i, index in enumerate(batch.index.tolist()):
            if index in wanted:
                found[f"{index:05d}.png"] = _strip(batch.at(slice(i, i + 1)), student, teacher, rule, keep)
        if len(found) == len(wanted):
            break
    names = source.classes or tuple(str(c) for c in range(source.num_classes))
    parts = ["image", "labels", *(["teacher"] if teacher is not None else []), "student"]
    colours = {
        name: f"#{bytes(colour).hex()}" for name, colour in zip(names, palette(len(names)).tolist(), strict=True)
    }
    found[LEGEND] = json.dumps({"parts": parts, "colours": colours}, indent=1).encode() + b"\n"
    return found


def palette(classes: int) -> Tensor:
    """``[c, 3]`` uint8, a colour for every class: red, green and blue in 0..255; neighbours differ.

    Example:
        >>> palette(2).tolist()
        [[237, 71, 71], [61, 103, 204]]
    """
    tones = [colorsys.hsv_to_rgb(c * GOLDEN % 1, 0.7, (0.93, 0.8)[c % 2]) for c in range(classes)]
    return torch.tensor([[round(255 * x) for x in tone] for tone in tones], dtype=torch.uint8)


@torch.inference_mode()
def _strip(
    batch: Batch,
    student: nn.Module,
    teacher: nn.Module | None,
    rule: Normalization,
    keep: Callable[[Tensor], Bool[Tensor, "y x"]],
) -> bytes:
    mean, std = (torch.tensor(x, device=batch.images.device)[:, None, None] for x in (rule.mean, rule.std))
    pixels = (255 * (batch.images[0] * std + mean)).clamp(0, 255)
    pixels = (pixels if pixels.shape[0] == 3 else pixels.mean(0, keepdim=True).expand(3, -1, -1)).cpu()
    target = batch.target[0].cpu()
    known = keep(target)
    parts = [pixels, _painted(pixels, target, known)]
    for net in (teacher, student):
        if net is not None:
            training = net.training
            said = same_size(maps_of(switched(net, False), batch.images).float(), (target.shape[0], target.shape[1]))
            net.train(training)
            parts.append(_painted(pixels, said[0].argmax(0).cpu(), known))
    return as_png(_cut(parts, known))


def _painted(pixels: Tensor, labels: Tensor, known: Bool[Tensor, "y x"]) -> Tensor:
    grey = pixels.mean(0, keepdim=True).expand(3, -1, -1)
    labels = labels.where(known, 0)
    colours = palette(int(labels.max()) + 1).float()[labels].permute(2, 0, 1)
    return torch.where(known, SHARE * colours + (1 - SHARE) * grey, grey)


def _cut(parts: Sequence[Tensor], known: Bool[Tensor, "y x"]) -> Tensor:
    """Side by side, without the padding at the right and at the bottom, and not too wide."""
    there = known.nonzero()
    height, width = (int(n) + 1 for n in there.max(0).values) if len(there) else known.shape
    together = torch.cat([part[:, :height, :width] for part in parts], 2)
    step = -(-width // WIDEST)
    return together[:, ::step, ::step]


def as_png(pixels: Tensor) -> bytes:
    """``[3, y, x]`` of 0..255 as a file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels.round().byte().permute(1, 2, 0).contiguous().numpy()).save(file, "PNG", optimize=True)
    return file.getvalue()
