"""Which runs may be averaged: those that differ in nothing but the seed and the folder."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from fractionate._choices import unknown
from fractionate._headlines import Headline
from fractionate.report.runs import RunRecord
from fractionate.report.summary import RunFolderError, Summary

PER_RUN = frozenset({"seed", "device", "threads", "monitors", "save_every"})
"""Top-level keys of ``config.yaml`` that may differ between runs that are averaged."""

CHECKPOINT = "teacher.checkpoint"
"""May differ too, as long as no seed repeats: a study may train a teacher per seed."""

LATER = frozenset(
    {
        *(("task.name", "classification"), ("learning_rate.power", "0.9")),
        *(("data.crop", "[]"), ("data.scale.0", "1.0"), ("data.scale.1", "1.0"), ("data.scale_step", "0.0")),
        *(("data.colour", "0.0"), ("data.multiple", "32")),
    }
)
"""Settings that configs from before do not have and that mean what they did without them, at these values."""

LABELS_ALONE = ("labels", "labels alone", "labels-alone", "labels_alone", "ce", "none", "student")
"""Method names that mean training without a teacher, the natural baseline."""

Variant = frozenset[tuple[str, str]]
Key = tuple[str, str, Variant]


@dataclass(frozen=True)
class Group:
    """Runs of one method in one setting, sorted by seed; ``label`` tells it from other groups."""

    label: str
    setting: str
    runs: tuple[RunRecord, ...]

    @property
    def summaries(self) -> tuple[Summary, ...]:
        """The summaries of the runs, in the same order."""
        return tuple(run.facts for run in self.runs)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the runs, in the same order."""
        return tuple(summary.seed for summary in self.summaries)

    @property
    def headline(self) -> Headline:
        """The metric that the runs were measured by."""
        return self.summaries[0].headline


def teacher_runs(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Runs whose weights taught other runs of another setting: the teacher's own training.

    A student that teaches another of its kind, in the same setting, is none of them. Folders are told by their last two
    names (study/teacher), because a study may have been moved since.

    Example:
        >>> teacher_runs([])
        []
    """
    pupils: dict[tuple[str, ...], set[str]] = {}
    for run in runs:
        if run.finished and run.settings.get(CHECKPOINT, "null") != "null":
            pupils.setdefault(_names(Path(run.settings[CHECKPOINT]).parent), set()).add(_setting(run.facts))
    taught = [(run, pupils.get(_names(run.folder))) for run in runs if run.finished]
    return [run for run, settings in taught if settings and _setting(run.facts) not in settings]


def _names(folder: Path) -> tuple[str, ...]:
    return folder.resolve().parts[-2:]


def group_runs(runs: Iterable[RunRecord]) -> list[Group]:
    """Group finished runs by setting (data set, student, headline where one setting has several), method, config.

    Groups keep the order in which their first run comes. Where one method occurs with several
    configs, the label names the settings that differ.

    Raises:
        RunFolderError: two runs of one group have the same seed, so they are no independent
            evidence; names both.

    Example:
        >>> group_runs([])
        []
    """
    gathered = _gather([run for run in runs if run.finished])
    variants: dict[tuple[str, str], list[Variant]] = {}
    for setting, method, variant in gathered:
        variants.setdefault((setting, method), []).append(variant)
    groups = []
    for (setting, method, variant), members in gathered.items():
        label = method + _difference(variant, variants[setting, method])
        members.sort(key=lambda run: run.facts.seed)
        _refuse_twins(label, members)
        groups.append(Group(label, setting, tuple(members)))
    return groups


def _gather(runs: Sequence[RunRecord]) -> dict[Key, list[RunRecord]]:
    """Finished runs by setting, method and config; teachers are told apart only where seeds repeat."""
    by_setting: dict[str, set[str]] = {}
    for run in runs:
        by_setting.setdefault(_setting(run.facts), set()).add(run.facts.headline.key)
    apart = {setting for setting, headlines in by_setting.items() if len(headlines) > 1}
    coarse: dict[Key, list[RunRecord]] = {}
    for run in runs:
        coarse.setdefault(_key(run, {CHECKPOINT}, apart), []).append(run)
    gathered: dict[Key, list[RunRecord]] = {}
    for key, members in coarse.items():
        seeds = {run.facts.seed for run in members}
        for run in members:
            exact = key if len(seeds) == len(members) else _key(run, set(), apart)
            gathered.setdefault(exact, []).append(run)
    return gathered


def _key(run: RunRecord, free: Set[str], apart: Set[str] = frozenset()) -> Key:
    """Setting, method, and the config without what may differ from seed to seed.

    Settings in ``apart`` were measured by several headlines: only runs of one headline can be compared.
    """
    variant = frozenset(
        (path, value)
        for path, value in run.settings.items()
        if path.split(".")[0] not in PER_RUN and path not in free and (path, value) not in LATER
    )
    setting = _setting(run.facts)
    if setting in apart:
        setting = f"{setting} · {run.facts.headline.label}".removeprefix(" · ")
    return setting, run.facts.method, variant


def _setting(summary: Summary) -> str:
    return " · ".join(part for part in (summary.dataset, summary.student) if part)


def _difference(settings: Variant, variants: Sequence[Variant]) -> str:
    """`` (alpha: 2)`` where a method has several configs, nothing where it has one."""
    if len(variants) == 1:
        return ""
    own = sorted(settings - frozenset.intersection(*variants))
    if all(value == "{}" for _, value in own):  # nothing was given where the others were given something
        return " (defaults)"
    words = [f"{path.rsplit('.', 1)[-1]}: {value}" for path, value in own]
    return f" ({', '.join(words[:3])}{', ...' if len(words) > 3 else ''})"


def _refuse_twins(label: str, members: Sequence[RunRecord]) -> None:
    for first, second in itertools.pairwise(members):
        if first.facts.seed == second.facts.seed:
            seed = f"seed {first.facts.seed} of {label}"
            why = f"repeats {seed} in {first.folder}: leave one of the two out"
            raise RunFolderError(second.folder, None, why)


def choose_baselines(groups: Sequence[Group], baseline: str | None) -> dict[str, Group]:
    """Setting -> the group that its others are compared with; a lone group has nothing to compare.

    Unless named: the method called labels (or ce, none, ...), else kd, else the first; of several variants of it the
    one whose settings differ least from the others'.

    Raises:
        ValueError: no group has the label ``baseline``; names the nearest.

    Example:
        >>> both = [Group("kd", "digits", ()), Group("labels", "digits", ())]
        >>> choose_baselines(both, None)["digits"].label
        'labels'
    """
    labels = [group.label for group in groups]
    if baseline is not None:
        if baseline not in labels:
            raise ValueError(unknown("baseline", baseline, dict.fromkeys(labels)))
        return {group.setting: group for group in groups if group.label == baseline}
    by_setting: dict[str, list[Group]] = {}
    for group in groups:
        by_setting.setdefault(group.setting, []).append(group)
    return {setting: _natural(members) for setting, members in by_setting.items() if len(members) > 1}


def _natural(groups: Sequence[Group]) -> Group:
    """The one that others are compared with where nobody says which."""
    order = (*LABELS_ALONE, "kd")
    place = {group.label: _place(group.label.partition(" (")[0], order) for group in groups}
    first = min(place.values())

    def apart(group: Group) -> int:
        return sum(len(_given(group) ^ _given(other)) for other in groups)

    return min((group for group in groups if place[group.label] == first), key=apart)


def _place(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def _given(group: Group) -> frozenset[tuple[str, str]]:
    """The settings of a group's first run, but for its method."""
    found = group.runs[0].settings.items() if group.runs else ()
    return frozenset((path, value) for path, value in found if not path.startswith("method"))
