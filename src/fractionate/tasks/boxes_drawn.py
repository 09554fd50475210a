"""Small pictures of what detectors find: the image, its objects, the teacher's and the student's boxes."""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..data import Batch, Source, normalization_of
from ..data.batch import Normalization
from ..data.boxes import unpacked
from ..models import switched
from ..models.detection import detected
from .overlays import LEGEND, SHOWN, as_png, palette
from .precision import SURE

SIDE = 320  # pixels of one of the pictures side by side


def drawings(student: nn.Module, teacher: nn.Module | None, source: Source, count: int = SHOWN) -> dict[str, bytes]:
    """A few images of a source as PNG, and the colours of the categories as JSON, by the names of files.

    Every picture has parts side by side: image, objects, teacher (if there is one), student. Of the networks' boxes
    those with a score of at least 0.5 are drawn.

    Args:
        student, teacher: detectors of two stages.
        source: images in a fixed order, spread over which some are taken.
        count: how many.
    """
    rule = normalization_of(source) or Normalization.none(3)
    step = max(1, source.count // count)
    wanted = set(range(step // 2, source.count, step)[:count])
    found: dict[str, bytes] = {}
    for batch in source.batches(1):
        for i, index in enumerate(batch.index.tolist()):
            if index in wanted:
                found[f"{index:05d}.png"] = _strip(batch.at(slice(i, i + 1)), student, teacher, rule)
        if len(found) == len(wanted):
            break
    names = source.classes or tuple(str(c) for c in range(source.num_classes))
    parts = ["image", "objects", *(["teacher"] if teacher is not None else []), "student"]
    tones = palette(len(names)).tolist()
    colours = {name: f"#{bytes(tone).hex()}" for name, tone in zip(names, tones, strict=True)}
    found[LEGEND] = json.dumps({"parts": parts, "colours": colours}, indent=1).encode() + b"\n"
    return found


def _strip(batch: Batch, student: nn.Module, teacher: nn.Module | None, rule: Normalization) -> bytes:
    mean, std = (torch.tensor(x, device=batch.images.device)[:, None, None] for x in (rule.mean, rule.std))
    (known,) = unpacked(batch.target)
    height, width = known.size
    pixels = (255 * (batch.images[0, :, :height, :width] * std + mean)).clamp(0, 255).round().byte().cpu()
    found = [(known.trained[0], known.trained[1])]
    for net in (teacher, student):
        if net is not None:
            training = net.training
            said = detected(switched(net, False), batch.images, [known.size])[0]
            net.train(training)
            sure = said["scores"] >= SURE
            found.append((said["boxes"][sure], said["labels"][sure]))
    parts = [_drawn(pixels, torch.zeros(0, 4), torch.zeros(0).long()), *(_drawn(pixels, b, y) for b, y in found)]
    return as_png(torch.cat(parts, 2).float())


def _drawn(pixels: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
    """``[3, y, x]`` uint8: the picture enlarged or made smaller, with a frame of its category's colour per box."""
    from PIL import Image, ImageDraw

    height, width = pixels.shape[1:]
    factor = SIDE / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).resize(size, Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(image)
    tones: Sequence[Sequence[int]] = palette(int(labels.max()) if len(labels) else 1).tolist()
    for box, label in zip((boxes.cpu() * factor).tolist(), labels.tolist(), strict=True):
        left, top, right, bottom = box
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=tuple(tones[label - 1]), width=2)
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return flat.reshape(size[1], size[0], 3).permute(2, 0, 1)
