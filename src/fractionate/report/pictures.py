"""Small pictures that a run has left in its folder, as parts of a page."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fractionate._terminal import one_line
from fractionate.report.table import Row

FOLDER, LEGEND = "pictures", "legend.json"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST, LARGEST, LONGEST = 3, 2_000_000, 100_000  # pictures of a run, and bytes of one and of the legend
COLOUR = re.compile(r"#[0-9a-f]{6}")


@dataclass(frozen=True)
class Strip:
    """The pictures of one row's first run, side by side in each: ``parts`` says what."""

    label: str
    parts: str
    images: tuple[str, ...]


@dataclass(frozen=True)
class Gallery:
    """The pictures of all rows, and the colours of the classes."""

    strips: tuple[Strip, ...]
    colours: tuple[tuple[str, str], ...]


def gallery(rows: Sequence[Row]) -> Gallery | None:
    """What the first runs of the rows have left; ``None`` if nothing. Files that are no pictures are passed over."""
    strips: list[Strip] = []
    colours: dict[str, str] = {}
    for row in rows:
        folder = row.group.runs[0].folder / FOLDER
        images = tuple(image for file in sorted(folder.glob("*.png"))[:MOST] if (image := _embedded(file)))
        if images:
            parts, known = _legend(folder / LEGEND)
            strips.append(Strip(row.label, parts, images))
            colours |= known
    return Gallery(tuple(strips), tuple(colours.items())) if strips else None


def _embedded(file: Path) -> str:
    if not file.is_file() or file.stat().st_size > LARGEST:
        return ""
    content = file.read_bytes()
    return f"data:image/png;base64,{base64.b64encode(content).decode()}" if content.startswith(SIGNATURE) else ""


def _legend(file: Path) -> tuple[str, dict[str, str]]:
    """What the parts of a picture are, and the colour of every class; nothing where the file does not say it."""
    try:
        if file.stat().st_size > LONGEST:
            return "", {}
        said = json.loads(file.read_text(encoding="utf-8"))
        parts, colours = said["parts"], said["colours"]
        known = {one_line(name): tone for name, tone in colours.items() if COLOUR.fullmatch(tone)}
        return ", ".join(one_line(part) for part in parts), known
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", {}
