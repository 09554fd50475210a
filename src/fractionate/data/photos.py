"""Photos that are loaded one by one, by worker processes: a source for sets that do not fit into memory."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from .._spoken import in_words
from .._typing import Int
from ..pictures.heads import printable
from .augment.mixing import draw as mixture
from .augment.mixing import mixed
from .augment.photo import Shown, keyed
from .batch import Batch, Normalization, own_rows, part, sent
from .kept import Pictures
from .labelled import digest
from .stl10 import Stl10Pictures

AHEAD = 2  # batches that every worker makes before they are asked for
Key = tuple[int, int, int]  # epoch, which time the image is shown in it, number of the image


@dataclass(frozen=True, eq=False)
class Photos:
    """A set of photos of any size that gives augmented and normalised batches, decoded as they are needed.

    What a batch holds follows from the seed, the epoch and the images' numbers alone. It is the same for any number of
    workers and of processes, and wherever an epoch is begun; what lies before is not decoded.

    Args:
        pictures: the files.
        target: ``[n]`` int64 classes; -1 for every photo: they have no labels.
        num_classes: number of classes.
        normalization: applied last, on the device.
        size: height and width of the images, in pixels.
        batch_size: images per batch; the last batch of an epoch may be smaller.
        shown: how a photo becomes a training image; ``None`` takes it as ``pictures`` gives it, in its order.
        strong: how a second view is made.
        passes: how often every image is seen in one epoch.
        repeats: how often an image comes in a row, each time augmented anew; an epoch then shows 1 of so many images.
        mixup, cutmix: as those of :class:`SmallImages`.
        seed: of this source only.
        device: where batches go.
        workers: processes that decode and augment; 0 does it in this one.
        classes: their names, in the order of the labels.
        listing: digest of the list of files.

    Raises:
        ValueError: while batches are made: a picture cannot be read.
        ChildProcessError: likewise: a worker was ended from outside.

    Source: repeated augmentation arXiv 1901.09335, in the form of DeiT (2012.12877).
    """

    pictures: Pictures | Stl10Pictures
    target: Tensor
    num_classes: int
    normalization: Normalization
    size: int
    batch_size: int
    shown: Shown | None = None
    strong: Shown | None = None
    passes: int = 1
    repeats: int = 1
    mixup: float = 0.0
    cutmix: float = 0.0
    seed: int = 0
    device: torch.device | str = "cpu"
    workers: int = 0
    classes: tuple[str, ...] = ()
    listing: str = ""
    _loading: _Loading = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.target) != len(self.pictures):
            raise ValueError(f"Photos: {len(self.pictures)} pictures have {len(self.target)} labels")
        if not len(self.target):
            raise ValueError("Photos: the set holds no picture")
        for name, least in (("batch_size", 1), ("passes", 1), ("repeats", 1), ("workers", 0), ("size", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"Photos: {name} must be at least {least}, got {getattr(self, name)}")
        object.__setattr__(
            self, "_loading", _Loading(_Making(self.pictures, self.shown, self.strong, self.seed), self.workers)
        )

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.pictures)

    @property
    def variants(self) -> int | None:
        """One without augmentation; else they cannot be counted."""
        return 1 if self.shown is None and not (self.mixup or self.cutmix) else None

    @property
    def unlabelled_count(self) -> int:
        """How many have no label: all of them, or none."""
        return self.count if int(self.target[0]) < 0 else 0

    @property
    def class_counts(self) -> tuple[int, ...] | None:
        """How many images every class has; ``None`` without labels."""
        return (
            None if self.unlabelled_count else tuple(torch.bincount(self.target, minlength=self.num_classes).tolist())
        )

    def __len__(self) -> int:
        return -(-self.count * self.passes // self.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, counted from 1, from number ``start`` on; always the same ones for an epoch."""
        return self.parts(epoch, 0, 1, start)

    def parts(self, epoch: int, index: int, count: int, start: int = 0) -> Iterator[Batch]:
        """Part ``index`` of ``count`` of every batch of the epoch; to mix images, all of a batch are decoded."""
        keys = self._keys(epoch)
        whole = [keys[i : i + self.batch_size] for i in range(0, len(keys), self.batch_size)][start:]
        mixing = bool(self.mixup or self.cutmix)
        wanted = whole if mixing else [some[own_rows(len(some), index, count)[0]] for some in whole]
        for number, (made, some, mine) in enumerate(zip(self._loading.made(wanted), whole, wanted, strict=True), start):
            batch = self._batch(made, torch.tensor([i for _, _, i in mine]))
            if mixing:
                generator = torch.Generator().manual_seed(keyed(self.seed, epoch, number))
                mix = mixture(len(some), (self.size, self.size), self.mixup, self.cutmix, generator)
                batch = mixed(batch, mix, self.num_classes)
                batch = part(batch, index, count) if count > 1 else batch
            elif count > 1:
                share = 0.0 if own_rows(len(some), index, count)[1] else len(batch) / len(some)
                batch = replace(batch, whole=len(some), share=share)
            yield batch

    def fingerprint(self) -> str:
        """A digest of which pictures there are, with which labels, in which order: 32 hexadecimal digits."""
        return digest(self.num_classes, self.classes, self.listing, self.target.tolist())

    def _keys(self, epoch: int) -> list[Key]:
        """What an epoch shows, in its order."""
        shown: list[Key] = []
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        for turn in range(self.passes):
            order = torch.arange(self.count) if self.shown is None else torch.randperm(self.count, generator=generator)
            some = order[: -(-self.count // self.repeats)].tolist()
            again = [(epoch, turn * self.repeats + r, i) for i in some for r in range(self.repeats)]
            shown += again[: self.count]
        return shown

    def _batch(self, made: tuple[Tensor, Tensor | None], index: Int[Tensor, " n"]) -> Batch:
        device, (weak, second) = torch.device(self.device), made
        strong = None if second is None else self._normalised(second)
        target, there = sent(self.target[index], device), sent(index, device)
        variant = torch.zeros_like(there) if self.variants else None
        known = 0 if self.unlabelled_count else None
        images, rule = self._normalised(weak), self.normalization
        return Batch(images, target, there, strong, variant, normalization=rule, labelled=known)

    def _normalised(self, images: Tensor) -> Tensor:
        there = sent(images, torch.device(self.device))
        return self.normalization(there.contiguous(memory_format=torch.channels_last))


@dataclass(frozen=True)
class _Unreadable:
    """Why there are no pictures, in words; it comes out of a worker in place of a batch."""

    told: str


@dataclass(frozen=True, eq=False)
class _Making:
    """Makes the images of keys: a data set, as loaders of torch call it; the same in every process."""

    pictures: Pictures | Stl10Pictures
    shown: Shown | None
    strong: Shown | None
    seed: int

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor | None]:
        epoch, turn, i = key
        try:
            photo = self.pictures[i]
        except ValueError as error:
            raise ValueError(f"{error}; remove the file, or skip such files (data.skip_broken=true)") from error
        try:
            weak = photo if self.shown is None else self.shown(photo, self.seed, epoch, turn, i, 0)
            return weak, self.strong(photo, self.seed, epoch, turn, i, 1) if self.strong else None
        except ValueError as error:
            raise ValueError(f"augmenting {printable(self.pictures.paths[i])} ended in {in_words(error)}") from error

    def __getitems__(self, keys: Sequence[Key]) -> tuple[Tensor, Tensor | None] | _Unreadable:
        try:
            made = [self[key] for key in keys]
        except (ValueError, OSError, MemoryError) as error:
            return _Unreadable(str(error))
        strong = [second for _, second in made if second is not None]
        return torch.stack([first for first, _ in made]), torch.stack(strong) if strong else None


class _Loading:
    """Batches out of keys, in order: made here, or ahead by workers that live as long as the source.

    The first batch of all is made in this process, so that whoever looks at one image starts no worker.
    """

    def __init__(self, making: _Making, workers: int) -> None:
        inside = multiprocessing.current_process().daemon  # which may have no processes of its own
        self.making, self.workers = making, 0 if inside else workers
        self.orders: list[list[Key]] = []
        self.loader: Any = None
        self.busy = False

    def __getstate__(self) -> dict[str, Any]:
        return {"making": self.making, "workers": self.workers, "orders": [], "loader": None, "busy": False}

    def made(self, wanted: list[list[Key]]) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The images of every batch."""
        if not self.workers or self.busy:  # somebody is in the middle of an epoch: leave the workers to them
            yield from (_checked(self.making.__getitems__(keys)) for keys in wanted)
            return
        if self.loader is None:
            yield from (_checked(self.making.__getitems__(keys)) for keys in wanted[:1])
            wanted = wanted[1:]
        if wanted:
            self.busy = True
            try:
                yield from map(_checked, self._by_workers(wanted))
            finally:
                self.busy = False

    def _by_workers(self, wanted: list[list[Key]]) -> Iterator[tuple[Tensor, Tensor | None]]:
        self.orders[:] = wanted
        self.loader = self.loader or self._started()
        with warnings.catch_warnings(), _own_signals():
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)  # the user has chosen
            coming = iter(self.loader)
        try:
            yield from coming
        except (RuntimeError, OSError, EOFError) as error:
            self.loader = None
            said = next(iter(printable(error).splitlines()), type(error).__name__)  # EOFError has no words
            raise ChildProcessError(
                f"a process that loads photos has ended ({said}); if memory ran out, take fewer of them (data.workers)"
            ) from error

    def _started(self) -> Any:
        return DataLoader(
            self.making,  # type: ignore[arg-type]  # torch asks for its own class where two methods do
            batch_sampler=self.orders,
            num_workers=self.workers,
            collate_fn=_as_it_is,
            persistent_workers=True,
            prefetch_factor=AHEAD,
            generator=torch.Generator(),  # the loader's own draw must not move torch's
        )


@contextmanager
def _own_signals() -> Iterator[None]:
    """What is done when a child process ends stays as it was.

    torch's loaders raise an error then, wherever this process happens to be: in the middle of a step, say. Without that
    they find out when they wait for the worker, where something can be done about it.
    """
    chld = getattr(signal, "SIGCHLD", None)
    if chld is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(chld)
    try:
        yield
    finally:
        signal.signal(chld, before or signal.SIG_DFL)


def _checked(made: tuple[Tensor, Tensor | None] | _Unreadable) -> tuple[Tensor, Tensor | None]:
    if isinstance(made, _Unreadable):
        raise ValueError(made.told)
    return made


def _as_it_is(made: Any) -> Any:
    return made
