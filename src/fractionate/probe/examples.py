"""What a page shows of runs beside their numbers: pictures on which networks differ, classes, milliseconds."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._files import write_atomically
from .._headlines import headline_of
from .._typing import Float, Int
from ..config.run import Network, Run
from ..data import Source, normalization_of
from ..models import switched
from ..runs.folder import EXAMPLES, SUMMARY, RunFolder
from ..tasks.classification import HEADLINE, predict, throughput
from ..train.device import fixed_threads, place
from ..train.networks import build_for
from ..train.sources import evaluation_source
from .measure import device_name, no_weights

SHOWN, SIDE = 8, 96  # pictures, and pixels of their longer side
SECONDS = 0.2  # for which the time of one picture is measured


def write_examples(runs: Sequence[Path]) -> None:
    """Write ``examples.json`` into finished runs of classification, where it is not there already.

    Teachers and images that runs share are asked once.

    Args:
        runs: folders whose data and weights are at hand; the first one with each config but for the seed also gets
            pictures and times.

    Raises:
        ValueError, OSError: data or weights are gone.
    """
    images: dict[Any, Source] = {}
    taught: dict[Any, tuple[Tensor, float]] = {}
    seen: set[str] = set()
    for folder in runs:
        target = RunFolder(folder)
        run, file = target.config(), folder / EXAMPLES
        first = (kind := repr(replace(run, seed=0))) not in seen
        seen.add(kind)
        if file.is_file() and file.stat().st_mtime_ns >= (folder / SUMMARY).stat().st_mtime_ns:
            continue
        if headline_of(target.summary()) != HEADLINE:
            continue
        key = (run.data, run.device)
        if key not in images:
            images[key] = evaluation_source(run.data, place(run.device))
        test = images[key]
        with fixed_threads(run.threads):
            facts = _facts(run, str(target.student), test, taught, first=first)
        write_atomically(file, json.dumps(facts, allow_nan=False) + "\n")


def _facts(
    run: Run, weights: str, test: Source, taught: dict[Any, tuple[Tensor, float]], *, first: bool
) -> dict[str, Any]:
    logits, target, speed = _asked(replace(run.student, checkpoint=weights), test, run)
    other = None
    if run.teacher is not None and not no_weights(run.teacher):
        if run.teacher not in taught:
            said, _, pace = _asked(run.teacher, test, run)
            taught[run.teacher] = said, pace
        other = taught[run.teacher]
    count = test.num_classes
    names = list(test.classes) or [str(k) for k in range(count)]
    facts: dict[str, Any] = {
        "classes": names,
        "count": torch.bincount(target, minlength=count).tolist(),
        "student": _right(logits, target, count),
        "teacher": None if other is None else _right(other[0], target, count),
        "pictures": [],
    }
    if first:
        facts["ms"] = {"student": 1000 / speed, "teacher": None if other is None else 1000 / other[1]}
        facts["device"] = device_name(place(run.device))
        facts["differ"] = None if other is None else int((logits.argmax(1) != other[0].argmax(1)).sum())
        facts["pictures"] = _pictures(logits, other and other[0], target, names, test)
    return facts


def _asked(config: Network, test: Source, run: Run) -> tuple[Tensor, Tensor, float]:
    """Logits and labels of all images, and pictures per second, one at a time."""
    device = place(run.device)
    net: nn.Module = switched(build_for(config, test, test).to(device), False)
    logits, target = predict(net, test)
    one = next(iter(test.batches(1))).images[:1]
    return logits, target, throughput(net, one, SECONDS)


def _right(logits: Float[Tensor, "n c"], target: Int[Tensor, " n"], count: int) -> list[int]:
    """Of every class, how many images got the right answer."""
    return torch.bincount(target[logits.argmax(1) == target], minlength=count).tolist()


def farthest(
    own: Float[Tensor, "n c"], other: Float[Tensor, "n c"] | None, target: Int[Tensor, " n"], most: int
) -> list[int]:
    """The images whose answers differ, those first whose probabilities are farthest apart (total variation).

    Args:
        own, other: logits of student and teacher; without a teacher the student is compared with the labels.
        target: labels.
        most: how many.

    Example:
        >>> own = torch.tensor([[9.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
        >>> other = torch.tensor([[0.0, 9.0], [0.0, 1.0], [0.0, 1.0]])
        >>> farthest(own, other, torch.tensor([0, 0, 1]), most=5)
        [0, 1]
    """
    p = own.double().softmax(1)
    q = F.one_hot(target, own.shape[1]).double() if other is None else other.double().softmax(1)
    apart = 0.5 * (p - q).abs().sum(1)
    apart[p.argmax(1) == q.argmax(1)] = -1.0
    order = apart.argsort(descending=True, stable=True)[:most]
    return [i for i in order.tolist() if float(apart[i]) >= 0]


def _pictures(
    own: Tensor, other: Tensor | None, target: Tensor, names: Sequence[str], test: Source
) -> list[dict[str, Any]]:
    wanted, rule = farthest(own, other, target, SHOWN), normalization_of(test)
    if rule is None:
        return []
    found: dict[int, str] = {}
    start = 0
    for batch in test.batches(1):
        for i in (i for i in wanted if start <= i < start + len(batch)):
            image = batch.images[i - start].float().cpu()
            mean, std = (torch.tensor(x)[:, None, None] for x in (rule.mean, rule.std))
            found[i] = base64.b64encode(png(_small(image * std + mean))).decode()
        start += len(batch)
    return [
        {
            "png": found[i],
            "label": names[int(target[i])],
            "student": _answer(own[i], names),
            "teacher": None if other is None else _answer(other[i], names),
        }
        for i in wanted
    ]


def _answer(logits: Tensor, names: Sequence[str]) -> list[Any]:
    share, k = logits.double().softmax(0).max(0)
    return [names[int(k)], float(share)]


def _small(pixels: Float[Tensor, "ch h w"]) -> Tensor:
    """As bytes, not larger than is shown."""
    longer = max(pixels.shape[1:])
    if longer > SIDE:
        size = [max(1, round(SIDE * x / longer)) for x in pixels.shape[1:]]
        pixels = F.interpolate(pixels[None], size, mode="bilinear", antialias=True)[0]
    return (255 * pixels).round().clamp(0, 255).to(torch.uint8)


def png(pixels: Tensor) -> bytes:
    """A PNG file of ``[1 or 3, h, w]`` bytes; of other numbers of channels the first is shown.

    Example:
        >>> png(torch.zeros(3, 2, 2, dtype=torch.uint8))[1:4]
        b'PNG'
    """
    pixels = pixels if pixels.shape[0] in (1, 3) else pixels[:1]
    channels, height, width = pixels.shape
    rows = pixels.permute(1, 2, 0).reshape(height, width * channels)
    lines = b"".join(b"\0" + bytes(row.tolist()) for row in rows)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")
