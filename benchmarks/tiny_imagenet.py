"""The part of Tiny-ImageNet that the studies ``photos`` and ``transformer`` are made for: 50 classes, 150 images each.

    python -m benchmarks.tiny_imagenet tiny-imagenet-200.zip data/tiny-imagenet-50

takes the archive, unpacked or not, or another part of it. Of its 200 classes, in the order of their WordNet numbers,
every second one is taken, the first 50 of those, and of each the 150 training images of the lowest numbers and all
images of ``val``; of a source with other numbers of classes the first 50. It prints how many of each were copied.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fractionate.data import layout_of
from fractionate.data.folder import Layout

CLASSES, IMAGES, WHOLE = 50, 150, 200


def part_of(source: Path, out: Path, classes: int = CLASSES, images: int = IMAGES) -> dict[str, int]:
    """Copy a part of Tiny-ImageNet.

    Args:
        source: its folder, or the zip file.
        out: folder that is made; files that are there already stay.
        classes: how many.
        images: training images of each, at most.

    Returns:
        How many files of ``train`` and ``val`` lie there.

    Raises:
        ValueError: a source that is not Tiny-ImageNet or holds fewer classes, or a folder with other classes in it.
    """
    with unpacked(source) as folder:
        found = layout_of("tiny-imagenet", folder)
        names = found.classes[::2] if len(found.classes) == WHOLE else found.classes
        if len(names) < classes:
            raise ValueError(f"{source} holds {len(names)} classes to choose from, and {classes} are wanted")
        chosen = names[:classes]
        if out.is_dir() and (other := {f.name for f in (out / "train").glob("*")} - set(chosen)):
            raise ValueError(f"{out} holds other classes already ({sorted(other)[0]}): name another folder")
        return {"train": _copied(found, "train", chosen, out, images), "val": _copied(found, "test", chosen, out, None)}


def _copied(found: Layout, part: str, chosen: tuple[str, ...], out: Path, most: int | None) -> int:
    files, place = found.parts[part], out / ("train" if part == "train" else "val")  # type: ignore[index]
    count = 0
    for name in chosen:
        number = found.classes.index(name)
        paths = sorted((p for p, label in zip(files.paths, files.labels, strict=True) if label == number), key=_order)
        (place / name).mkdir(parents=True, exist_ok=True)
        for path in paths[:most]:
            if not (there := place / name / path.name).exists():
                shutil.copyfile(path, there)
        count += len(paths[:most])
    return count


def _order(path: Path) -> int:
    """The number of an image, the last one in its name."""
    return int(re.findall(r"\d+", path.stem)[-1])


@contextmanager
def unpacked(source: Path) -> Iterator[Path]:
    """The folder itself, or a temporary one with what a zip file holds."""
    if source.is_dir():
        yield source
        return
    with tempfile.TemporaryDirectory() as place:
        shutil.unpack_archive(source, place, "zip")
        yield Path(place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--classes", type=int, default=CLASSES)
    parser.add_argument("--images", type=int, default=IMAGES)
    words = parser.parse_args()
    try:
        counts = part_of(words.source, words.out, words.classes, words.images)
    except (ValueError, OSError, shutil.ReadError) as error:
        raise SystemExit(f"{error}") from None
    print(f"{words.out}: {words.classes} classes, {counts['train']} training images, {counts['val']} images of val")


if __name__ == "__main__":
    main()
