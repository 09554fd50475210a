"""What docs/results.md says besides of dense tasks: further metrics, and every class with how often it occurs."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from fractionate._headlines import headline
from fractionate.report.table import Row
from fractionate.report.words import Estimate, number, spread
from fractionate.runs.folder import SUMMARY

BESIDE = {"miou": ("pixel_accuracy", "miou_published"), "ap": ("ap50", "ap75", "ap_small", "ap_medium", "ap_large")}
OF_CLASSES = {"miou": "iou", "ap": "ap"}
RARE = 1.0  # percent of the labelled pixels


# What a reader must know of kept rows that their command would not train so today.
NOTES = {
    "camvid": "DeepKD's gains as weights were trained while `optimizer.clip` bound their gradients, up to four times "
    "the size, at the norm of all others: they are to be repeated, and say little against the streams until then.",
}


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """Tables of dense tasks; nothing of others."""
    key = rows[0].headline.key
    if key not in BESIDE:
        return
    facts = {row.label: _facts(row) for row in rows}
    first = next(iter(facts.values()))[0]
    names = [name for name in BESIDE[key] if f"last_{name}" in first]
    yield ""
    yield f"| method | {' | '.join(headline(name).head for name in names)} |"
    yield "|---" * (1 + len(names)) + "|"
    for label, runs in facts.items():
        cells = (spread(Estimate(tuple(run[f"last_{name}"] for run in runs))) for name in names)
        yield f"| `{label}` | {' | '.join(cells)} |"
    yield ""
    yield from _present(first)
    yield from _classes(OF_CLASSES[key], facts, first.get("class_shares", {}))


def _present(first: dict[str, Any]) -> Iterator[str]:
    """Which classes the mean runs over, and which of them are rare."""
    absent = ", ".join(first.get("absent_classes", ()))
    yield f"Classes left out of the mean because no label of the test images names them: {absent or 'none'}."
    shares = first.get("class_shares", {})
    if rare := [f"{name} ({number(share, 2)} %)" for name, share in shares.items() if 0 < share < RARE]:
        yield f"Rare ones, with less than {RARE:g} % of the labelled pixels: {', '.join(rare)}."
    yield ""


def _classes(kind: str, facts: dict[str, list[dict[str, Any]]], shares: dict[str, float]) -> Iterator[str]:
    """The metric of every class by method, mean over the seeds."""
    first = next(iter(facts.values()))[0]
    names = [name.removeprefix(f"last_{kind}/") for name in first if name.startswith(f"last_{kind}/")]
    heads = [*(["pixels %"] if shares else []), *(f"`{label}`" for label in facts)]
    yield f"| {kind.upper() if kind == 'ap' else 'IoU'} % of | {' | '.join(heads)} |"
    yield "|---" * (1 + len(heads)) + "|"
    for name in names:
        means = [sum(run[f"last_{kind}/{name}"] for run in runs) / len(runs) for runs in facts.values()]
        cells = [*([number(shares[name], 2)] if shares else []), *(number(mean, 1) for mean in means)]
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""


def _facts(row: Row) -> list[dict[str, Any]]:
    return [json.loads((run.folder / SUMMARY).read_text(encoding="utf-8")) for run in row.group.runs]
