"""One part of a study: students measured on the validation part, or on the test part, with their teachers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.files import override
from ..config.run import Monitors, Network, Run
from ..recipes import Recipe, placed
from ..runs.folder import RunFolder
from ..train.device import place
from ..train.sources import sources
from .chosen import file_name, for_teacher
from .jobs import Job, Options
from .plan import Arm, Study, Teaching
from .teachers import check_students, trained_teacher

if TYPE_CHECKING:
    from rich.console import Console

TUNING = 1000  # the first seed on the validation part; those of the test part count from 0


@dataclass(frozen=True)
class Setting:
    """What a user says about a study.

    Args:
        recipe: networks and images; ``None`` = the study's.
        root: folder of the data set; ``None`` = the usual places.
        changes: ``field=value`` of all runs.
        epochs, teacher_epochs: lengths that the study's multiples count from; ``None`` = the recipe's.
        seeds: students per arm on the test part; ``None`` = the study's.
    """

    recipe: str | None = None
    root: str | None = None
    changes: tuple[str, ...] = ()
    epochs: int | None = None
    teacher_epochs: int | None = None
    seeds: int | None = None


@dataclass(eq=False)
class Side:
    """Runs of a study that are measured on one part of the images.

    Args:
        study: which.
        setting: what the user says.
        folder: of teachers and runs.
        validation: whether it is the part that choices are made on.
        console, options: of all runs.
    """

    study: Study
    setting: Setting
    folder: Path
    validation: bool
    console: Console
    options: Options
    taught: dict[str, Network] = field(default_factory=dict)
    chosen: dict[str, str] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """Networks and images."""
        return placed(self.setting.recipe or self.study.recipe, self.setting.root, validation=self.validation)

    def job(self, arm: Arm, value: str, seed: int, *, pilot: bool = False) -> Job:
        """A student's run; its teacher must be there, if it learns from one."""
        run = self._student(arm, value, seed, self.taught.get(arm.teacher))
        run = self._thinned(run, arm.pilot) if pilot else run
        folder = self.folder / _folder(arm, value) / f"seed-{seed}"
        title = f"{arm.name}{f' ({value})' if value else ''}{', validation' if self.validation else ''}, seed {seed}"
        return Job(title, run, folder)

    def foretold(self, arms: Sequence[tuple[Arm, str]], seeds: Sequence[int]) -> list[Job]:
        """The runs of these arms as they are before their teachers have weights and before anything is chosen.

        Args:
            arms: each with a value; without one, a run that is there with any value is found in its folder.
            seeds: of every arm.
        """
        blank = {one.name: replace(self._alone(one).student, checkpoint=None) for one in self.study.teachers}
        jobs = []
        for seed in seeds:
            for arm, value in arms:
                values = (value,) if value else self._values(arm)
                places = [self.folder / _folder(arm, one) / f"seed-{seed}" for one in values]
                place = next((one for one in places if RunFolder(one).finished), places[0])
                run = self._student(arm, values[0], seed, blank[arm.teacher], begins=False)
                jobs.append(Job(arm.name, run, place))
        return jobs

    def _values(self, arm: Arm) -> tuple[str, ...]:
        """What may be chosen for an arm, perhaps by the one that it follows."""
        return self.study.arm(arm.follows or arm.name).values or ("",)

    def teachers(self, arms: Sequence[Arm]) -> list[Job]:
        """The own runs of the teachers of these arms."""
        return [Job(f"teacher {one.name}".strip(), self._alone(one), self._place(one)) for one in self._needed(arms)]

    def _needed(self, arms: Sequence[Arm]) -> list[Teaching]:
        """Their teachers, but none that would only teach a choice that labels alone decide."""
        names = {arm.teacher for arm in arms if arm.taught or not self.validation}
        return [one for one in self.study.teachers if one.name in names]

    def check(self, arms: Sequence[Arm]) -> None:
        """Try students of these arms on a few images, as it is done before a teacher is trained.

        Raises:
            ValueError: one of them could not learn from its teacher.
        """
        for one in self._needed(arms):
            check_students(self._pupils(one, [(arm, self._values(arm)[0]) for arm in arms]))

    def teach(self, arms: Sequence[tuple[Arm, str]]) -> None:
        """Have the teachers of these arms, each with a value of its choice."""
        for one in self._needed([arm for arm, _ in arms]):
            if one.name not in self.taught:
                self.taught[one.name] = self._trained(one, arms)

    def _pupils(self, one: Teaching, arms: Sequence[tuple[Arm, str]]) -> list[Run]:
        blank = replace(self._alone(one).student, checkpoint=None)
        return [self._student(arm, value, 0, blank, begins=False) for arm, value in arms if arm.teacher == one.name]

    def _trained(self, one: Teaching, arms: Sequence[tuple[Arm, str]]) -> Network:
        expected: Callable[[Network], float | None] = lambda network: None  # noqa: E731  # a study asks for weak ones too
        if one.says != "the recipe's":
            self.console.print(f"teacher {one.name or 'usual'}: {one.says}", markup=False, highlight=False)
        return trained_teacher(
            self._alone(one), self._place(one), self.console, self.options, expected, lambda: self._pupils(one, arms)
        )

    def _alone(self, one: Teaching) -> Run:
        """A teacher's own run."""
        epochs = self.setting.teacher_epochs or self.recipe.teacher().epochs
        alone = self.recipe.teacher(epochs=max(1, round(one.length * epochs)))
        return override(alone, [*for_teacher(self.setting.changes, alone.data.name), *one.changes])

    def _place(self, one: Teaching) -> Path:
        return self.folder / ("teacher" if not one.name else f"teacher-{one.name}")

    def _student(self, arm: Arm, value: str, seed: int, teacher: Network | None, *, begins: bool = True) -> Run:
        make, spec = self.recipe.student, arm.spec(value)
        given = teacher or Network(self.recipe.teacher().student.name)
        epochs = self.setting.epochs or make(spec, given).epochs
        run = make(spec, given, seed=seed, epochs=max(1, round(arm.length * epochs)))
        run = run if teacher else replace(run, teacher=None)
        run = run if self.study.watched else replace(run, monitors=Monitors())
        run = override(run, [*self.setting.changes, *arm.changed(value)])
        if arm.begins and begins:
            first = self.study.arm(arm.begins)
            weights = self.job(first, self.chosen.get(first.name, ""), seed).folder / "student.safetensors"
            run = replace(run, student=replace(run.student, checkpoint=str(weights)))
        return run

    def _thinned(self, run: Run, share: float) -> Run:
        """The run with a share of its training images, alike for every class."""
        if share == 1:
            return run
        per_class = run.data.labels_per_class
        if per_class is None:
            train = sources(run.data, run.seed, place(run.device))[0]
            per_class = train.count // train.num_classes
        return replace(run, data=replace(run.data, labels_per_class=max(1, round(share * per_class))))


def _folder(arm: Arm, value: str) -> str:
    return file_name(f"{arm.name}={value}" if value else arm.name).strip("_")
