"""The teacher's logits for every image under every shift and flip, computed once each and read ever after.

Pad, crop and flip show an image in 2 (2 shift + 1)^2 ways, 162 for the usual shift of 4, and a network in evaluation
mode gives each image of a batch the logits it would have alone. They can therefore be kept, and are exact: float32 ones
equal the live teacher's up to the rounding of kernels.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from .._choices import choose
from .._spoken import spoken
from ..data import Batch, Countable, Source
from ..models import logits_of
from ..models.preprocessing import shown_of
from ..world import current
from .live import LiveTeacher, Teacher, frozen
from .rowfile import RowFile, open_rows, size_of

Mode = Literal["off", "lazy", "full"]
MODES: tuple[Mode, ...] = ("off", "lazy", "full")
CHUNK = {"cuda": 2048}  # images at once while a table is filled; else:
SMALL = 256
PROBES = 4
UNCOUNTED = (
    "a teacher table keeps logits per shift and flip (batch.variant), but {} are augmented by more than that; use "
    "teacher_table=off, or augment the strong view only"
)
PLAIN = (bool, int, float, str, tuple)
Report = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class TeacherTable:
    """A :class:`Teacher` that runs its network once per image, shift and flip.

    Logits are computed in the network's own precision, whatever autocast is on around it, so that runs of every
    precision can share them. Strong views are not kept; the network runs on them live.

    Args:
        net: the teacher; it is frozen and put into evaluation mode.
        source: training images, whose batches carry ``index`` and ``variant``.
        folder: where tables are kept, one file for every combination of weights, architecture, images, normalization
            and augmentation; later runs and other processes use it too. ``None`` keeps the table in memory.
        dtype: ``torch.float32``, or ``torch.float16`` for half the size and about three digits.
        known_as: the network that names the file, where ``net`` is a quicker form of it (``folded``).

    Raises:
        ValueError: a source without countable variants, a disk without room, or a file with another teacher's logits.

    Example:
        >>> from fractionate.data import Normalization, SmallImages
        >>> images = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8)
        >>> source = SmallImages(images, torch.arange(6), 6, Normalization((0.5,), (0.5,)), batch_size=6, shift=1)
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 6))
        >>> batch = next(source.batches(epoch=1))
        >>> torch.allclose(TeacherTable(net, source)(batch)[0], LiveTeacher(net)(batch)[0])
        True
    """

    net: nn.Module
    source: Countable
    folder: Path | None = None
    dtype: torch.dtype = torch.float32
    known_as: nn.Module | None = None
    store: RowFile = field(init=False)
    path: Path | None = field(init=False, default=None)
    _whole: list[Tensor] = field(init=False, repr=False, default_factory=list)

    @spoken
    def __post_init__(self) -> None:
        if not isinstance(self.source, Countable):
            raise ValueError(
                f"a teacher table needs images whose crops can be counted; got {type(self.source).__name__}"
            )
        if self.source.variants is None:
            raise ValueError(UNCOUNTED.format("these images"))
        frozen(self.net)
        key = fingerprint(self.known_as or self.net, self.source)
        if self.folder is not None:
            name = f"{key[:24]}-{str(self.dtype).removeprefix('torch.')}.logits"
            object.__setattr__(self, "path", Path(self.folder) / name)
        count = self.source.count * self.source.variants
        object.__setattr__(self, "store", open_rows(self.path, key, count, self._classes(), self.dtype))
        self._probe()

    @spoken
    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Logits of the weak view from the table, of the strong view from the network."""
        if batch.variant is None:
            raise ValueError(UNCOUNTED.format("the images of this batch"))
        strong = None if batch.strong is None else self._live(batch.strong)
        at = batch.variant * self.source.count + batch.index
        if self._whole:
            return self._whole[0][at].float(), strong
        place = at.cpu()
        missing = self.store.missing(place)
        if bool(missing.any()):
            self.store.write(place[missing], self._live(batch.images[missing.to(batch.images.device)]).cpu())
        return self.store.rows[place].float().to(batch.images.device), strong

    @property
    def on_device(self) -> bool:
        """Whether all of it lies on the device, so that no lookup waits."""
        return bool(self._whole)

    @property
    def nbytes(self) -> int:
        """Size of the table when it is full."""
        rows, classes = self.store.rows.shape
        return size_of(rows, classes, self.dtype)

    def fill(self, report: Report | None = None) -> None:
        """Compute everything that is missing; afterwards the table lies on the device and no lookup waits for it.

        Several processes divide the work; those of one host share the file.

        Args:
            report: called with the number of rows done and to do.
        """
        world = current()
        if not world.alone:
            self._fill(islice(self._everything(), world.rank, None, world.size), None)
            world.everyones(None)  # wait
        self._fill(self._everything(), report)
        self._whole[:] = [self.store.rows.to(self.source.device)]

    def _fill(self, parts: Iterator[tuple[int, Tensor]], report: Report | None) -> None:
        done, total = 0, self.source.count * len(self.source.forms)
        for variant, index in parts:
            at = variant * self.source.count + index
            missing = self.store.missing(at)
            if bool(missing.any()):
                self.store.write(at[missing], self._live(self.source.form(index[missing], variant)).cpu())
            done += len(at)
            if report:
                report(done, total)

    def _everything(self) -> Iterator[tuple[int, Tensor]]:
        """Every variant with chunks of images, in the order of the file."""
        size = CHUNK.get(torch.device(self.source.device).type, SMALL)
        for variant in self.source.forms:
            for start in range(0, self.source.count, size):
                yield variant, torch.arange(start, min(start + size, self.source.count))

    def _live(self, images: Tensor) -> Tensor:
        with torch.inference_mode(), torch.autocast(images.device.type, enabled=False):
            logits = logits_of(self.net, images, "teacher")
        return logits.float().clone()

    def _classes(self) -> int:
        """The number of logits, of a teacher that answers to an image alone as it does beside others."""
        few = self.source.form(torch.arange(min(PROBES, self.source.count)), 0)
        alone, beside = self._live(few[:1]), self._live(few)[:1]
        if float((alone - beside).abs().max()) > 1e-2 * float(beside.abs().max()):
            raise ValueError(
                "the teacher's answer to an image depends on the others in its batch, as that of batch norms without "
                "running statistics does, or on chance: its logits cannot be kept; use teacher_table=off"
            )
        return alone.shape[1]

    def _probe(self) -> None:
        """Compare a few rows that were there with the network: code can change where weights and layers do not."""
        there = self.store.marks.nonzero()[:, 0]
        some = there[torch.linspace(0, len(there) - 1, min(PROBES, len(there))).long()]
        for at in some[~self.store.missing(some)].tolist():
            variant, index = divmod(at, self.source.count)
            expected = self._live(self.source.form(torch.tensor([index]), variant))[0].cpu()
            error = float((self.store.rows[at].float() - expected).abs().max())
            if not error <= 1e-2 * float(expected.abs().max()):
                raise ValueError(
                    f"{self.path} holds other logits than this teacher gives (image {index}, variant {variant}: they "
                    f"differ by {error:.2g}); if the network's code has changed, delete the file"
                )


def tabled(
    teacher: Teacher,
    source: Source,
    *,
    mode: Mode = "lazy",
    folder: Path | None = None,
    dtype: torch.dtype = torch.float32,
    known_as: nn.Module | None = None,
    report: Report | None = None,
    say: Callable[[str], None] | None = None,
) -> Teacher:
    """The same teacher, its logits kept.

    Args:
        teacher: a :class:`LiveTeacher`.
        source: training images.
        mode: ``"lazy"`` fills the table as images come; ``"full"`` fills it now; ``"off"`` returns ``teacher``.
        folder: as in :class:`TeacherTable`.
        dtype, known_as: likewise.
        report: progress of ``"full"``: rows done, rows to do.
        say: gets the size of the table in words before it is filled; default: standard error, unless a lazy table that
            others began is taken up again.

    Raises:
        ValueError: an unknown mode, a teacher that is not a live network, or as :class:`TeacherTable`.
    """
    if choose("teacher table", mode, MODES) == "off":
        return teacher
    if not isinstance(teacher, LiveTeacher):
        raise ValueError(f"a teacher table is made from a LiveTeacher, got {type(teacher).__name__}")
    if not isinstance(source, Countable):
        raise ValueError(
            f"teacher_table={mode} needs images whose crops can be counted, got {type(source).__name__}; "
            f"use teacher_table=off"
        )
    table = TeacherTable(teacher.net, source, folder, dtype, known_as)
    if current().main and (say or mode == "full" or not bool(table.store.marks.any())):
        (say or _to_stderr)(describe(table))
    if mode == "full":
        table.fill(report)
    return table


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)


def describe(table: TeacherTable) -> str:
    """Size and place of a table, in words."""
    rows, classes = table.store.rows.shape
    there = int((table.store.marks != 0).sum())
    return (
        f"teacher table: {table.source.count:,} images x {table.source.variants} shifts and flips x {classes} classes, "
        f"{table.nbytes / 1e9:.3g} GB when full, {100 * there / rows:.0f} % there, in {table.path or 'memory'}"
    )


def fingerprint(net: nn.Module, source: Countable) -> str:
    """A hash of all that decides a table: weights, layers with their settings, preprocessing, images, augmentation."""
    found = hashlib.sha256(repr(net).encode())
    if how := shown_of(net):
        found.update(repr(how).encode())
    for name, module in net.named_modules():
        settings = {k: v for k, v in sorted(vars(module).items()) if isinstance(v, PLAIN) and k != "training"}
        found.update(f"{name} {type(module).__module__}.{type(module).__qualname__} {settings}".encode())
    for name, tensor in net.state_dict().items():
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    source.feed(found.update)
    return found.hexdigest()
