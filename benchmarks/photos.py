"""Photos a second and core: the loaded source against an ImageFolder in a DataLoader, and how long training waits.

Both give normalised float32 batches of random resized crops, half of them mirrored, out of JPEG files of 2000 x 1500
pixels (shown at 224) and of 64 (shown at 64). With no worker, one thread decodes and augments, and the processor's time
is counted, without that of other programs; with two, the time that passes. The photos are generated: blotches of colour
with the noise of a camera. Then a student is distilled from them, and the share of time that it waits for its batches
after the first epoch is read where every run writes it (``data_wait``). Run

    python -m benchmarks.photos [--workers 0 2] [--rounds 5]
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms as t
from torchvision.datasets import ImageFolder

from fractionate._files import CACHE
from fractionate.config.data import Data
from fractionate.config.method import MethodSpec
from fractionate.config.optimizers import Optimizer
from fractionate.config.run import Network, Run
from fractionate.data import PHOTO_NORMALIZATION, Photos
from fractionate.data.augment.photo import drawn_box, keyed
from fractionate.data.kept import keep
from fractionate.train.build import prepare as prepared
from fractionate.train.loop import Loop
from fractionate.train.photos import loaded

from .measure import Work, interleave, spread
from .record import Row, append, parser, prepare, rows, show

THEIRS, PLAIN, KEPT = "ImageFolder and DataLoader", "loaded from files", "loaded from kept pictures"
AIMS = {PLAIN: 1.0, KEPT: 2.0}  # times the photos a second of the others
WAIT = 0.05  # share of the training time
QUALITY, NOISE = 90, 6.0
APART = 0.1  # standard deviations on average; other boxes differ by ten times as much
SEED = 0


@dataclass(frozen=True)
class Case:
    """Photos of one size.

    Args:
        sides: width and height of the files' pictures.
        count: how many.
        size: of the images that are trained on.
        batch: images per batch.
    """

    sides: tuple[int, int]
    count: int
    size: int
    batch: int

    def __str__(self) -> str:
        return f"{self.count} photos of {self.sides[0]} x {self.sides[1]}, shown at {self.size}, batch {self.batch}"


CASES = (Case((2000, 1500), 32, 224, 8), Case((64, 64), 384, 64, 64))
TOY = (Case((96, 72), 8, 16, 4), Case((24, 24), 8, 16, 4))


def generate(root: Path, case: Case) -> Path:
    """Two classes of photos; the train folder, beside which lies one to test on."""
    generator = torch.Generator().manual_seed(case.count)
    for part, count in (("train", case.count), ("test", 4)):
        for i in range(count):
            where = root / part / "ab"[i % 2] / f"{i:04}.jpg"
            where.parent.mkdir(parents=True, exist_ok=True)
            picture(case.sides, generator).save(where, quality=QUALITY)
    return root / "train"


def picture(sides: tuple[int, int], generator: torch.Generator) -> Image.Image:
    """Blotches of two sizes, and noise."""
    width, height = sides
    blotches = torch.zeros(3, height, width)
    for cells, strength in ((6, 1.0), (40, 0.3)):
        some = strength * (torch.rand(1, 3, cells, cells, generator=generator) - 0.5)
        blotches += torch.nn.functional.interpolate(some, (height, width), mode="bicubic")[0]
    noise = NOISE * torch.randn(3, height, width, generator=generator)
    pixels = (128 + 200 * blotches + noise).clamp(0, 255).byte()
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def sources(root: Path, case: Case, workers: int, device: torch.device) -> dict[str, Photos]:
    """The same photos out of their files, and out of the file of decoded ones."""
    data = Data(name="folder", root=str(root), size=case.size, batch_size=case.batch, flip=True, workers=workers)
    plain = loaded(data, SEED, device, lambda size: 4)[0]
    assert isinstance(plain, Photos)
    file = keep(plain.pictures.paths, plain.pictures.reader, root / "cache")
    return {PLAIN: plain, KEPT: replace(plain, pictures=replace(plain.pictures, kept=file, places=range(plain.count)))}


def others(train: Path, case: Case, workers: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """What one writes without this package."""
    rule = PHOTO_NORMALIZATION
    own = [t.RandomResizedCrop(case.size), t.RandomHorizontalFlip(), t.ToTensor(), t.Normalize(rule.mean, rule.std)]
    files = ImageFolder(str(train), t.Compose(own))
    return DataLoader(files, case.batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


def check(case: Case, source: Photos) -> None:
    """The same box and the same mirror give the same batches both ways, up to how far large files are decoded."""
    batch, theirs = next(source.batches(1)), []
    for i in batch.index.tolist():
        with Image.open(source.pictures.paths[i]) as opened:
            whole = opened.convert("RGB")
        height, width = source.pictures[i].shape[1:]  # a large file is decoded at a part of its size
        rng = random.Random(keyed(SEED, 1, 0, i, 0))
        top, left, h, w = drawn_box(height, width, (0.08, 1.0), rng)
        mirrored = rng.random() < 0.5
        across, down = whole.width / width, whole.height / height
        box = (left * across, top * down, (left + w) * across, (top + h) * down)
        image = whole.resize((case.size, case.size), Image.Resampling.BILINEAR, box=box)
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else image
        theirs.append(t.Normalize(PHOTO_NORMALIZATION.mean, PHOTO_NORMALIZATION.std)(t.ToTensor()(image)))
    apart = [float((x - y).abs().mean()) for x, y in zip(batch.images.cpu(), theirs, strict=True)]
    if max(apart) > APART:
        raise RuntimeError(f"{case}: the contenders' pixels differ by {max(apart):.3f} standard deviations")


def contenders(train: Path, case: Case, workers: int, device: torch.device) -> dict[str, Work]:
    """One epoch of each, down to normalised batches on the device; workers stay, so starting them is not counted."""
    loader = others(train, case, workers)

    def epoch_of_theirs() -> None:
        for images, labels in loader:
            images.to(device), labels.to(device)

    works: dict[str, Work] = {THEIRS: epoch_of_theirs}
    for name, source in sources(train.parent, case, workers, device).items():
        check(case, source)

        def epoch_of_ours(source: Photos = source) -> None:
            for _ in source.batches(1):
                pass

        works[name] = epoch_of_ours
    return works


def compare(train: Path, case: Case, workers: int, options: argparse.Namespace, device: torch.device) -> list[Row]:
    """Photos a second and core."""
    clock = time.perf_counter if workers else time.process_time
    seconds = interleave(contenders(train, case, workers, device), options.rounds, device, clock)
    found = rows(f"{case}, {workers} workers, {device.type}", seconds, THEIRS)
    show(found)
    for row in found:
        each = case.count / spread(seconds[row.contender]).median / max(1, workers)
        aim = AIMS.get(row.contender)
        told = "" if aim is None else f": {1 / row.ratio:.2f} times as many (aim {aim:g}: {_met(1 / row.ratio >= aim)})"
        print(f"  {each:8,.1f} images/s and core, {row.contender}{told}")
    return found


def waits(root: Path, case: Case, workers: int, options: argparse.Namespace) -> list[Row]:
    """Share of the training time that is spent waiting for batches, after the first epoch, from files and kept."""
    found = []
    for name, cache in ((PLAIN, False), (KEPT, True)):
        records = [*Loop(prepared(training(root, case, workers, cache, options))).records()][1:]
        share = spread([record.data_wait for record in records])
        milliseconds = 1e3 * spread([record.seconds for record in records]).median
        numbers = (round(x, 4) for x in (share.median, share.low, share.high))
        case_ = f"data_wait, {options.student}, {case}, {workers} workers"
        found.append(Row(case_, name, round(milliseconds, 4), "training time", *numbers, len(records)))
    show(found)
    for row in found:
        print(f"  waits for {row.ratio:.1%} of the time, {row.contender} (aim {WAIT:.0%}: {_met(row.ratio <= WAIT)})")
    return found


def training(root: Path, case: Case, workers: int, cache: bool, options: argparse.Namespace) -> Run:
    """A student that learns from a teacher; neither knows anything yet, which changes no time."""
    return Run(
        student=Network(options.student),
        teacher=Network(options.teacher),
        method=MethodSpec.parse("kd"),
        data=Data(
            name="folder",
            root=str(root),
            size=case.size,
            batch_size=case.batch,
            flip=True,
            workers=workers,
            cache=cache,
        ),
        optimizer=Optimizer(lr=1e-4),
        epochs=options.epochs,
        device=options.device,
        threads=1,
    )


def _met(reached: bool) -> str:
    return "met" if reached else "missed"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, append to the CSV."""
    options = _options(arguments)
    device = prepare(options)
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, {CACHE: folder}):
        for case, root in _generated(Path(folder), options):
            for workers in options.workers:
                append(compare(root / "train", case, workers, options, device), options.csv, device)
        append(waits(root, case, max(1, *options.workers), options), options.csv, device)


def _generated(folder: Path, options: argparse.Namespace) -> Iterator[tuple[Case, Path]]:
    for case in TOY if options.toy else CASES:
        root = folder / str(case.sides[0])
        generate(root, case)
        yield case, root


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser("photos", __doc__.splitlines()[0], rounds=5)
    made.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    made.add_argument("--teacher", default="timm:resnet18")
    made.add_argument("--student", default="timm:mobilenetv3_small_050")
    made.add_argument("--epochs", type=int, default=4)
    options = made.parse_args(arguments)
    options.threads = options.threads or 1
    if options.toy:
        options.rounds, options.workers, options.epochs = 2, [0], 2
        options.teacher, options.student = "resnet14", "resnet8"
    return options


if __name__ == "__main__":
    main()
