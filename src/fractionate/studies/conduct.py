"""A study from its plan to its page: validation chooses, the test part confirms, and every run can be resumed."""

from __future__ import annotations

import json
import math
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._files import write_atomically
from .._headlines import headline, headline_of
from .._terminal import in_time
from ..report.summary import read_summary
from ..runs.folder import SUMMARY, RunFolder
from .certainty import certainty, knowledge
from .display import display
from .jobs import Job, Options, run_jobs
from .pace import paced
from .plan import Arm, Study
from .sides import TUNING, Setting, Side
from .teachers import Foretold
from .units import Unit, said, together
from .usual import refuse_taken

if TYPE_CHECKING:
    from rich.console import Console

# Fields that a user cannot change, and what to write in their place.
OWN = {
    "seed": "--seeds N gives their number",
    "epochs": "--epochs N",
    "method": "",
    "teacher": "--teacher-epochs N changes its length, --on RECIPE the networks",
    "data.evaluate_on": "it chooses on the validation part and confirms on the test part",
}
RECORD, PAGE, VALIDATION = "study.json", "report.html", "validation"


@dataclass(frozen=True)
class Choice:
    """What validation chose for an arm: the value, and the headline of every seed of every value."""

    value: str = ""
    tried: Mapping[str, Sequence[float]] | None = None


@dataclass(frozen=True)
class Conductor:
    """Where a study writes, and how its runs are trained."""

    study: Study
    setting: Setting
    out: Path
    console: Console
    options: Options
    workers: int = 1

    def __call__(self) -> Path:
        """Train what is missing, and write the page.

        Raises:
            ValueError: settings that do not fit, or a folder that holds other runs.
        """
        from ..report import print_study, write_study

        self._check()
        started, seeds = time.perf_counter(), self.setting.seeds or self.study.seeds
        tuned, side = self._side(validation=True), self._side(validation=False)
        self._foretell(tuned, side, seeds)
        self._teach(tuned, side)
        choices = self._choices(tuned)
        side.chosen.update({name: choice.value for name, choice in choices.items()})
        side.teach([(arm, choices[arm.name].value) for arm in self.study.arms])
        teachers = self._teachers(side, choices)
        for one in teachers:
            self._say(knowledge(one))
        for arms in self._waves():
            jobs = [side.job(arm, choices[arm.name].value, seed) for seed in range(seeds) for arm in arms]
            self._run(jobs, "test")
        record = self._record(side, choices, seeds, teachers)
        write_atomically(self.out / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        print_study(self.out, self.console)
        page = write_study(self.out, self.out / PAGE)
        took = in_time(time.perf_counter() - started)
        self.console.print(f"{page}  ({took} in all)", markup=False, highlight=False, soft_wrap=True)
        return page

    def _check(self) -> None:
        """Refuse what would make a study say something else than its page does."""
        for change in self.setting.changes:
            name = change.partition("=")[0].strip()
            if name.split(".")[0] in OWN or name in OWN:
                instead = OWN.get(name, OWN.get(name.split(".")[0], ""))
                raise ValueError(f"{name} is what a study decides itself{instead and f': {instead}'}")
        refuse_taken(self.out, RECORD)

    def _waves(self) -> list[list[Arm]]:
        """Arms that are trained together, seed by seed: those that begin with others' weights, or are last, wait."""
        places = sorted({(bool(arm.begins), arm.last) for arm in self.study.arms})
        return [[arm for arm in self.study.arms if (bool(arm.begins), arm.last) == place] for place in places]

    def _open_arms(self) -> list[Arm]:
        return [arm for arm in self.study.arms if arm.values]

    def _foretell(self, tuned: Side, tested: Side, seeds: int) -> None:
        """Say how long everything that is missing takes on this machine, before any of it begins."""
        tried = [(arm, value) for arm in self._open_arms() for value in arm.values]
        parts = [
            ("teachers", self._teachers_of(tuned, tested)),
            ("runs on the validation part", tuned.foretold(tried, range(TUNING, TUNING + self.study.tuning_seeds))),
            *(("runs on the test part", tested.foretold([(a, "") for a in w], range(seeds))) for w in self._waves()),
        ]
        total = 0.0
        for what, jobs in parts:
            if left := self._left(jobs):
                seconds = paced(left, self.workers, self._units(left))
                total += seconds
                self._say(f"{len(left)} {what}: about {in_time(seconds)} on this machine")
        if total:
            self._say(f"about {in_time(total)} in all; the same command goes on where it was stopped")

    def _units(self, jobs: Sequence[Job]) -> list[Unit]:
        """Runs of one seed side by side, where that pays."""
        return together(jobs, None, self.workers, resume=not self.options.overwrite)

    def _side(self, *, validation: bool) -> Side:
        folder = self.out / VALIDATION if validation else self.out
        return Side(self.study, self.setting, folder, validation, self.console, self.options)

    def _left(self, jobs: Sequence[Job]) -> list[Job]:
        return [job for job in jobs if not RunFolder(job.folder).finished or self.options.overwrite]

    def _teachers_of(self, tuned: Side, tested: Side) -> list[Job]:
        return [*tuned.teachers(self._open_arms()), *tested.teachers(self.study.arms)]

    def _teach(self, tuned: Side, tested: Side) -> None:
        """Train the teachers of both parts at the same time, if there are processes for that; nothing else can wait."""
        self._warn_of_twins(tested.teachers(self.study.arms))
        every = self._teachers_of(tuned, tested)
        left, at_once = self._left(every), min(self.workers, len(every))
        if at_once < 2 or not left:
            return
        tuned.check(self._open_arms())
        tested.check(self.study.arms)
        threads = max(1, (os.cpu_count() or 1) // at_once)  # of all, so that one that goes on alone keeps its number
        jobs = [replace(j, run=replace(j.run, threads=min(j.run.threads or threads, threads))) for j in left]
        with display(self.console, jobs, "teachers", ends=False) as listen:
            run_jobs(jobs, self.options, Foretold(listen, self.console, f"each of {len(jobs)} teachers"), self.workers)

    def _warn_of_twins(self, taught: Sequence[Job]) -> None:
        """Say which teachers are one network, as in studies so short that their lengths round to the same."""
        for n, job in enumerate(taught):
            if twin := next((one for one in taught[:n] if one.run == job.run), None):
                epochs = f"{job.run.epochs} epoch{'s' if job.run.epochs > 1 else ''} each"
                self._say(f"{twin.title} and {job.title} are one network here ({epochs}): give more --teacher-epochs")

    def _choices(self, side: Side) -> dict[str, Choice]:
        """What validation chooses for every arm; arms without values have none to choose."""
        open_arms = self._open_arms()
        found = {arm.name: Choice() for arm in self.study.arms}
        if open_arms:
            side.teach([(arm, arm.values[0]) for arm in open_arms])
            seeds = range(TUNING, TUNING + self.study.tuning_seeds)
            cases = [(arm, value, seed) for seed in seeds for arm in open_arms for value in arm.values]
            jobs = [side.job(arm, value, seed, pilot=True) for arm, value, seed in cases]
            self._run(jobs, "validation")
            for arm in open_arms:
                kept = {v: [side.job(arm, v, seed, pilot=True).folder for seed in seeds] for v in arm.values}
                found[arm.name] = best({value: [_last(folder) for folder in kept[value]] for value in arm.values}, kept)
                self._say(f"validation chooses {found[arm.name].value} for {arm.name}")
        return found | {arm.name: Choice(found[arm.follows].value) for arm in self.study.arms if arm.follows}

    def _run(self, jobs: Sequence[Job], part: str) -> None:
        left = self._left(jobs)
        if len(left) < len(jobs):
            self._say(f"{len(jobs) - len(left)} of {len(jobs)} runs on the {part} part are there already")
        units = self._units(jobs)
        for line in said(jobs, units):
            self._say(line)
        with display(self.console, jobs) as listen:
            run_jobs(jobs, self.options, listen, self.workers, units)

    def _record(
        self, side: Side, choices: Mapping[str, Choice], seeds: int, teachers: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Everything that the page says, as plain data."""
        study = self.study
        arms = [self._arm(side, arm, choices[arm.name], seeds) for arm in study.arms]
        return {
            "schema": 1,
            "name": study.name,
            "question": study.question,
            "about": study.about,
            "recipe": self.setting.recipe or study.recipe,
            "command": shlex.join(self.options.command),
            "seeds": seeds,
            "teachers": list(teachers),
            "arms": arms,
            "contrasts": [
                {"left": c.left, "right": c.right, "plus": [*map(list, c.plus)], "minus": [*map(list, c.minus)]}
                for c in study.contrasts
            ],
            "pilots": [*map(list, study.pilots)],
        }

    def _arm(self, side: Side, arm: Arm, choice: Choice, seeds: int) -> dict[str, Any]:
        jobs = [side.job(arm, choice.value, seed) for seed in range(seeds)]
        columns = {c for one in self.study.contrasts for name, c in (*one.plus, *one.minus) if name == arm.name}
        facts = read_summary(jobs[0].folder / SUMMARY)[1]
        return {
            "name": arm.name,
            "method": str(jobs[0].run.method),
            "changes": [*arm.changed(choice.value)],
            "teacher": arm.teacher,
            "epochs": jobs[0].run.epochs,
            "passes": facts.backward_passes,
            "value": choice.value,
            "pilot": arm.pilot,
            "tried": choice.tried or {},
            "headline": facts.headline.key,
            "folders": [job.folder.relative_to(self.out).as_posix() for job in jobs],
            "values": {name: [_value(job.folder, name) for job in jobs] for name in sorted(columns | {""})},
            "git": facts.git,
            "versions": dict(facts.versions),
            "device": facts.device,
        }

    def _teachers(self, side: Side, choices: Mapping[str, Choice]) -> list[dict[str, Any]]:
        """Every teacher with its accuracy, and how certain it is of the images that its students train on."""
        found = []
        for one in self.study.teachers:
            arm = next(arm for arm in self.study.arms if arm.teacher == one.name)
            run = side.job(arm, choices[arm.name].value, 0).run
            folder = RunFolder(side.folder / ("teacher" if not one.name else f"teacher-{one.name}"))
            facts = folder.summary()
            score = facts[f"last_{headline_of(facts)}"]
            sure = certainty(run)
            found.append({"name": one.name, "says": one.says, "epochs": facts["epochs"], "test": score, **sure})
        return found

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def best(tried: Mapping[str, Sequence[float]], folders: Mapping[str, Sequence[Path]] | None = None) -> Choice:
    """The value with the best mean; of equal ones the first.

    Args:
        tried: value -> the headline of every seed.
        folders: of these runs, which tell whether more is better; without them it is.

    Example:
        >>> best({"1": [80.0, 82.0], "4": [85.0, 84.0]}).value
        '4'
    """
    up = 1.0
    if folders:
        up = 1.0 if headline(headline_of(RunFolder(next(iter(folders.values()))[0]).summary())).higher else -1.0
    means = {value: up * math.fsum(scores) / len(scores) for value, scores in tried.items()}
    usable = {value: mean for value, mean in means.items() if math.isfinite(mean)} or means
    return Choice(max(usable, key=lambda value: usable[value]), tried)


def _last(folder: Path) -> float:
    facts = RunFolder(folder).summary()
    return float(facts[f"last_{headline_of(facts)}"])


def _value(folder: Path, column: str) -> float:
    """The headline at the last epoch, or the mean of a column over the epochs that have it."""
    if not column:
        return _last(folder)
    found = [float(row[column]) for row in RunFolder(folder).metrics() if row.get(column) is not None]
    return math.fsum(found) / len(found) if found else math.nan
