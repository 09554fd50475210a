"""What was tried, in Optuna's SQLite file: whatever ends the process, the same command finds it again."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .space import Draft, Setting, distributions, suggested, usual_point

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

FILE, NAME = "tune.sqlite3", "tune"
TRIES = 50  # proposals whose parts do not fit each other before the search gives up
LEARNT = 5  # of them by the sampler, which learns nothing from a proposal that does not fit; the rest at random
HEARTBEAT = 5.0  # seconds


@dataclass(frozen=True)
class Tried:
    """A student of the search.

    Args:
        index: number in the order of the search, which names its folder.
        bracket: in which it began.
        setting: what it is trained with.
        usual: whether that is a published method as it comes.
        scores: headline on the validation part by epoch.
        fault: why it could not be trained on, if so.
    """

    index: int
    bracket: int
    setting: Setting
    usual: bool
    scores: Mapping[int, float]
    fault: str | None

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"student-{self.index:04d}"


class Store:
    """A study in a file.

    Args:
        folder: where the file lies; the caller keeps other processes out of it.
        about: what must be the same whenever the command goes on.

    Raises:
        ValueError: the file holds a search of something else.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        storage = optuna.storages.RDBStorage(f"sqlite:///{(folder / FILE).absolute()}")
        self.study = _opened(storage)
        plain = json.loads(json.dumps(dict(about), default=str))
        if not self.brackets and self._said("about", plain) != plain:  # nothing was compared yet: begin anew
            optuna.delete_study(study_name=NAME, storage=storage)
            for student in folder.glob("*/student-*"):
                shutil.rmtree(student)
            self.study = _opened(storage)
        self._check(plain, folder)
        for trial in self.study.get_trials(deepcopy=False):  # of a process that was killed while it wrote them down
            if not trial.state.is_finished() and not _complete(trial):
                self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        self._before, self._began, self._beat = float(self._said("seconds", 0.0)), time.monotonic(), 0.0

    def _said(self, key: str, default: Any) -> Any:
        return self.study.user_attrs.get(key, default)

    def _check(self, plain: dict[str, Any], folder: Path) -> None:
        before = self._said("about", None)
        if before is None:
            self.study.set_user_attr("about", plain)
            return
        other = [key for key in plain | before if plain.get(key) != before.get(key)]
        if other:
            raise ValueError(
                f"{folder} holds a search with other settings ({', '.join(other)}): choose another folder (--out), or "
                "begin anew (--overwrite)"
            )

    @property
    def seconds(self) -> float:
        """Time that the command has taken so far, all its calls together."""
        return self._before + time.monotonic() - self._began

    def beat(self, *, now: bool = False) -> None:
        """Write down how much time has gone by, every few seconds."""
        if now or time.monotonic() - self._beat >= HEARTBEAT:
            self._beat = time.monotonic()
            self.study.set_user_attr("seconds", self.seconds)

    @property
    def ledger(self) -> dict[str, tuple[float, float]]:
        """Runs of full length and seconds, by what they were spent on."""
        return {key: (entry[0], entry[1]) for key, entry in self._said("ledger", {}).items()}

    @contextlib.contextmanager
    def spending(self, key: str, runs: float) -> Iterator[None]:
        """Write into the ledger what happens meanwhile; what was interrupted counts its runs once, its seconds all."""
        began = time.monotonic()
        try:
            yield
        except BaseException:
            self._book(key, 0.0, time.monotonic() - began)
            raise
        self._book(key, runs, time.monotonic() - began)

    def _book(self, key: str, runs: float, seconds: float) -> None:
        entries = dict(self._said("ledger", {}))
        before = entries.get(key, [0.0, 0.0])
        entries[key] = [max(before[0], runs), before[1] + seconds]
        self.study.set_user_attr("ledger", entries)
        self.beat(now=True)

    @property
    def decided(self) -> dict[str, Any]:
        """What was settled when the search ended; empty before."""
        return dict(self._said("decided", {}))

    def decide(self, what: Mapping[str, Any]) -> None:
        """Settle it."""
        self.study.set_user_attr("decided", dict(what))

    @property
    def brackets(self) -> list[int]:
        """Number of students of every bracket that was begun."""
        return list(self._said("brackets", []))

    def open_bracket(self, size: int) -> None:
        """Decide how many students the next one has."""
        self.study.set_user_attr("brackets", [*self.brackets, size])

    def tried(self) -> list[Tried]:
        """All students, in their order."""
        found = [_tried(trial) for trial in self.study.get_trials(deepcopy=False) if "setting" in trial.user_attrs]
        return sorted(found, key=lambda t: t.index)

    def add_usual(self, settings: Sequence[Setting], draft: Draft, methods: Sequence[str]) -> None:
        """The first bracket: methods as they come; where one lies in the space, the sampler learns from it."""
        from optuna.trial import TrialState, create_trial

        axes = distributions(methods) if methods else {}
        for index in range(len(self.tried()), len(settings)):
            point = usual_point(draft, settings[index].method) if axes else {}
            if point and (point["method"] not in methods or not _inside(point, axes)):
                point = {}
            trial = create_trial(
                state=TrialState.RUNNING,
                params=point,
                distributions={key: axes[key] for key in point},
                user_attrs=_attributes(index, 0, settings[index], usual=True),
            )
            self.study.add_trial(trial)

    def propose(self, index: int, bracket: int, draft: Draft, methods: Sequence[str], seed: int) -> None:
        """One more student, proposed by Optuna's sampler from what is known so far.

        Raises:
            ValueError: nothing that fits together was found.
        """
        from optuna.samplers import RandomSampler, TPESampler
        from optuna.trial import TrialState

        why = ""
        for attempt in range(TRIES):
            sampler = TPESampler if attempt < LEARNT else RandomSampler
            self.study.sampler = sampler(seed=((seed * 10_007 + index) * TRIES + attempt) % 2**32)
            trial = self.study.ask()
            try:
                setting = suggested(trial, draft, methods)
            except ValueError as error:
                why = str(error)
                self.study.tell(trial, state=TrialState.FAIL)
                continue
            for key, value in _attributes(index, bracket, setting, usual=False).items():
                trial.set_user_attr(key, value)
            return
        raise ValueError(
            f"no setting was found that fits together ({why}); begin anew with other --methods (--overwrite)"
        )

    def report(self, student: Tried, epoch: int, score: float | None, fault: str | None) -> None:
        """Write down what a rung has given."""
        import optuna

        number = self._number(student)
        trial = optuna.trial.Trial(self.study, self.study.get_trials(deepcopy=False)[number]._trial_id)
        if score is not None:
            trial.report(score, epoch)
        if fault is not None:
            trial.set_user_attr("fault", fault)

    def close(self, student: Tried, epochs: int) -> None:
        """A student that goes no further: trained in full, left behind, or failed."""
        from optuna.trial import TrialState

        number = self._number(student)
        if self.study.get_trials(deepcopy=False)[number].state.is_finished():
            return
        if student.fault is not None:
            self.study.tell(number, state=TrialState.FAIL)
        elif epochs in student.scores:
            self.study.tell(number, student.scores[epochs])
        else:
            self.study.tell(number, state=TrialState.PRUNED)

    def _number(self, student: Tried) -> int:
        trials = self.study.get_trials(deepcopy=False)
        return next(t.number for t in trials if t.user_attrs.get("index") == student.index and _complete(t))


def _opened(storage: Any) -> Study:
    import optuna

    sampler = optuna.samplers.RandomSampler(seed=0)  # replaced for every proposal
    return optuna.create_study(
        storage=storage, study_name=NAME, direction="maximize", load_if_exists=True, sampler=sampler
    )


def _inside(point: Mapping[str, Any], axes: Mapping[str, BaseDistribution]) -> bool:
    return all(axes[key]._contains(axes[key].to_internal_repr(value)) for key, value in point.items())


def _complete(trial: FrozenTrial) -> bool:
    return "setting" in trial.user_attrs


def _attributes(index: int, bracket: int, setting: Setting, *, usual: bool) -> dict[str, Any]:
    # the setting last: a trial without one was not written to its end, and is made again
    return {"index": index, "bracket": bracket, "usual": usual, "setting": [setting.method, setting.rate]}


def _tried(trial: FrozenTrial) -> Tried:
    said = trial.user_attrs
    method, rate = said["setting"]
    return Tried(
        said["index"],
        said["bracket"],
        Setting(method, rate),
        said["usual"],
        dict(trial.intermediate_values),
        said.get("fault"),
    )
