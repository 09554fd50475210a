"""Small images live on the device as uint8; shuffling and augmentation happen there, a whole batch at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from .._typing import Bool, Float, Int
from .augment.mixing import draw as mixture
from .augment.mixing import mixed
from .augment.policies import AUGMENTATIONS, Augmentation
from .batch import CHUNK, Batch, Draw, Normalization, bounds, part

OWN = [f for f in AUGMENTATIONS.values() if f]


@dataclass(frozen=True, eq=False)
class SmallImages:
    """A set of small images, kept on one device, that gives augmented and normalised batches.

    Every random choice of an epoch is drawn at its start, on the CPU, from a generator seeded by ``(seed, epoch)``:
    batches depend on nothing else, are the same on CPU and GPU, and no step synchronizes a GPU.

    Args:
        images: ``[n, ch, h, w]`` uint8.
        target: ``[n]`` int64 classes; -1 for every image: they have no labels.
        num_classes: number of classes.
        normalization: applied last, so padding is black.
        batch_size: images per batch; the last batch of an epoch may be smaller.
        shift: zero-pad by this many pixels on each side, then crop at a random place (0 = off).
        flip: mirror half of the images left to right.
        passes: how often every image is seen in one epoch (few images make short epochs).
        shuffle: whether the order is random; off for evaluation.
        augment: what else is done to shifted and flipped images: a function of ``[n, ch, h, w]`` uint8 images and of a
            CPU generator, such as :func:`randaugment`; see ``AUGMENTATIONS``.
        strong: makes a second view in the same way, with a shift and flip of its own.
        mixup: parameter of the Beta distribution by which pairs of images and their labels are mixed; 0 = off.
        cutmix: the same for pasted boxes; with both, each batch draws one of them.
        seed: of this source only.
        device: where the images live.
        classes: their names, in the order of the labels, where they have names.
        listing: digest of the list of files that the images were read from, where they come from files.

    Without ``augment``, ``mixup`` and ``cutmix`` an image has finitely many forms, which ``Batch.variant`` counts.
    Mixing makes labels soft, ``[n, c]``, and treats both views alike.

    Raises:
        ValueError: a tensor of another shape or type, labels out of range, or a negative size.

    Example:
        >>> import torch
        >>> images = torch.randint(0, 256, (10, 1, 8, 8), dtype=torch.uint8)
        >>> data = SmallImages(images, torch.arange(10), 10, Normalization.of(images), batch_size=4, shift=1)
        >>> [batch.images.shape[0] for batch in data.batches(epoch=1)]
        [4, 4, 2]
    """

    images: Tensor
    target: Tensor
    num_classes: int
    normalization: Normalization
    batch_size: int
    shift: int = 0
    flip: bool = False
    passes: int = 1
    shuffle: bool = True
    augment: Augmentation | None = None
    strong: Augmentation | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    seed: int = 0
    device: torch.device | str = "cpu"
    classes: tuple[str, ...] = ()
    listing: str = ""
    unlabelled_count: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        _check_images(self.images, self.target, self.num_classes)
        for name, least in (("batch_size", 1), ("passes", 1), ("shift", 0), ("mixup", 0), ("cutmix", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"SmallImages: {name} must be at least {least}, got {getattr(self, name)}")
        if self.shift >= min(self.images.shape[2:]):
            side = min(self.images.shape[2:])
            raise ValueError(f"SmallImages: shift must be below the images' {side} pixels, got {self.shift}")
        object.__setattr__(self, "images", self._padded())
        object.__setattr__(self, "unlabelled_count", self.count if bool(self.target[0] < 0) else 0)
        object.__setattr__(self, "target", self.target.to(self.device))

    @property
    def count(self) -> int:
        """Number of images."""
        return self.target.shape[0]

    @property
    def variants(self) -> int | None:
        """How many different crops and flips of one image there are; ``None`` where more is done to the images."""
        return None if self.augment or self.mixup or self.cutmix else 2 * (2 * self.shift + 1) ** 2

    @property
    def forms(self) -> range:
        """The variants that occur: without ``flip`` only every second one."""
        return range(0, self.variants or 0, 1 if self.flip else 2)

    @property
    def class_counts(self) -> tuple[int, ...] | None:
        """How many images every class has; ``None`` without labels."""
        if self.unlabelled_count:
            return None
        return tuple(torch.bincount(self.target.cpu(), minlength=self.num_classes).tolist())

    def __len__(self) -> int:
        return -(-self.count * self.passes // self.batch_size)

    @property
    def drawn(self) -> bool:
        """Whether a :class:`Draw` decides all of a batch: nothing but shifts and flips, in one view."""
        return not (self.augment or self.strong or self.mixup or self.cutmix)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, counted from 1, from number ``start`` on; always the same ones for an epoch."""
        return self.parts(epoch, 0, 1, start)

    def parts(self, epoch: int, index: int, count: int, start: int = 0) -> Iterator[Batch]:
        """Part ``index`` of ``count`` of every batch of the epoch, the same images as in the whole batches.

        Where augmentation draws numbers batch by batch, the whole batch is made first, and the numbers of batches
        before ``start`` are drawn; only an augmentation of your own has to be run for that.
        """
        generator = self._generator(epoch)
        for number, draw in enumerate(self._draws(generator)):
            if number < start:
                self._pass_over(draw, generator)
                continue
            rows = bounds(len(draw), index, count)
            if count == 1:
                yield self._batch(draw, generator)
            elif self.drawn and rows.start < rows.stop:
                batch = self._batch(draw.at(rows), generator)
                yield replace(batch, whole=len(draw), share=len(batch) / len(draw))
            else:
                yield part(self._batch(draw, generator), index, count)

    def draws(self, epoch: int, start: int = 0) -> Iterator[Draw]:
        """What is drawn for the batches of one epoch, from number ``start`` on."""
        return islice(self._draws(self._generator(epoch)), start, None)

    def shown(self, draw: Draw) -> Batch:
        """The batch of a draw, computed on the device alone.

        Raises:
            ValueError: the batch depends on more than a draw (see :attr:`drawn`).
        """
        if not self.drawn:
            raise ValueError("SmallImages.shown: these images are augmented or mixed by more than a draw; use batches")
        return self._batch(draw, None)

    def form(self, index: Int[Tensor, " n"], variant: int) -> Float[Tensor, "n ch h w"]:
        """Some images as ``Batch.variant`` counts their shifts and flips, normalised.

        Args:
            index: which images.
            variant: which shift and flip, the same for all.
        """
        place, mirror = divmod(variant, 2)
        row, column = divmod(place, 2 * self.shift + 1)
        height, width = self._size
        cut = self.images[index.to(self.images.device), row : row + height, column : column + width]
        cut = cut.permute(0, 3, 1, 2)
        return self.normalization(cut.flip(3) if mirror else cut)

    def feed(self, update: Callable[[Any], None]) -> None:
        """Give a hash the images, their normalization, and how they are shifted and flipped."""
        update(f"images {self.images.dtype} {list(self.images.shape)}".encode())
        update(self.images.cpu().reshape(-1).numpy())
        update(f"{self.normalization} {self.shift} {self.flip}".encode())

    def fingerprint(self) -> str:
        """A digest of which images there are, with which labels, in which order: 32 hexadecimal digits.

        Images that were read from files are known by ``listing``, others by their bytes. Augmentation, normalization,
        seed, device and batch size are no part of it.
        """
        found = hashlib.sha256(f"{self.num_classes} {self.classes} {self.listing}".encode("utf-8", "surrogateescape"))
        found.update(self.target.cpu().numpy().data)
        if not self.listing:
            (height, width), border = self._size, self.shift
            inside = self.images[:, border : border + height, border : border + width]
            for some in inside.split(CHUNK):
                found.update(some.cpu().contiguous().numpy().data)
        return found.hexdigest()[:32]

    @property
    def _size(self) -> tuple[int, int]:
        """Height and width without the borders."""
        return self.images.shape[1] - 2 * self.shift, self.images.shape[2] - 2 * self.shift

    def _generator(self, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)

    def _draws(self, generator: torch.Generator) -> Iterator[Draw]:
        index = self._order(generator)
        views = [self._places(generator) for _ in range(2 if self.strong else 1)]
        corner, mirror = (torch.stack(parts) for parts in zip(*views, strict=True))
        for start in range(0, len(index), self.batch_size):
            part = slice(start, start + self.batch_size)
            yield Draw(index[part], corner[:, part], mirror[:, part])

    def _pass_over(self, draw: Draw, generator: torch.Generator) -> None:
        """Draw the numbers of a batch that nobody asks for."""
        for augment in (self.augment, self.strong):
            if augment in OWN:  # these draw as many numbers for a single pixel
                augment(torch.zeros(len(draw), 1, 1, 1, dtype=torch.uint8), generator)
            elif augment:
                augment(self._crop(draw.index, draw.corner[0], draw.mirror[0]), generator)
        if self.mixup or self.cutmix:
            mixture(len(draw), self._size, self.mixup, self.cutmix, generator)

    def _batch(self, draw: Draw, generator: torch.Generator | None) -> Batch:
        index, (corner, *_), (mirror, *_) = draw.index, draw.corner, draw.mirror
        weak, *other = (self._crop(index, *view) for view in zip(draw.corner, draw.mirror, strict=True))
        variant = None if self.augment else (corner[:, 0] * (2 * self.shift + 1) + corner[:, 1]) * 2 + mirror
        images = self._finished(weak, self.augment, generator)
        strong = self._finished(other[0], self.strong, generator) if self.strong else None
        none = 0 if self.unlabelled_count else None
        rule = self.normalization
        batch = Batch(images, self.target[index], index, strong, variant, normalization=rule, labelled=none)
        if not (self.mixup or self.cutmix):
            return batch
        assert generator is not None
        mix = mixture(len(index), self._size, self.mixup, self.cutmix, generator)
        return mixed(batch, mix, self.num_classes)

    def _finished(self, images: Tensor, augment: Augmentation | None, generator: torch.Generator | None) -> Tensor:
        """Augmented and normalised, in the order in memory that every batch has."""
        if augment:
            assert generator is not None
            images = augment(images, generator)
        return self.normalization(images.contiguous(memory_format=torch.channels_last))

    def _padded(self) -> Tensor:
        """``[n, h, w, ch]`` with black borders, on the device; one copy and no more, for sets that nearly fill it."""
        n, ch, height, width = self.images.shape
        border = 2 * self.shift
        padded = torch.zeros(n, height + border, width + border, ch, dtype=torch.uint8, device=self.device)
        inside = padded[:, self.shift : self.shift + height, self.shift : self.shift + width]
        inside.copy_(self.images.permute(0, 2, 3, 1))
        return padded

    def _order(self, generator: torch.Generator) -> Int[Tensor, " m"]:
        """Positions of the images of one epoch."""
        n = self.count
        orders = [
            torch.randperm(n, generator=generator) if self.shuffle else torch.arange(n) for _ in range(self.passes)
        ]
        return torch.cat(orders).to(self.device)

    def _places(self, generator: torch.Generator) -> tuple[Int[Tensor, "m 2"], Bool[Tensor, " m"]]:
        """Crop corner and mirror flag of every image of the epoch."""
        m = self.count * self.passes
        corner = torch.randint(0, 2 * self.shift + 1, (m, 2), generator=generator)
        mirror = torch.rand(m, generator=generator) < (0.5 if self.flip else 0.0)
        return corner.to(self.device), mirror.to(self.device)

    def _crop(self, index: Int[Tensor, " n"], corner: Int[Tensor, "n 2"], mirror: Bool[Tensor, " n"]) -> Tensor:
        """``[n, ch, h, w]`` uint8: pad-crop as a copy of lines out of the padded images, then the flip."""
        _, padded_height, padded_width, ch = self.images.shape
        height, width = self._size
        first = ((index * padded_height + corner[:, 0]) * padded_width + corner[:, 1]) * ch
        start = first[:, None] + torch.arange(height, device=index.device) * padded_width * ch
        lines = self.images.view(-1).as_strided((self.images.numel() - width * ch + 1, width * ch), (1, 1))
        pixels = lines.index_select(0, start.flatten()).reshape(-1, height, width, ch)
        if self.flip:
            both = torch.cat([pixels, pixels.flip(2)])
            pixels = both.index_select(0, torch.arange(len(index), device=index.device) + mirror * len(index))
        return pixels.permute(0, 3, 1, 2)


def _check_images(images: Tensor, target: Tensor, num_classes: int) -> None:
    if images.ndim != 4 or images.dtype != torch.uint8:
        raise ValueError(f"SmallImages: images must be uint8 [n, ch, h, w], got {images.dtype} {list(images.shape)}")
    if target.dtype != torch.int64 or target.shape != images.shape[:1]:
        raise ValueError(
            f"SmallImages: target must be int64 [n]=[{len(images)}], got {target.dtype} {list(target.shape)}"
        )
    if not len(images):
        raise ValueError("SmallImages: the set holds no image")
    low, high = (int(v) for v in target.aminmax())
    if not (0 <= low <= high < num_classes or low == high == -1):
        raise ValueError(f"SmallImages: labels must lie in 0..{num_classes - 1}, got {low}..{high} (all -1: none)")
