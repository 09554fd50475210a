"""Any folder of images, one folder per class."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from .._choices import choose
from .._files import expanded
from ..pictures.heads import LARGEST, content, need_pillow, printable, short_side, state_of, told_unread
from ..pictures.layout import TEST_SHARE
from ..pictures.names import shown
from ..pictures.shards import pictures_in
from .decoded import read_kept
from .images import Progress, read_images
from .labelled import PARTS, Labelled, Part, digest, held_out

VALIDATION_SHARE = 1 / 10
TEST_SEED, VALIDATION_SEED = 0, 1
LOOKED = 4096  # files of a part whose bytes are looked at


@dataclass(frozen=True)
class Files:
    """Files of one part with the number of their class."""

    paths: list[Path]
    labels: list[int]

    def at(self, index: Sequence[int]) -> Files:
        """Some of the files."""
        return Files([self.paths[i] for i in index], [self.labels[i] for i in index])

    def listed(self, root: Path) -> list[tuple[str, int, int, int]]:
        """Every file's name below the folder, size in bytes, label, and checksum.

        Of very many files those of some are taken, evenly spread; the others have 0.
        """
        step = -(-len(self.paths) // LOOKED)
        sums = [0 if i % step else zlib.crc32(content(path)) for i, path in enumerate(self.paths)]
        return [
            (shown(path.relative_to(root).as_posix()), state_of(path)[0], label, checksum)
            for path, label, checksum in zip(self.paths, self.labels, sums, strict=True)
        ]

    def cut(self, share: float, seed: int) -> tuple[Files, Files]:
        """A share of every class, and the rest."""
        chosen = held_out(torch.tensor(self.labels), share, seed)
        return self.at(chosen.nonzero()[:, 0].tolist()), self.at((~chosen).nonzero()[:, 0].tolist())


def folder(
    root: Path,
    part: Part = "train",
    size: int | None = None,
    *,
    skip_broken: bool = False,
    samples: int | None = None,
    progress: Progress | None = None,
    cache: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> Labelled:
    """Images of a folder, read into memory at one size; the class is the name of the folder they lie in.

    Either ``root/train/CLASS/...`` with ``root/test/CLASS/...`` or ``root/val/CLASS/...``, or ``root/CLASS/...`` alone.
    Then a fifth of every class is the test part, always the same files. Where there is no validation folder besides the
    test folder, a tenth of every class of the training images is the validation part. The folders of the parts may have
    other names that people give them (``Training``, ``val2017``, ``test_set``, in several languages). Pictures that lie
    in ``root/train`` itself, beside a ``root/test/CLASS/...``, have no labels: each is -1. Instead of folders of
    classes, a part may hold tar archives in the layout of WebDataset, which are not unpacked.

    Args:
        root: the folder; ``~`` is the home folder.
        part: which images.
        size: the shorter side is resized to it, then the centre is cut out; ``None`` takes the shorter side of the
            first training image, at most 224 pixels.
        skip_broken: leave out files that cannot be read, with a warning that counts them.
        samples: read about so many, evenly spread over the files, and of some classes perhaps none; ``None`` reads all.
        progress: told after every image how many of how many are read.
        cache: folder where decoded pictures are kept for later runs; ``None`` keeps none.
        say: gets the size of what is going to be kept, in words.

    Warns:
        UserWarning: files that are no pictures, or none that can be read here, are left out; counted by their endings.

    Raises:
        ValueError: no such folder, folders that may be parts or classes, fewer than two classes, a class without
            images, an unreadable file, a link that leads out of the folder, or more images than fit into memory.
        ImportError: Pillow is not installed.
    """
    choose("part of the images", part, PARTS)
    if size is not None and size < 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")
    need_pillow()
    root = expanded(root)
    found = layout(root)
    return read_layout(
        found, root, part, size, skip_broken=skip_broken, samples=samples, progress=progress, cache=cache, say=say
    )


def read_layout(
    found: Layout,
    root: Path,
    part: Part,
    size: int | None = None,
    *,
    skip_broken: bool = False,
    samples: int | None = None,
    progress: Progress | None = None,
    cache: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> Labelled:
    """The images of one part of a layout, read into memory; arguments and errors as those of :func:`folder`."""
    if left_out := told_unread(found.unread):
        warnings.warn(f"{printable(root)}: {left_out}", stacklevel=3)
    if part not in found.parts:
        raise ValueError(
            f"{printable(root)} has no {part} part: the training images have no labels, so none is cut out of them; "
            f"add a folder val with one folder per class"
        )
    files, classes = found.parts[part], found.classes
    labelled = found.labelled or part in ("validation", "test")
    target = torch.tensor(files.labels, dtype=torch.int64)
    if labelled:
        check_counts(target, classes, f"the {part} part of {printable(root)}")
    size = size or default_size(found.train.paths)
    if samples is not None:
        files = files.at(range(0, len(files.paths), max(1, len(files.paths) // samples)))
        target = torch.tensor(files.labels, dtype=torch.int64)
    if cache is None:
        images, kept = read_images(files.paths, size, skip_broken=skip_broken, progress=progress)
    else:
        images, kept = read_kept(files.paths, size, cache, skip_broken=skip_broken, progress=progress, say=say)
    target = target[kept]
    if samples is None and labelled:
        check_counts(target, classes, f"the readable {part} part of {printable(root)}")
    listing = digest(size, files.at(kept).listed(root))
    return Labelled(images, target, len(classes), classes, listing)


def default_size(paths: Sequence[Path]) -> int:
    """The size that is taken where none is given, in pixels.

    Raises:
        ValueError: no file can be read.
    """
    return min(short_side(paths), LARGEST)


@dataclass(frozen=True)
class Layout:
    """What a folder holds.

    Args:
        classes: their names.
        train: all training files.
        parts: the files of every part.
        unread: files that are left out.
        labelled: whether the training images have labels; if not, each is -1.
    """

    classes: tuple[str, ...]
    train: Files
    parts: dict[Part, Files]
    unread: list[Path]
    labelled: bool = True

    def measured(self, part: Part) -> list[Path]:
        """The files that are measured on: of the part that is asked for, and of the test at the end."""
        return [*self.parts["test"].paths, *self.parts[part].paths]


def layout(root: Path) -> Layout:
    """The classes of a folder and the files of every part; no picture is opened.

    Raises:
        ValueError: as :func:`folder`.
    """
    classes, found = pictures_in(root)
    files = {kind: Files(one.paths, one.labels) for kind, one in found.items()}
    train, unread = files["train"], [path for one in found.values() for path in one.unread]
    test = files.get("test") or files.get("validation")
    if test is not None and train.labels[:1] == [-1]:
        parts: dict[Part, Files] = {"train": train, "train-without-validation": train, "test": test}
        parts |= {"validation": files["validation"]} if "test" in files and "validation" in files else {}
        return Layout(classes, train, parts, unread, labelled=False)
    if test is None:
        test, train = train.cut(TEST_SHARE, TEST_SEED)
    held = files["validation"] if "validation" in files and "test" in files else None
    return divided(classes, train, test, held, unread)


def divided(
    classes: tuple[str, ...], train: Files, test: Files, validation: Files | None = None, unread: Sequence[Path] = ()
) -> Layout:
    """The parts of training and test images; without a validation part, it is a tenth of every class to train on."""
    held, rest = train.cut(VALIDATION_SHARE, VALIDATION_SEED) if validation is None else (validation, train)
    parts: dict[Part, Files] = {
        "train": train,
        "train-without-validation": rest,
        "validation": held,
        "test": test,
    }
    return Layout(classes, train, parts, list(unread))


def check_counts(target: torch.Tensor, classes: tuple[str, ...], where: str) -> None:
    """Refuse classes without an image."""
    count = torch.bincount(target, minlength=len(classes))
    empty = [name for name, n in zip(classes, count.tolist(), strict=True) if not n]
    if empty:
        raise ValueError(f"{where} holds no image of class {printable(empty[0])!r}; give every class more images")
