"""Draw the pictures of the data page: python docs/draw_data.py

Two scenes are computed, and a row of ten for every augmentation, as batches give them; a test compares the files with
what this draws.
"""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from fractionate.data import AUGMENTATIONS, Normalization, SmallImages

STATIC = Path(__file__).parent / "_static"
SIDE, GAP, COLUMNS = 64, 4, 10
RAW = Normalization((0.0,) * 3, (1.0,) * 3)


def scene(sky: tuple[int, int, int], hill: tuple[int, int, int], light: tuple[int, int, int], place: int) -> Tensor:
    """Sky that pales downwards, a round light, a hill, a house with a roof: ``[3, 64, 64]`` uint8."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    image = torch.tensor(sky)[:, None, None] + (y * 1.5).int()
    for inside, colour in (
        ((x - place) ** 2 + (y - 14) ** 2 < 64, light),
        (y > 44 - 8 * torch.sin(x / 13), hill),
        ((x > 22) & (x < 42) & (y > 32) & (y < 50), (214, 196, 160)),
        (((x - 32).abs() < y - 18) & (y > 18) & (y < 33), (150, 56, 44)),
        ((x > 29) & (x < 35) & (y > 39) & (y < 50), (80, 52, 36)),
    ):
        image = torch.where(inside, torch.tensor(colour)[:, None, None], image)
    return image.clamp(0, 255).to(torch.uint8)


DAY = scene((70, 120, 190), (70, 130, 60), (250, 220, 90), 50)
NIGHT = scene((10, 14, 60), (30, 50, 70), (220, 225, 235), 14)


def strip(views: list[Tensor]) -> Image.Image:
    """Images beside each other."""
    whole = Image.new("RGB", (COLUMNS * (SIDE + GAP) - GAP, SIDE), "white")
    for i, view in enumerate(views):
        pixels = (view * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
        whole.paste(Image.fromarray(pixels.numpy()), (i * (SIDE + GAP), 0))
    return whole


def row(**options: object) -> Image.Image:
    """Ten draws of one scene."""
    data = SmallImages(DAY[None], torch.zeros(1).long(), 1, RAW, COLUMNS, passes=COLUMNS, **options)
    return strip(list(next(data.batches(1)).images))


def pairs(**options: object) -> Image.Image:
    """Ten draws of both scenes, of those where an image is not its own partner."""
    images, labels = torch.stack([DAY, NIGHT]), torch.arange(2)
    data = SmallImages(images, labels, 2, RAW, 2, passes=5 * COLUMNS, **options)
    mixed = [b.images[0] for b in data.batches(1) if b.target.max() < 1]
    return strip(mixed[:COLUMNS])


ROWS = {
    "shift-flip": lambda: row(shift=8, flip=True),
    "cutout": lambda: row(augment=AUGMENTATIONS["cutout"]),
    "autoaugment": lambda: row(augment=AUGMENTATIONS["autoaugment"]),
    "randaugment": lambda: row(augment=AUGMENTATIONS["randaugment"]),
    "mixup": lambda: pairs(mixup=1.0),
    "cutmix": lambda: pairs(cutmix=1.0),
}

if __name__ == "__main__":
    for name, draw in ROWS.items():
        draw().save(STATIC / f"augment-{name}.png", optimize=True)
