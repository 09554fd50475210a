"""The rows of one pair beside the published numbers, as lines of a page: what docs/results.py shows of them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fractionate.config.method import MethodSpec
from fractionate.papers.draft import PUBLISHED_EPOCHS, lasting
from fractionate.papers.recipes import paper
from fractionate.recipes.teachers import alone_top1
from fractionate.runs.folder import SUMMARY, RunFolder
from fractionate.runs.taught import in_words

from .cifar100_table import LABELS, Entry, plan

HEAD = "| recipe | published | last epoch, mean ± std (n) | best epoch | within 2 std | seconds | hardware |"


def is_pair(study: Path) -> bool:
    """Whether a folder of rows is that of a teacher and a student."""
    return study.name.startswith("cifar100-") and "__" in study.name


def lines(study: Path) -> Iterator[str]:
    """What the students learned from and for how long, and a table with a line for every method that has rows.

    Args:
        study: folder ``cifar100-TEACHER__STUDENT`` of kept rows, or the same name with ``--`` and words behind it, for
            another teacher or another length than the published ones.
    """
    teacher, _, student = study.name.partition("--")[0].removeprefix("cifar100-").partition("__")
    rows = _rows(study)
    entries = _entries(teacher, student, rows)
    yield from _told(rows)
    yield HEAD
    yield "|---|---|---|---|---|---|---|"
    for folder in (*entries, *(folder for folder in rows if folder not in entries)):
        yield _line(entries.get(folder), folder.name, rows[folder])


def _rows(study: Path) -> dict[Path, list[dict[str, Any]]]:
    """Summaries of every method's seeds, by its folder."""
    found: dict[Path, list[dict[str, Any]]] = {}
    for file in sorted(study.glob(f"**/seed-*/{SUMMARY}")):
        found.setdefault(file.parent.parent, []).append(json.loads(file.read_text(encoding="utf-8")))
    return found


def _entries(teacher: str, student: str, rows: Mapping[Path, Sequence[dict[str, Any]]]) -> dict[Path, Entry]:
    """The recipe of every folder of rows, by its name or by its method, in the order of worth."""
    found: dict[Path, Entry] = {}
    methods = {folder: _method(folder) for folder in rows}
    for entry in plan([(teacher, student)]):
        for folder, (method, epochs) in methods.items():
            if folder in found:
                continue
            if folder.name == entry.folder or lasting(entry.run(()), epochs).method == method:
                found[folder] = entry
                break
    return found


def _method(folder: Path) -> tuple[MethodSpec, int]:
    run = RunFolder(next(f.parent for f in sorted(folder.glob(f"seed-*/{SUMMARY}")))).config()
    return run.method, run.epochs


def _told(rows: Mapping[Path, Sequence[dict[str, Any]]]) -> Iterator[str]:
    """The teacher and the length of the students, each in a sentence."""
    facts = [row for found in rows.values() for row in found]
    taught = {(row["teacher"], row.get("teacher_top1"), in_words(row.get("teacher_training"))) for row in facts}
    for name, top1, how in sorted((x for x in taught if x[0]), key=str):
        score = "" if top1 is None else f", {top1:.2f} %"
        yield f"Teacher: {name}{score}, {how or 'its file does not say how it was trained'}."
    for epochs in sorted({row["epochs"] for row in facts}):
        less = f": shortened from {PUBLISHED_EPOCHS}, so no published number is met"
        yield f"Students: {epochs} epochs{less if epochs < PUBLISHED_EPOCHS else ''}."
    yield ""


def published(entry: Entry) -> float | None:
    """The number that the entry's own source prints, else the first that another one does; in percent."""
    if entry.id == LABELS:
        return alone_top1(entry.student)
    if "#" in entry.id:
        return None
    recipe = paper(entry.id)
    own = [recipe.expected] if recipe.expected else []
    return next((n.percent for n in [*own, *recipe.numbers] if n.percent is not None), None)


def _line(entry: Entry | None, folder: str, found: Sequence[dict[str, Any]]) -> str:
    last, best = ([row[key] for row in found] for key in ("last_top1", "best_top1"))
    wanted = published(entry) if entry else None
    full = found[0]["epochs"] >= PUBLISHED_EPOCHS
    hardware = ", ".join(dict.fromkeys(row["device"] for row in found))
    seconds = statistics.mean(row["seconds"] for row in found)
    cells = (
        f"`{entry.id if entry else folder}`",
        "–" if wanted is None else f"{wanted:.2f}",
        f"**{_spread(last)}** ({len(found)})",
        _spread(best),
        _within(last, wanted) if full else "other length",
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
