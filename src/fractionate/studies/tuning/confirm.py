"""After the search: finalists with further seeds on the validation part, then fresh seeds on the test part."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...runs.folder import RunFolder
from ...runs.stop import Stopped
from ..chosen import file_name
from ..jobs import Job
from .budget import FINALISTS
from .rungs import reached, why_failed
from .search import Search
from .space import BASELINE, Draft, Setting
from .store import Tried

FRESH = 1000  # first seed of the confirmation; the search has used 0, 1 and 2
ENOUGH = 2  # seeds that give an interval


@dataclass(frozen=True)
class Finalist:
    """A setting that was trained in full, with its validation scores by seed."""

    student: Tried
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of the scores."""
        return statistics.fmean(self.scores)


def finals(search: Search) -> list[Finalist]:
    """Train the best once more with further seeds, if the budget has room; the best of the means comes first.

    Raises:
        ValueError: no student was trained in full.
    """
    whole = [t for t in search.store.tried() if search.epochs in t.scores]
    whole.sort(key=lambda t: (-t.scores[search.epochs], t.index))
    if not whole:
        raise ValueError(
            f"the search's share of --budget {search.budget} was used up before a student was trained in full; nothing "
            "is lost: the same command with a larger budget goes on"
        )
    usual = next((t for t in whole if t.usual), None)
    chosen = whole[: FINALISTS - 1]
    chosen += [usual] if usual is not None and usual not in chosen else []
    repeats = search.plan().repeats
    jobs = [_again(search, t, seed) for seed in range(1, repeats + 1) for t in chosen]
    if jobs and any(reached(job.folder, search.epochs) is None for job in jobs):
        try:
            with search.store.spending("finals", float(len(jobs))):
                search.train(jobs, search.deadline(finals=True), "finals")
        except Stopped as stopped:
            if stopped.reason != "budget":
                raise
    found = [Finalist(t, _scores(search, t, repeats)) for t in chosen]
    most = max(len(f.scores) for f in found)
    first = [f for f in found if len(f.scores) == most]  # a seed more or less would decide
    first.sort(key=lambda f: (-f.mean, f.student.index))
    return first + [f for f in found if f not in first]


def _again(search: Search, student: Tried, seed: int) -> Job:
    run = student.setting.run(search.draft, seed)
    folder = search.folder / f"{student.name}-seed-{seed}"
    return Job(f"{student.setting.label}, seed {seed}", run, folder, search.epochs)


def _scores(search: Search, student: Tried, repeats: int) -> tuple[float, ...]:
    more = [reached(_again(search, student, seed).folder, search.epochs) for seed in range(1, repeats + 1)]
    return (student.scores[search.epochs], *(found.score for found in more if found))


@dataclass(frozen=True)
class Confirmed:
    """A setting on the test part: headline by fresh seed, seconds per run, and the run folders."""

    setting: Setting
    scores: Mapping[int, float]
    seconds: float
    folders: tuple[Path, ...]


def arms(finalists: Sequence[Finalist]) -> list[Setting]:
    """The winner, kd, and the best method as it comes, each once."""
    usual = [f.student.setting for f in finalists if f.student.usual][:1]
    return list(dict.fromkeys([finalists[0].student.setting, Setting(BASELINE), *usual]))


def confirm(search: Search, settings: Sequence[Setting], draft: Draft, out: Path) -> list[Confirmed]:
    """Train settings on all training images with fresh seeds; after two seeds, as many more as the budget has room for.

    Args:
        search: what was found.
        settings: the winner first.
        draft: the recipe's run on all training images and the test part.
        out: folder of the runs.

    Raises:
        ValueError: one of them cannot be trained.
    """
    key, epochs, seeds = "confirmation", search.epochs, search.plan().seeds
    search.say(
        f"confirming {', '.join(s.label for s in settings)} on all training images and the test part, up to {seeds} "
        "fresh seeds"
    )
    done: list[int] = []
    for seed in range(FRESH, FRESH + seeds):
        jobs = [_fresh(setting, draft, seed, out, epochs) for setting in settings]
        if not all(RunFolder(job.folder).finished for job in jobs):
            if len(done) >= ENOUGH and not _room(search, key, len(done)):
                break
            with search.store.spending(f"{key} {seed}", float(len(jobs))):
                search.train(jobs, search.options, f"fresh seed {seed}")
        for job in jobs:
            if why := why_failed(job.folder):
                raise ValueError(f"{job.title} could not be trained on all training images: {why}")
        done.append(seed)
    return [_confirmed(setting, draft, done, out, epochs) for setting in settings]


def _room(search: Search, key: str, rounds: int) -> bool:
    """Whether one more round of seeds ends within a time budget."""
    if search.budget.unit == "runs":
        return True
    paid = [seconds for name, (_, seconds) in search.store.ledger.items() if name.startswith(key)]
    return search.store.seconds + sum(paid) / rounds <= search.budget.amount


def _fresh(setting: Setting, draft: Draft, seed: int, out: Path, epochs: int) -> Job:
    folder = out / file_name(setting.label.replace("'", "").replace(", ", ",")).strip("_") / f"seed-{seed}"
    return Job(f"{setting.label}, seed {seed}", setting.run(draft, seed), folder, epochs)


def _confirmed(setting: Setting, draft: Draft, seeds: Sequence[int], out: Path, epochs: int) -> Confirmed:
    folders = tuple(_fresh(setting, draft, seed, out, epochs).folder for seed in seeds)
    found = [reached(folder, epochs) for folder in folders]
    scores = {seed: f.score for seed, f in zip(seeds, found, strict=True) if f}
    return Confirmed(setting, scores, statistics.fmean(f.seconds for f in found if f), folders)
