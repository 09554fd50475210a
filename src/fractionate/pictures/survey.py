"""What lies in a folder of images, in seconds: lists of files and the heads of a few, nothing is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .._files import expanded
from .._terminal import in_bytes
from .heads import LARGEST, memory, need_pillow, printable, side_of, told_groups, told_unread
from .layout import TEST_SHARE, Found
from .names import Kind
from .repeats import told_repeated
from .shards import pictures_in

SAMPLES = 64  # pictures whose heads are read
NEEDED = 2  # copies of all images while they are loaded: the training set makes one with borders


@dataclass(frozen=True)
class Survey:
    """Facts about a folder of images, before anything of it is read.

    Args:
        root: the folder.
        classes: names of the classes.
        train: training images of every class; one number where they have no labels.
        test: images of the test part.
        sides: smallest, middle and largest shorter side of the pictures that were looked at, in pixels.
        sampled: how many were looked at.
        unreadable: those of them that are damaged.
        size: at which size the pictures will be taken, in pixels.
        nbytes: memory that loading them needs.
        available: memory that this process may use; ``None`` where the system does not say.
        left_out: in words, which files are not read; empty where there is none.
        grouped: in words, which classes consist of several folders; empty where there is none.
        validation: in words, a validation part beside the test part; empty where there is none.
        repeated: in words, pictures of the test part that are training images as well; empty where there is none.
    """

    root: Path
    classes: tuple[str, ...]
    train: tuple[int, ...]
    test: int
    sides: tuple[int, int, int]
    sampled: int
    unreadable: tuple[Path, ...]
    size: int
    nbytes: int
    available: int | None
    left_out: str
    grouped: str = ""
    validation: str = ""
    repeated: str = ""

    @property
    def count(self) -> int:
        """All pictures."""
        return sum(self.train) + self.test

    @property
    def fits(self) -> bool:
        """Whether the pictures can be loaded at this size."""
        return self.available is None or self.nbytes <= self.available

    def __str__(self) -> str:
        low, _, high = self.sides
        span = f"{low} to {high}" if low < high else f"{low}"
        how = "" if len(self.train) == len(self.classes) else " without labels"
        return (
            f"{self.count:,} pictures of {len(self.classes)} classes ({sum(self.train):,} to train on{how}, "
            f"{self.test:,} to test), {span} pixels, taken at {self.size} x {self.size}: {in_bytes(self.nbytes)}"
        )


def survey(root: Path, size: int | None = None, *, largest: int = LARGEST, samples: int = SAMPLES) -> Survey:
    """Look at a folder of images without reading it.

    Args:
        root: the folder, as that of :func:`fractionate.data.folder`.
        size: at which the pictures shall be taken; ``None`` takes the middle one of their shorter sides.
        largest: bounds that: what the networks are made for.
        samples: how many pictures, evenly spread, have their heads read.

    Raises:
        ValueError: as :func:`fractionate.data.folder`, but for pictures that cannot be read: those are counted, unless
            all are such.
        ImportError: Pillow is not installed.
    """
    need_pillow()
    root = expanded(root)
    classes, found = pictures_in(root)
    count = Counter(found["train"].labels)
    train = [count[-1]] if count[-1] else [count[label] for label in range(len(classes))]
    if not count[-1]:
        _check_counts(train, classes, root)
    if held := found.get("test") or found.get("validation"):
        test, paths = len(held.paths), [*found["train"].paths, *held.paths]
    else:
        cut = [round(TEST_SHARE * n) for n in train]
        test, paths = sum(cut), found["train"].paths
        train = [n - m for n, m in zip(train, cut, strict=True)]
    sides, unreadable = _sides(paths, samples)
    chosen = size or min(sides[len(sides) // 2], largest, LARGEST)
    return Survey(
        root=root,
        classes=classes,
        train=tuple(train),
        test=test,
        sides=(sides[0], sides[len(sides) // 2], sides[-1]),
        sampled=len(sides) + len(unreadable),
        unreadable=tuple(unreadable),
        size=chosen,
        nbytes=NEEDED * 3 * chosen**2 * len(paths),
        available=memory(),
        left_out=_left_out(found.values()),
        grouped=_grouped(found["train"], classes),
        validation=_aside(found),
        repeated=told_repeated(found["train"].paths, held.paths if held else []),
    )


def _left_out(found: Iterable[Found]) -> str:
    return told_unread(path for one in found for path in one.unread)


def _aside(found: Mapping[Kind, Found]) -> str:
    """A validation part that lies beside a test part, and what it is used for."""
    if "test" not in found or "validation" not in found:
        return ""
    held, measured = found["validation"], printable(found["test"].root.name)
    return (
        f"accuracy is measured on {measured}/; {printable(held.root.name)}/ ({len(held.paths):,} pictures) is used "
        f"only where settings are searched (fractionate tune) and with data.evaluate_on=validation"
    )


def _grouped(found: Found, classes: Sequence[str]) -> str:
    """Classes all of whose pictures lie in folders of their own, as animals/cat and animals/dog."""
    inner: dict[int, set[str]] = {}
    for path, label in zip(found.paths, found.labels, strict=True):
        below = path.relative_to(found.root).parts[1:-1]
        inner.setdefault(label, set()).add(below[0] if below else "")
    return told_groups(
        {classes[k]: sorted(names) for k, names in inner.items() if k >= 0 and len(names) > 1 and "" not in names}
    )


def _check_counts(count: Sequence[int], classes: Sequence[str], root: Path) -> None:
    empty = [name for name, n in zip(classes, count, strict=True) if not n]
    if empty:
        where = f"the train part of {printable(root)}"
        raise ValueError(f"{where} holds no image of class {printable(empty[0])!r}; give every class more images")


def _sides(paths: Sequence[Path], samples: int) -> tuple[list[int], list[Path]]:
    """Shorter sides of some pictures, sorted; and those that cannot be opened."""
    step = max(1, len(paths) // samples)
    sides: Counter[int] = Counter()
    unreadable: list[Path] = []
    for path in paths[::step]:
        try:
            sides[side_of(path)] += 1
        except ValueError:
            unreadable.append(path)
    if not sides:
        raise ValueError(f"none of {len(unreadable)} pictures that were looked at can be read, as {unreadable[0]}")
    return sorted(sides.elements()), unreadable
