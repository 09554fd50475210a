"""The map of docs/results.md: which method pays at which certainty of the teacher and which length of the training.

It is read out of the records of studies (benchmarks/results/studies) and out of kept runs whose teacher's certainty
lies beside them (benchmarks/results/runs/STUDY/certainty.json); `python -m benchmarks.keep` writes both.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from dense_results import NOTES

from fractionate._headlines import Headline, headline
from fractionate.config.files import read_config
from fractionate.config.method import MethodSpec, Value
from fractionate.config.run import Network, Run
from fractionate.recipes import RECIPES
from fractionate.report import read_study
from fractionate.report.words import Difference, gap, number, paired_difference
from fractionate.runs.folder import CONFIG, SUMMARY

CERTAINTY = "certainty.json"
WEIGHTS = {"warmup", "beta", "w1", "w2", "kd_weight"}  # arguments by which recipes fit a method to a setting
REFERENCE, ALONE = "kd", "labels alone"
STREAMS = ("deepkd", "dot")
AUTO = " (auto)"
PICTURE = "results-when"  # the map as a drawing: draw_when.py
TITLE = "Difference to kd by method and by setting, from the least certain teacher to the most certain one"
HEAD = f"""## Which method when

Difference to kd in points, paired by seed, with its 95 % Student interval. Columns go from the least certain teacher to
the most certain one: its mean probability p of the label on the students' training images (pixels or objects where
those are classified), and the epochs of a student.

<picture>
<source media="(max-width: 640px)" srcset="_static/{PICTURE}-narrow.svg">
<img src="_static/{PICTURE}.svg" alt="{TITLE}">
</picture>

In the tables a difference is **bold** where its interval excludes zero; where it does not, the two cannot be told apart
by these seeds.
"""
# What the settings of a kind begin with; what begins otherwise is the last kind.
KINDS = {"CIFAR-100": ("cifar100",), "Digits": ("digits",), "Photos": ("tiny-imagenet",), "Dense": ("",)}
RATE = "optimizer.lr="


@dataclass
class Column:
    """One setting: its teacher's mean probability of the label, and the values of every method by seed."""

    where: str
    label: float
    epochs: int
    values: dict[str, dict[int, float]] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Of the data, one of ``KINDS``."""
        return next(kind for kind, names in KINDS.items() if self.where.startswith(names))

    def difference(self, name: str) -> Difference | None:
        """Of a method to kd, over the seeds that both have."""
        ours, theirs = self.values.get(name, {}), self.values[REFERENCE]
        seeds = [seed for seed in ours if seed in theirs]
        return paired_difference([ours[s] for s in seeds], [theirs[s] for s in seeds]) if seeds else None


def key(spec: MethodSpec, recipe: str = "") -> str | None:
    """Name of a method in the map; ``None`` of one with options that are no weights.

    Weights that a recipe gives the method stay unnamed, and so do those that are given where it has none of its own;
    others than the recipe's own are another row.

    Example:
        >>> key(MethodSpec.parse("dkd(beta=8)+deepkd(normalize_gain=true)"))
        'dkd+deepkd, gain normalised'
        >>> key(MethodSpec.parse("dkd(beta=8)"), "digits"), key(MethodSpec.parse("dkd(beta=1)"), "digits")
        ('dkd (beta 8)', 'dkd')
    """
    own = _own(recipe, spec.name)
    args = [pair for one in (spec, *spec.wrappers) for pair in one.args.items()]
    given = {name: value for name, value in args if name not in WEIGHTS and value != own.get(name)}
    normalised, auto = given.pop("normalize_gain", False), given.pop("weights", None) == "auto"
    if given:
        return None
    weights = [(n, x) for n, x in spec.args.items() if n != "warmup" and n in own and x != own[n]]
    told = f" ({', '.join(f'{n} {x:g}' for n, x in weights)})" if weights else ""
    return f"{spec.title}{AUTO if auto else told}{', gain normalised' if normalised else ''}"


@cache
def _own(recipe: str, method: str) -> Mapping[str, Value]:
    """The arguments that a recipe itself gives a method."""
    if recipe not in RECIPES:
        return {}
    run: Run = RECIPES[recipe].student(MethodSpec(method), Network("resnet8"))
    return run.method.args


def of_records(folder: Path) -> Iterator[Column]:
    """The settings of kept studies that compare methods with kd."""
    for file in sorted(folder.glob("*.json")):
        record = read_study(file)
        sure = {one["name"]: one["label"] for one in record.raw["teachers"]}
        found: dict[tuple[str, int, bool], Column] = {}
        for arm in record.arms:
            rated = bool(arm.changes) and all(change.startswith(RATE) for change in arm.changes)
            left_out = bool(arm.changes or arm.value) and not rated
            name = None if left_out else key(MethodSpec.parse(arm.method), record.raw["recipe"])
            place = arm.teacher, arm.epochs, rated
            where = f"{record.raw['recipe']}{_metric(record.headline)}{', rate chosen' if rated else ''}"
            column = found.setdefault(place, Column(where, sure[arm.teacher], arm.epochs))
            if name:
                column.values[name] = dict(enumerate(arm.values.values))
        yield from (column for column in found.values() if REFERENCE in column.values and len(column.values) > 2)


def _metric(metric: Headline) -> str:
    """In which metric a column is, where that is another one than the usual."""
    return "" if metric.key == "top1" else f" ({metric.label})"


def of_runs(folder: Path, recorded: set[str]) -> Iterator[Column]:
    """The settings of kept runs whose teacher's certainty was measured, those of recorded studies left out."""
    for file in sorted(folder.glob(f"*/{CERTAINTY}")):
        study = file.parent
        if study.name in recorded:
            continue
        column = Column(study.name, json.loads(file.read_text(encoding="utf-8"))["label"], 0)
        for summary in sorted(study.rglob(SUMMARY)):
            if not summary.parent.name.startswith("seed-"):
                continue
            run = read_config(summary.parent / CONFIG)
            if name := _of_run(run, summary.parent.parent, study):
                facts = json.loads(summary.read_text(encoding="utf-8"))
                column.where = study.name + _metric(headline(facts.get("headline", "top1")))
                if run.seed in column.values.setdefault(name, {}):
                    raise ValueError(f"two students of {study} are {name}, seed {run.seed}")
                column.values[name][run.seed] = facts[f"last_{facts.get('headline', 'top1')}"]
                column.epochs = run.epochs
        if REFERENCE in column.values:
            yield column


def _of_run(run: Run, folder: Path, study: Path) -> str | None:
    """Name of a kept run; of two that differ in weights alone, the one that was given some is named by them."""
    if "weights=auto" in folder.name:  # the config has the numbers that it became
        return f"{run.method.title}{AUTO}"
    name = key(run.method, study.name)
    if name is None or folder.name == name or not (study / name).is_dir():
        return name
    return f"{name} ({', '.join(f'{n} {x:g}' for n, x in run.method.args.items() if n in WEIGHTS - {'warmup'})})"


def columns(records: Path, runs: Path) -> list[Column]:
    """All settings, by the certainty of their teacher."""
    recorded = {file.stem for file in records.glob("*.json")} if records.is_dir() else set()
    found = _merged([*(of_records(records) if recorded else ()), *of_runs(runs, recorded)])
    return sorted(found, key=lambda column: (column.label, column.epochs))


def methods(columns: Sequence[Column]) -> list[str]:
    """The methods beside kd in these settings: labels alone, the losses by how often they occur, then the streams."""
    names = dict.fromkeys(name for column in columns for name in column.values if name != REFERENCE)
    often = {name: sum(name in column.values for column in columns) for name in names}

    def place(name: str) -> tuple[bool, bool, int, str]:
        streams = any(f"+{wrapper}" in name for wrapper in STREAMS)
        return name != ALONE, streams, 0 if streams else -often[name], name

    return sorted(names, key=place)


def lines(records: Path, runs: Path) -> list[str]:
    """The map as Markdown, a table for every kind of data; nothing where fewer than two settings were measured."""
    every = columns(records, runs)
    if len(every) < 2:
        return []
    found = [HEAD]
    for kind in KINDS:
        here = [column for column in every if column.kind == kind]
        heads = [f"{c.where}: p {number(c.label, 3)}, {c.epochs} epochs" for c in here]
        if here:
            found += [f"**{kind}**", "", f"| method | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
            found += [f"| `{n}` | {' | '.join(_cell(c.difference(n)) for c in here)} |" for n in methods(here)]
            notes = [
                f"{study}: {note}" for study, note in NOTES.items() if any(c.where.startswith(study) for c in here)
            ]
            found += ["", *(f"- {note}" for note in notes), ""]
    return found


def _merged(columns: list[Column]) -> list[Column]:
    """One column per setting: studies of the same recipe, teacher and length share their runs."""
    found: dict[tuple[str, float, int], Column] = {}
    for column in columns:
        first = found.setdefault((column.where, column.label, column.epochs), column)
        first.values |= {name: values for name, values in column.values.items() if name not in first.values}
    return list(found.values())


def _cell(found: Difference | None) -> str:
    if found is None:
        return "–"
    return f"**{gap(found)}**" if found.verdict in ("above", "below") else gap(found)
