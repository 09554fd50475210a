"""Batches of images with boxes: of one size, pure functions of (seed, epoch, image), and whole sets to evaluate on."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._typing import Float
from ...pictures.heads import memory
from ...pictures.repeats import marks_of
from ..batch import BORROWED, Batch, Normalization, bounds
from ..dense.pairs import CHECKED, KEPT, SHARE, THREADS
from ..dense.reading import name, read, rgb
from ..dense.source import IMAGENET, PRIME, coloured
from ..images import upright
from .annotations import Picture, Pictures
from .target import DRAWS, Known, packed

if TYPE_CHECKING:
    from PIL import Image

SIDE = 640  # pixels of the longer side where nothing else is said
MIXED = 40_503  # spreads seeds over the draws of an epoch

Shown = tuple[Tensor, Float[Tensor, "_ 7"], float]  # uint8 pixels, boxes in them, and pixels of the file per pixel


def scaled(size: tuple[int, int], longer: int, shorter: int | None = None) -> tuple[tuple[int, int], float]:
    """Height and width at which an image is shown, and pixels of the file per pixel.

    Args:
        size: height and width of the file.
        longer: length of the longer side; with ``shorter``, the largest it may have.
        shorter: length of the shorter side.

    Example:
        >>> scaled((480, 640), 320), scaled((480, 640), 1333, 800)[0], scaled((100, 400), 1333, 800)[0]
        (((240, 320), 2.0), (800, 1067), (333, 1333))
    """
    factor = max(max(size) / longer, min(size) / shorter if shorter else 0.0)
    height, width = (max(1, round(n / factor)) for n in size)
    return (height, width), factor


def shown(picture: Picture, size: tuple[int, int], factor: float) -> Shown:
    """One image at a size, as :func:`scaled` gives it, and its boxes in its pixels.

    Raises:
        ValueError: a file that cannot be read, or one of another size than the annotations say.

    Warns:
        UserWarning: a camera turned it, and the size does not say if boxes were drawn before or after that.
    """
    pixels: Tensor = read(picture.place, partial(_as_drawn, size=picture.size))
    if tuple(pixels.shape[1:]) != picture.size:
        raise ValueError(
            f"{name(picture.place)} is {pixels.shape[1]} x {pixels.shape[2]} pixels and the annotations say "
            f"{picture.size[0]} x {picture.size[1]}: its boxes would lie elsewhere; correct the one that is wrong"
        )
    if size != picture.size:
        small = F.interpolate(pixels[None].float(), size, mode="bilinear", antialias=True)[0]
        pixels = small.round().clamp(0, 255).to(torch.uint8)
    down, across = (there / of_file for there, of_file in zip(size, picture.size, strict=True))
    boxes = picture.boxes * torch.tensor([1.0, across, down, across, down, 1.0, 1.0])
    return pixels, boxes, factor


def _as_drawn(image: Image.Image, size: tuple[int, int]) -> Tensor:
    """``[3, h, w]`` of the file; turned as its camera wrote down where only so it has the size of the annotations."""
    turned = upright(image)
    as_shown, as_stored = (one.size[::-1] == size for one in (turned, image))
    if as_shown and as_stored and turned is not image:
        warnings.warn(
            "images are turned by a mark of their camera (EXIF), and the annotations do not say if boxes were drawn "
            "before or after that; they are taken as drawn on the images as they are stored; if that is wrong, save "
            "the images turned and without such marks",
            stacklevel=2,
        )
    return rgb(turned if as_shown and not as_stored else image)


@dataclass(frozen=True, eq=False)
class BoxImages:
    """A :class:`fractionate.data.Source` of images with boxes.

    Every image lies in the upper left corner of a square (with ``shorter``, of a rectangle that holds the whole batch,
    however many processes divide it); what is beyond it is the mean colour. A batch's ``target`` is that of
    :func:`fractionate.data.boxes.packed`.

    Args:
        pictures: images and boxes; read at the start if they are few and are always shown at one size.
        batch_size: images per batch.
        side: pixels of an image's longer side; with ``shorter``, at most so many.
        shorter: lengths of the shorter side, of which training draws one for every image and evaluation takes the
            largest; empty: the longer side decides alone.
        training: shuffle, and change images as ``flip`` and ``colour`` say.
        flip: mirror half of the images.
        colour: largest relative change of brightness, contrast and saturation.
        multiple: sides of a batch are multiples of this.
        passes: how often an epoch shows every image.
        seed: of the order, of the changes, and of what is sampled in an image.
        device: where batches are put.
        normalization: of the pixels.
    """

    pictures: Pictures
    batch_size: int
    side: int = SIDE
    shorter: tuple[int, ...] = ()
    training: bool = False
    flip: bool = False
    colour: float = 0.0
    multiple: int = 32
    passes: int = 1
    seed: int = 0
    device: torch.device | str = "cpu"
    normalization: Normalization = IMAGENET
    kept: tuple[Shown, ...] = field(default=(), repr=False)

    @property
    def num_classes(self) -> int:
        """Number of categories; the background is none."""
        return len(self.classes)

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, by id."""
        return self.pictures.classes

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.pictures)

    @property
    def variants(self) -> None:
        """Not counted."""

    def __len__(self) -> int:
        return -(-self.count * self.passes // self.batch_size)

    def read(self) -> BoxImages:
        """With the images in memory if one size and the room allow it; every file is looked at in any case.

        Raises:
            ValueError: an image that cannot be read, or that has another size than the annotations say.
        """
        needed = 3 * self.count * self.side**2
        one_size = len(self.shorter) < 2 or not self.training
        few = one_size and needed <= min(KEPT, SHARE * (memory() or KEPT))

        def look(picture: Picture) -> Shown | None:
            if few:
                return shown(picture, *self._scale(picture, 0.0))
            _looked(picture)
            return None

        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
            made = pool.map(look, self.pictures.found)
            return replace(self, kept=tuple(x for x in made if x is not None))

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from number ``start`` on; those before are not read."""
        return self.parts(epoch, 0, 1, start)

    def parts(self, epoch: int, index: int, count: int, start: int = 0) -> Iterator[Batch]:
        """Part ``index`` of ``count`` of every batch, the same images as in the whole batches."""
        order = self._order(epoch)
        for number in range(start, len(self)):
            rows = order[number * self.batch_size : (number + 1) * self.batch_size]
            own = rows[bounds(len(rows), index, count)]
            batch = self._stacked(epoch, own or rows[:BORROWED], self._canvas(epoch, rows))
            yield batch if count == 1 else replace(batch, whole=len(rows), share=len(own) / len(rows))

    def _order(self, epoch: int) -> list[tuple[int, int]]:
        """Position in the epoch and number of every image."""
        if not self.training:
            return list(enumerate(list(range(self.count)) * self.passes))
        generator = torch.Generator().manual_seed(self.seed * PRIME + epoch)
        orders = [torch.randperm(self.count, generator=generator) for _ in range(self.passes)]
        return list(enumerate(torch.cat(orders).tolist()))

    def _drawn(self, epoch: int, position: int, i: int) -> tuple[int, list[float]]:
        """The seed of an image's changes, and numbers drawn from it: mirror, three of the colour, size."""
        turn = position // self.count  # which of the passes, so that each shows the image in another way
        seed = ((self.seed * PRIME + epoch) * PRIME + i * self.passes + turn) % 2**63
        return seed, torch.rand(5, generator=torch.Generator().manual_seed(seed)).tolist()

    def _scale(self, picture: Picture, drawn: float) -> tuple[tuple[int, int], float]:
        """At which size an image is shown, from a number in [0, 1)."""
        if not self.shorter:
            return scaled(picture.size, self.side)
        shorter = self.shorter[int(drawn * len(self.shorter))] if self.training else max(self.shorter)
        return scaled(picture.size, self.side, shorter)

    def _canvas(self, epoch: int, rows: list[tuple[int, int]]) -> tuple[int, int]:
        """Height and width of a batch, from the annotations alone: its parts do not know each other's pixels."""
        sizes = [(self.side, self.side)]
        if self.shorter:
            sizes = [self._scale(self.pictures.found[i], self._drawn(epoch, at, i)[1][4])[0] for at, i in rows]
        height, width = (-(-max(n) // self.multiple) * self.multiple for n in zip(*sizes, strict=True))
        return height, width

    def _stacked(self, epoch: int, rows: list[tuple[int, int]], canvas: tuple[int, int]) -> Batch:
        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
            made = list((map if self.kept else pool.map)(lambda at: self._image(epoch, at[0], at[1], canvas), rows))
        images = torch.stack([pixels for pixels, _ in made]).contiguous(memory_format=torch.channels_last)
        target, index = packed([known for _, known in made]), torch.tensor([i for _, i in rows])
        to = [x.to(self.device) for x in (images, target, index)]
        return Batch(to[0], to[1], to[2], normalization=self.normalization)

    def _image(
        self, epoch: int, position: int, i: int, canvas: tuple[int, int]
    ) -> tuple[Float[Tensor, "3 y x"], Known]:
        seed, drawn = self._drawn(epoch, position, i)
        picture = self.pictures.found[i]
        pixels, lines, factor = self.kept[i] if self.kept else shown(picture, *self._scale(picture, drawn[4]))
        values = pixels / 255
        if self.training:
            values = coloured(values, self.colour, drawn[1:4])
        size, boxes = (pixels.shape[1], pixels.shape[2]), lines[:, 1:5].clone()
        if self.training and self.flip and drawn[0] < 0.5:
            values = values.flip(2)
            boxes[:, [0, 2]] = size[1] - boxes[:, [2, 0]]
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.normalization.mean, self.normalization.std))
        values = F.pad((values - mean) / std, (0, canvas[1] - size[1], 0, canvas[0] - size[0]))
        draw = (seed * MIXED) % DRAWS
        return values, Known(boxes, lines[:, 0].long(), lines[:, 5], lines[:, 6] > 0, size, factor, draw)

    def fingerprint(self) -> str:
        """A digest of the images' names, sizes and boxes, of their pixels where they are kept, and of the classes.

        Of images that are not kept, the sizes of the files, and the bytes of some, evenly spread.
        """
        found = hashlib.sha256(repr((self.classes, self.normalization, self.side)).encode())
        if self.shorter:
            found.update(repr(self.shorter).encode())
        step = -(-self.count // CHECKED)
        for i, picture in enumerate(self.pictures.found):
            found.update(repr((picture.place.name, picture.size, picture.boxes.tolist())).encode())
            if not self.kept:
                found.update(repr(marks_of(picture.place, whole=i % step == 0)).encode())
        for pixels, *_ in self.kept:
            found.update(pixels.contiguous().numpy().tobytes())
        return found.hexdigest()


def _looked(picture: Picture) -> None:
    """A file's head alone, of a set too large to be kept."""
    size = read(picture.place, lambda image: (image.size[1], image.size[0]))
    if size != picture.size:
        shown(picture, picture.size, 1.0)  # says it
