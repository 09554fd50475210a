"""The rows of one pair beside the published numbers, as lines of a page: what docs/results.py shows of them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fractionate.papers.recipes import paper
from fractionate.recipes.teachers import alone_top1
from fractionate.runs.folder import SUMMARY

from .cifar100_table import LABELS, Entry, plan

HEAD = "| recipe | published | last epoch, mean ± std (n) | best epoch | within 2 std | seconds | hardware |"


def is_pair(study: Path) -> bool:
    """Whether a folder of rows is that of a teacher and a student."""
    return study.name.startswith("cifar100-") and "__" in study.name


def lines(study: Path) -> Iterator[str]:
    """A table with a line for every recipe that has rows.

    Args:
        study: folder ``cifar100-TEACHER__STUDENT`` of kept rows.
    """
    teacher, _, student = study.name.removeprefix("cifar100-").partition("__")
    yield HEAD
    yield "|---|---|---|---|---|---|---|"
    for entry in plan([(teacher, student)]):
        found = [json.loads(f.read_text()) for f in sorted((study / entry.folder).glob(f"seed-*/{SUMMARY}"))]
        if found:
            yield _line(entry, found)


def published(entry: Entry) -> float | None:
    """The number that the entry's own source prints, else the first that another one does; in percent."""
    if entry.id == LABELS:
        return alone_top1(entry.student)
    if "#" in entry.id:
        return None
    recipe = paper(entry.id)
    own = [recipe.expected] if recipe.expected else []
    return next((n.percent for n in [*own, *recipe.numbers] if n.percent is not None), None)


def _line(entry: Entry, found: Sequence[dict[str, Any]]) -> str:
    last, best = ([row[key] for row in found] for key in ("last_top1", "best_top1"))
    wanted = published(entry)
    hardware = ", ".join(dict.fromkeys(row["device"] for row in found))
    seconds = statistics.mean(row["seconds"] for row in found)
    cells = (
        f"`{entry.id}`",
        "–" if wanted is None else f"{wanted:.2f}",
        f"**{_spread(last)}** ({len(found)})",
        _spread(best),
        _within(last, wanted),
        f"{seconds:.0f}",
        hardware,
    )
    return f"| {' | '.join(cells)} |"


def _spread(values: Sequence[float]) -> str:
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def _within(values: Sequence[float], wanted: float | None) -> str:
    if wanted is None:
        return "–"
    if len(values) < 2:
        return "one seed"
    gap = statistics.mean(values) - wanted
    return "yes" if abs(gap) <= 2 * statistics.stdev(values) else f"no ({gap:+.2f})"
