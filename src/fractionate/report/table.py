"""Runs -> one row per method: last epoch first, everything with its number of seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fractionate._headlines import Headline
from fractionate._terminal import one_line
from fractionate.report.groups import PER_RUN, Group, choose_baselines, group_runs, teacher_runs
from fractionate.report.runs import RunRecord
from fractionate.report.summary import Summary
from fractionate.report.weights import Weights, uncontrolled
from fractionate.report.words import Difference, Estimate, number, paired_difference

T = TypeVar("T")
# Settings that belong to a method, or have a note or a column of their own, or change no number.
OF_THE_METHOD = ("method", "teacher", "compile_teacher", "monitors", "data.strong", "merge")
ELSEWHERE = frozenset({"epochs", "data.root"})
SHOWN = 4


@dataclass(frozen=True)
class Row:
    """One method: an `Estimate` over the seeds of ``group`` for everything that was recorded.

    ``last`` is the `headline` on test data after the last epoch and ``best`` that of the best one;
    ``difference`` compares ``last`` with the baseline by seed (None for the baseline itself, without
    a baseline, or without a common seed). ``params`` counts the student's parameters; None where
    the runs disagree or did not say. ``seconds`` leaves out runs whose gradients were watched, unless all were.
    """

    group: Group
    last: Estimate
    best: Estimate | None
    difference: Difference | None
    is_baseline: bool
    params: int | None
    teacher_params: int | None
    agreement: Estimate | None
    ece: Estimate | None
    seconds: Estimate | None
    backward_passes: float | None

    @property
    def label(self) -> str:
        """The method, with what tells it from its variants."""
        return self.group.label

    @property
    def headline(self) -> Headline:
        """The metric of ``last`` and ``best``."""
        return self.group.headline

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.group.runs)

    @property
    def weights(self) -> Weights | None:
        """What its momenta made of its weights; None where the first run does not say."""
        return self.group.summaries[0].weights


@dataclass(frozen=True)
class Table:
    """The rows of all methods and what was left out.

    ``unfinished`` are runs without ``summary.json``: named, never counted. ``notes`` say in plain
    sentences what a reader should know before comparing rows.
    """

    rows: tuple[Row, ...]
    unfinished: tuple[RunRecord, ...]
    notes: tuple[str, ...]

    @property
    def settings(self) -> dict[str, tuple[Row, ...]]:
        """Rows by setting (data set and student); only rows of one setting are comparable."""
        names = dict.fromkeys(row.group.setting for row in self.rows)
        return {s: tuple(r for r in self.rows if r.group.setting == s) for s in names}


@dataclass(frozen=True)
class Teacher:
    """One teacher that rows name; ``score``, its headline, has one value per seed where teachers differ by seed."""

    name: str
    params: int | None
    score: Estimate | None


def teachers(rows: Iterable[Row]) -> list[Teacher]:
    """Every teacher that the rows learnt from, each once.

    Example:
        >>> teachers([])
        []
    """
    found: list[tuple[tuple[str, int | None], dict[int, float]]] = []
    for row in rows:
        for key, ours in _taught(row).items():
            alike = (one for k, one in found if k == key and all(one.get(s, x) == x for s, x in ours.items()))
            if (there := next(alike, None)) is not None:
                there.update(ours)
            else:
                found.append((key, ours))
    result = []
    for (name, params), by_seed in found:
        values = tuple(by_seed.values())
        same = len(set(values)) == 1
        score = Estimate(values[:1] if same else values) if values else None
        result.append(Teacher(name, params, score))
    return result


def _taught(row: Row) -> dict[tuple[str, int | None], dict[int, float]]:
    """Name and size of a row's teachers, with the score of each by seed; rows that disagree learnt from two."""
    found: dict[tuple[str, int | None], dict[int, float]] = {}
    for facts in row.group.summaries:
        if facts.teacher_params is not None or facts.teacher_last is not None:
            by_seed = found.setdefault((facts.teacher or "", facts.teacher_params), {})
            if facts.teacher_last is not None:
                by_seed[facts.seed] = facts.teacher_last
    return found


def table(runs: Iterable[RunRecord], baseline: str | None = None) -> Table:
    """Summarize runs: per method the mean and sample standard deviation over seeds.

    Args:
        runs: what `read_runs` returned.
        baseline: label of the method to compare with; by default the one that learns from labels
            alone, else ``kd``, else the first.

    Returns:
        Rows with the baseline first, then in the order of the runs.

    Raises:
        ValueError: an unknown baseline, or one seed twice in one method.

    Example:
        >>> table([]).rows
        ()
    """
    runs = list(runs)
    taught = teacher_runs(runs)
    groups = group_runs(run for run in runs if run not in taught)
    references = choose_baselines(groups, baseline)
    rows = [row_of(group, references.get(group.setting)) for group in groups]
    rows.sort(key=lambda row: not row.is_baseline)
    unfinished = tuple(run for run in runs if not run.finished)
    return Table(tuple(rows), unfinished, tuple(_notes(rows, taught)))


def without_control(rows: Iterable[Row]) -> list[str]:
    """Labels of the rows in DeepKD's or DOT's streams beside which no control stands, where momentum weighs anything.

    Example:
        >>> without_control([])
        []
    """
    rows = list(rows)
    still = {row.label for row in rows if row.weights is not None and not row.weights.moved}
    found = uncontrolled([(row.label, row.group.summaries[0].method, row.group.runs[0].settings) for row in rows])
    return [label for label in found if label not in still]


def row_of(group: Group, reference: Group | None) -> Row:
    """The row of one group of runs, compared with another one."""
    facts = group.summaries
    undisturbed = [facts[i] for i, run in enumerate(group.runs) if not run.watched]
    return Row(
        group=group,
        last=Estimate(tuple(s.last for s in facts)),
        best=_estimate(facts, lambda s: s.best),
        difference=None if reference is None or reference is group else _difference(group, reference),
        is_baseline=group is reference,
        params=_common(s.params for s in facts),
        teacher_params=_common(s.teacher_params for s in facts),
        agreement=_estimate(facts, lambda s: s.agreement),
        ece=_estimate(facts, lambda s: s.ece),
        seconds=_estimate(undisturbed or facts, lambda s: s.seconds),
        backward_passes=_common(s.backward_passes for s in facts),
    )


def _difference(group: Group, reference: Group) -> Difference | None:
    ours = {s.seed: s.last for s in group.summaries}
    theirs = {s.seed: s.last for s in reference.summaries}
    seeds = [seed for seed in ours if seed in theirs]
    if not seeds:
        return None
    return paired_difference([ours[s] for s in seeds], [theirs[s] for s in seeds])


def _estimate(facts: Sequence[Summary], of: Callable[[Summary], float | None]) -> Estimate | None:
    """None unless every seed recorded the quantity: a mean over some seeds would mislead."""
    values = [of(s) for s in facts]
    known = tuple(value for value in values if value is not None)
    return Estimate(known) if known and len(known) == len(values) else None


def _common(values: Iterable[T | None]) -> T | None:
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None


def _notes(rows: Sequence[Row], taught: Sequence[RunRecord]) -> Iterable[str]:
    for run in taught:
        yield f"The run {one_line(run.folder.name)} trained the teacher; it is not one of the rows."
    watched = {run.watched for row in rows for run in row.group.runs}
    if len(watched) > 1:
        yield "Seconds leave out the runs whose streams were watched: watching takes backward passes of its own."
    for row in rows:
        if not all(map(math.isfinite, row.last.values)):
            yield f"{row.label}: a run ended without a finite {row.headline.name}, so it has no mean."
        if row.difference and len(row.difference.values) < row.n:
            paired = len(row.difference.values)
            yield f"{row.label}: only {paired} of {row.n} seeds also exist for the baseline."
    for setting in dict.fromkeys(row.group.setting for row in rows):
        here = [row for row in rows if row.group.setting == setting]
        for what, of in (("number of epochs", _epochs), ("teacher", _teacher)):
            found: dict[object, list[str]] = {}
            for row in here:
                for value in dict.fromkeys(map(of, row.group.summaries)):
                    found.setdefault(value, []).append(row.label)
            found.pop(None, None)
            if len(found) > 1:
                yield f"The {what} differs between rows: {_listed(found)}."
        known = teachers(here)
        for name in dict.fromkeys(one.name for one in known):
            scores = [number(one.score.mean) for one in known if one.name == name and one.score]
            if len(scores) > 1:
                metric = here[0].headline
                yield f"Rows learnt from {len(scores)} teachers {name}: {', '.join(scores)} {metric.label}."
        yield from _ahead(here)
        yield from _measured_apart(here)
        yield from _mixed(here)


NONE = ("0", "0.0", "null")


def _ahead(rows: Sequence[Row]) -> Iterable[str]:
    """Rates meant something else before schema 1: a cosine ended its last epoch at 0, an epoch ahead of today's."""
    old: dict[bool, list[str]] = {True: [], False: []}
    for row in rows:
        for run in row.group.runs:
            if run.settings.get("learning_rate.schedule") == "cosine":
                early = run.facts.schema == 0 and run.settings.get("learning_rate.minimum", "0") in NONE
                if row.label not in old[early]:
                    old[early].append(row.label)
    if all(old.values()):
        yield (
            f"The cosine of the learning rate was an epoch ahead before schema 1, its last epoch at rate 0: so it was "
            f"in {', '.join(old[True])}, and not in {', '.join(old[False])}. Compare runs of one release."
        )


def _measured_apart(rows: Sequence[Row]) -> Iterable[str]:
    """Runs of one seed whose test images were others: of folders that grew or changed between them."""
    seen: dict[int, dict[str, list[str]]] = {}
    for row in rows:
        for one in row.group.summaries:
            if one.measured_on is not None:
                seen.setdefault(one.seed, {}).setdefault(one.measured_on, []).append(row.label)
    if apart := next((found for found in seen.values() if len(found) > 1), None):
        sides = " and ".join(", ".join(labels) for labels in apart.values())
        yield f"The test images of {sides} are not the same: their difference may come from the images alone."


def _mixed(rows: Sequence[Row]) -> Iterable[str]:
    """Settings besides the method that the rows of one table do not share."""
    found: dict[str, dict[object, list[str]]] = {}
    for row in rows:
        for path, value in row.group.runs[0].settings.items():
            if not path.startswith(OF_THE_METHOD) and path not in PER_RUN | ELSEWHERE:
                found.setdefault(path, {}).setdefault(value, []).append(row.label)
    differing = [f"{path}: {_listed(values)}" for path, values in found.items() if len(values) > 1]
    if differing:
        more = f" And {len(differing) - SHOWN} more." if len(differing) > SHOWN else ""
        yield f"Rows differ in more than the method. {'. '.join(differing[:SHOWN])}.{more}"


def _listed(found: Mapping[object, Sequence[str]]) -> str:
    return "; ".join(f"{value} in {', '.join(labels)}" for value, labels in found.items())


def _epochs(summary: Summary) -> object:
    return summary.epochs


def _teacher(summary: Summary) -> object:
    return summary.teacher
