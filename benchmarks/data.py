"""Images a second: batches made on the device, against a DataLoader of two workers that runs Pillow.

Both shift, flip and normalise 32 x 32 colour images; the second case makes the strong view of CRLD and MLKD besides
(RandAugment and a grey square). The images are noise. torchvision's transforms are used where it is installed, else the
same steps written with Pillow. Run

    python -m benchmarks.data [--images 10240] [--batch 512] [--device cuda]
"""

from __future__ import annotations

import argparse
import importlib.util
import random
from collections.abc import Callable, Sequence

import torch
from PIL import Image
from tests.data import pillow
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fractionate.data import Normalization, SmallImages, randaugment
from fractionate.data.augment.policies import SCALES, STRONG

from .measure import Work, agree, interleave, spread
from .record import append, parser, prepare, rows, show

SIDE, SHIFT, WORKERS = 32, 4, 2
LIBRARY = "torchvision" if importlib.util.find_spec("torchvision") else "Pillow"
OURS, THEIRS = "whole batches on the device", f"DataLoader, {WORKERS} workers, {LIBRARY}"
CASES = {"pad-crop-flip": None, "pad-crop-flip, randaugment": randaugment}
TARGET = 3.0
NAMES = {operation: name for name, (operation, _, _) in SCALES.items()}
Step = Callable[[Image.Image], Image.Image]


def shifted(image: Image.Image) -> Image.Image:
    """Zero padding, a random crop, a random flip."""
    row, column = (random.randint(0, 2 * SHIFT) for _ in range(2))
    return pillow.cropped(image, SHIFT, row, column, random.random() < 0.5)


def strengthened(image: Image.Image) -> Image.Image:
    """Two random operations and a grey square."""
    for operation, low, high in random.choices(STRONG, k=2):
        image = pillow.OPERATIONS[NAMES[operation]](image, random.uniform(low, high))
    side, x, y = random.random() * image.width / 2, random.random() * image.width, random.random() * image.height
    return pillow.square(image.copy(), side, x, y)


def normalised(image: Image.Image, normalization: Normalization) -> Tensor:
    """To a float tensor, as torchvision's ToTensor and Normalize do it."""
    x = pillow.pixels(image).contiguous().float().div_(255)
    mean, std = (torch.tensor(v)[:, None, None] for v in (normalization.mean, normalization.std))
    return x.sub_(mean).div_(std)


class Pictures(Dataset[tuple[Tensor, int]]):
    """An image at a time, as loaders of small images are usually written."""

    def __init__(self, images: Tensor, normalization: Normalization, strong: bool) -> None:
        self.images = images.permute(0, 2, 3, 1).contiguous().numpy()
        self.steps: Sequence[Step] = [shifted, strengthened] if strong else [shifted]
        self.finish: Callable[[Image.Image], Tensor] = lambda image: normalised(image, normalization)
        if LIBRARY == "torchvision":
            from torchvision import transforms as t

            own = [t.RandomCrop(SIDE, padding=SHIFT), t.RandomHorizontalFlip()]
            self.steps = [*own, strengthened] if strong else own
            self.finish = t.Compose([t.ToTensor(), t.Normalize(normalization.mean, normalization.std)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images[i])
        for step in self.steps:
            image = step(image)
        return self.finish(image), i % 100


def contenders(images: Tensor, options: argparse.Namespace, device: torch.device, case: str) -> dict[str, Work]:
    """One epoch of each; the loader's workers are kept, so starting them is not counted."""
    normalization, target = Normalization.of(images), torch.arange(len(images)) % 100
    ours = SmallImages(
        images, target, 100, normalization, options.batch, SHIFT, True, augment=CASES[case], device=device
    )
    pictures = Pictures(images, normalization, CASES[case] is not None)
    loader = DataLoader(pictures, options.batch, shuffle=True, num_workers=WORKERS, persistent_workers=True)

    def epoch_of_ours() -> None:
        for _ in ours.batches(1):
            pass

    def epoch_of_theirs() -> None:
        for batch, labels in loader:
            batch.to(device), labels.to(device)

    return {OURS: epoch_of_ours, THEIRS: epoch_of_theirs}


def check(images: Tensor) -> None:
    """The same shift and flip give the same numbers both ways."""
    normalization = Normalization.of(images)
    data = SmallImages(images, torch.zeros(len(images)).long(), 1, normalization, len(images), SHIFT, True)
    batch = next(data.batches(1))
    assert batch.variant is not None
    theirs = []
    for i, variant in zip(batch.index.tolist(), batch.variant.tolist(), strict=True):
        place, side = variant // 2, 2 * SHIFT + 1
        crop = pillow.cropped(pillow.picture(images[i]), SHIFT, place // side, place % side, bool(variant % 2))
        theirs.append(normalised(crop, normalization))
    agree([batch.images], [torch.stack(theirs)], "batches on the device and Pillow", tolerance=1e-5)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, append to the CSV."""
    options = _options(arguments)
    device = prepare(options)
    images = torch.randint(0, 256, (options.images, 3, SIDE, SIDE), dtype=torch.uint8)
    check(images[:64])
    for case in CASES:
        seconds = interleave(contenders(images, options, device, case), options.rounds, device)
        found = rows(f"{case}, batch {options.batch}, {options.images} images, {device.type}", seconds, OURS)
        show(found)
        ours, theirs = (options.images / spread(seconds[name]).median for name in (OURS, THEIRS))
        print(f"  {ours:,.0f} images/s against {theirs:,.0f}: {found[1].ratio:.1f} times as many (aim: {TARGET:g})")
        append(found, options.csv, device)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser("data", __doc__.splitlines()[0], rounds=9)
    made.add_argument("--images", type=int, default=10240)
    made.add_argument("--batch", type=int, default=512)
    options = made.parse_args(arguments)
    if options.toy:
        options.images, options.batch, options.rounds = 64, 32, 2
    return options


if __name__ == "__main__":
    main()
