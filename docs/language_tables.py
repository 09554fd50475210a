"""Write the measured tables of docs/language-models.md from their CSVs: python docs/language_tables.py

The study of `python -m benchmarks.text`, and the costs of `python -m benchmarks.linear --beside`.
"""

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from benchmarks.text import LABELS, METHODS, RESULTS, Row, chosen, read  # noqa: E402
from generate import table  # noqa: E402

from fractionate.report.words import Estimate, gap, paired_difference, spread  # noqa: E402

PAGE = ROOT / "docs" / "language-models.md"
TEXT, COSTS = RESULTS / "text.csv", RESULTS / "linear.csv"
MARK = "<!-- {}: written by `python docs/language_tables.py`, checked by a test -->"
END = "<!-- end of {} -->"


def page(text: str, rows: Sequence[Row] | None = None, costs: Sequence[dict[str, str]] | None = None) -> str:
    """The page's text with the current tables between their marks."""
    found = {
        "study": study(read(TEXT) if rows is None else rows),
        "costs": costs_table(measured() if costs is None else costs),
    }
    for name, lines in found.items():
        before, _, rest = text.partition(MARK.format(name))
        _, _, after = rest.partition(END.format(name))
        text = "\n".join([f"{before}{MARK.format(name)}", "", *lines, "", f"{END.format(name)}{after}"])
    return text


def measured() -> list[dict[str, str]]:
    """The newest row of every contender of every case."""
    with COSTS.open(newline="", encoding="utf-8") as file:
        return list({(row["case"], row["contender"]): row for row in csv.DictReader(file)}.values())


def study(rows: Sequence[Row]) -> Iterator[str]:
    """What was trained, a line for every method that has a row, and what can be said."""
    teacher = next(row for row in rows if row.method == "teacher")
    students = [row for row in rows if row.method != "teacher"]
    steps = ", ".join(f"{n:,}" for n in sorted({row.steps for row in students}))
    yield f"Text `{teacher.text}` of Python {teacher.python}; torch {teacher.torch}, {teacher.machine}. Teacher: "
    yield f"{teacher.params:,} parameters, {teacher.steps:,} steps, {teacher.test_loss:.3f} nats per byte (test)."
    yield f"Students: {students[0].params:,} parameters, {steps} steps."
    yield ""
    alone = {row.seed: row for row in students if row.method == LABELS}
    yield from table(
        HEAD, [_line(name, students, alone) for name in (LABELS, *METHODS) if _of(name, students)]
    ).splitlines()
    if missing := [name for name in METHODS if len(_of(name, students)) < len(alone)]:
        yield ""
        yield f"Not finished: {', '.join(missing)} (the command goes on); one seed has no interval."


HEAD = [
    "method",
    "weight of the labels",
    "seeds",
    "validation, nats",
    "test, nats",
    "against labels alone",
    "best byte is the teacher's, %",
]


def _of(name: str, rows: Sequence[Row]) -> list[Row]:
    """The rows of a method with the weight that the validation part has chosen, by seed."""
    found = [row for row in rows if row.method == name]
    if not found or name == LABELS:
        return found
    weight = chosen(found, name)
    return sorted((row for row in found if row.ce_weight == weight), key=lambda row: row.seed)


def _line(name: str, rows: Sequence[Row], alone: dict[int, Row]) -> list[str]:
    found = _of(name, rows)
    pairs = [(row.test_loss, alone[row.seed].test_loss) for row in found if row.seed in alone and name != LABELS]
    difference = paired_difference(*map(list, zip(*pairs, strict=True))) if pairs else None
    validation, test = (
        Estimate(tuple(getattr(row, f"{part}_loss") for row in found)) for part in ("validation", "test")
    )
    agreed = Estimate(tuple(row.test_agreement or 0.0 for row in found))
    return [
        f"`{name}`",
        f"{found[0].ce_weight:g}",
        str(len(found)),
        spread(validation, 3),
        f"**{spread(test, 3)}**",
        gap(difference, 3),
        spread(agreed, 1),
    ]


def costs_table(rows: Sequence[dict[str, str]]) -> Iterator[str]:
    """Memory and time of every contender, a column pair per direction."""
    cases = list(dict.fromkeys(row["case"] for row in rows))
    contenders = list(dict.fromkeys(row["contender"] for row in rows))
    by = {(row["case"], row["contender"]): row for row in rows}
    directions = [case.partition(",")[0] for case in cases]
    sizes = cases[0].partition(", ")[2].rpartition(",")[0]
    yield f"{sizes}; torch {rows[0]['torch']}, {rows[0]['threads']} thread, CPU time."
    yield ""
    head = ["", *(f"{name}: {what}" for name in directions for what in ("tensors", "seconds"))]
    lines = [[who, *(cell for case in cases for cell in _cells(by.get((case, who))))] for who in contenders]
    yield from table(head, lines).splitlines()


def _cells(row: dict[str, str] | None) -> tuple[str, str]:
    if row is None:
        return "not measured", "not measured"
    return f"{float(row['ratio']):.2f}", f"{float(row['milliseconds']) / 1e3:.2f}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
