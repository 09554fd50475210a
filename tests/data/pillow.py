"""The slow twins of the augmentations: the same operations by Pillow, one image at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

Operation = Callable[[Image.Image, float], Image.Image]


def picture(image: torch.Tensor) -> Image.Image:
    """``[ch, h, w]`` uint8 as a picture."""
    return Image.fromarray(image.permute(1, 2, 0).numpy() if len(image) == 3 else image[0].numpy())


def pixels(image: Image.Image) -> torch.Tensor:
    """A picture as ``[ch, h, w]`` uint8."""
    values = torch.from_numpy(np.array(image))
    return values[None] if values.ndim == 2 else values.permute(2, 0, 1)


def each(images: torch.Tensor, change: Callable[[Image.Image, int], Image.Image]) -> torch.Tensor:
    """All images, changed one by one."""
    return torch.stack([pixels(change(picture(image), i)) for i, image in enumerate(images)])


def affine(*matrix: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.transform(image.size, Image.Transform.AFFINE, matrix)


def square(image: Image.Image, side: float, x: float, y: float) -> Image.Image:
    """The grey square of the strong view: drawn with its borders, its corner inside the picture."""
    left, top = int(max(0, x - side / 2)), int(max(0, y - side / 2))
    right, bottom = min(image.width, left + side), min(image.height, top + side)
    ink = (
        (125, 123, 114)
        if image.mode == "RGB"
        else Image.new("RGB", (1, 1), (125, 123, 114)).convert("L").getpixel((0, 0))
    )
    ImageDraw.Draw(image).rectangle((left, top, right, bottom), ink)
    return image


def cropped(image: Image.Image, border: int, row: int, column: int, mirror: bool) -> Image.Image:
    """Zero padding, a crop, and perhaps the mirror image of it."""
    width, height = image.size
    crop = ImageOps.expand(image, border).crop((column, row, column + width, row + height))
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else crop


OPERATIONS: dict[str, Operation] = {
    "identity": lambda image, level: image,
    "invert": lambda image, level: ImageOps.invert(image),
    "solarise": lambda image, level: ImageOps.solarize(image, level),
    "posterise": lambda image, level: ImageOps.posterize(image, int(level)),
    "brightness": lambda image, level: ImageEnhance.Brightness(image).enhance(level),
    "colour": lambda image, level: ImageEnhance.Color(image).enhance(level),
    "contrast": lambda image, level: ImageEnhance.Contrast(image).enhance(level),
    "sharpness": lambda image, level: ImageEnhance.Sharpness(image).enhance(level),
    "autocontrast": lambda image, level: ImageOps.autocontrast(image),
    "equalise": lambda image, level: ImageOps.equalize(image),
    "rotate": lambda image, level: image.rotate(level),
    "shear_x": lambda image, level: affine(1, level, 0, 0, 1, 0)(image),
    "shear_y": lambda image, level: affine(1, 0, 0, level, 1, 0)(image),
    "translate_x": lambda image, level: affine(1, 0, level * image.width, 0, 1, 0)(image),
    "translate_y": lambda image, level: affine(1, 0, 0, 0, 1, level * image.height)(image),
}
