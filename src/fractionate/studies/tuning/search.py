"""The search: brackets of students on the validation part, of which a third goes on at every rung."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...runs.stop import deadline
from ..jobs import Job, Options
from .budget import FEWEST, MOST, Budget, Plan, divided, largest, price, rungs, surviving
from .rungs import reached, train_to, why_failed
from .space import BASELINE, Draft, Setting
from .store import Store, Tried

if TYPE_CHECKING:
    from rich.console import Console

TEACHER = "teacher"  # in the ledger
SEED = 0  # of every student of the search: the same weights at the start, the same batches
GUESTS = 1  # kd goes on to the end of the first bracket, whatever its rank
ROUND_OF_DEFAULTS = 2 / 3  # of the search at most


@dataclass(frozen=True)
class Search:
    """What the search needs to know.

    Args:
        store: what is known so far.
        folder: of the students.
        draft: the recipe's run on the validation part.
        epochs: length of a student's run.
        budget: of the whole command.
        seeds: wanted for the confirmation.
        usual: the published methods as they come, kd first.
        methods: those whose arguments are tuned; none = only ``usual`` is tried.
        seed: of the proposals.
        console: where progress goes.
        options: of the students' folders.
        workers: processes.
    """

    store: Store
    folder: Path
    draft: Draft
    epochs: int
    budget: Budget
    seeds: int
    usual: Sequence[Setting]
    methods: Sequence[str]
    seed: int
    console: Console
    options: Options
    workers: int

    @property
    def ladder(self) -> tuple[int, ...]:
        """Epochs of the rungs."""
        return rungs(self.epochs)

    def say(self, text: str) -> None:
        """A line."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @property
    def spent(self) -> float:
        """Runs of full length that the search has taken."""
        return sum(runs for key, (runs, _) in self.store.ledger.items() if key.startswith("search"))

    @property
    def per_run(self) -> float:
        """What a run of full length costs, in the budget's unit, as measured so far."""
        if self.budget.unit == "runs":
            return 1.0
        paid = [entry for entry in self.store.ledger.values() if entry[0]]  # teachers count no runs
        return sum(seconds for _, seconds in paid) / sum(runs for runs, _ in paid)

    @property
    def closed(self) -> bool:
        """Whether the search has ended under this budget."""
        return bool(self.store.decided.get("budget") == str(self.budget))

    def close(self) -> None:
        """End the search, and settle how many seeds follow, so that a later call does just the same."""
        plan = self.plan()
        self.store.decide({"budget": str(self.budget), "plan": [plan.search, plan.repeats, plan.seeds]})

    def plan(self) -> Plan:
        """How the budget is divided, by what is known now, or as it was when the search ended."""
        if self.closed:
            return Plan(*self.store.decided["plan"])
        if self.budget.unit == "runs":
            return divided(self.budget.amount, self.seeds)
        return divided(max(0.0, self.budget.amount - 2 * self._teacher) / self.per_run, self.seeds)

    def deadline(self, *, finals: bool = False) -> Options:
        """Options that end the search, or its finals, where their share of a time budget is used up."""
        if self.budget.unit == "runs":
            return self.options
        plan = self.plan()
        kept = (plan.confirm if finals else plan.kept) * self.per_run + self._teacher
        return replace(self.options, deadline=deadline(max(0.0, self.budget.amount - kept - self.store.seconds)))

    @property
    def _teacher(self) -> float:
        """Seconds that the teacher of the search took; that of the confirmation will take about as many."""
        return self.store.ledger.get(TEACHER, (0.0, 0.0))[1]

    def job(self, student: Tried, until: int) -> Job:
        """A student up to an epoch."""
        run = student.setting.run(self.draft, SEED)
        return Job(student.setting.label, run, self.folder / student.name, until)

    def train(self, jobs: Sequence[Job], options: Options, title: str) -> None:
        """Train students up to where they shall come."""
        train_to(jobs, options, self.console, title, self.workers, self.store.beat)

    def go(self) -> None:
        """Train brackets until the search's share of the budget is used up.

        Raises:
            ValueError: kd cannot be trained, or the budget is too small for anything.
            Stopped: a signal, or the deadline.
        """
        self._pilot()
        for bracket in range(len(self.store.brackets)):
            self._bracket(bracket)
        while (size := self._next_size()) >= FEWEST:
            bracket = len(self.store.brackets)
            self.store.open_bracket(size)
            self._bracket(bracket)

    def _pilot(self) -> None:
        """kd up to the first rung, which tells what a student costs; then the size of the first bracket."""
        self.store.add_usual(self.usual[:1], self.draft, self.methods)
        first, until = self.store.tried()[0], self.ladder[0]
        if until not in first.scores:
            with self.store.spending("search 0.0 first", until / self.epochs):
                self.train([self.job(first, until)], self.options, "first student")
            if why := why_failed(self.folder / first.name):
                raise ValueError(f"{BASELINE} cannot be trained here: {why}")
        if self.store.brackets:
            return
        plan = self.plan()
        size = first_size(self.budget, plan, len(self.usual), self.epochs, self.per_run)
        self.say(self._divided(plan, size))
        self.store.add_usual(self.usual[:size], self.draft, self.methods)
        self.store.open_bracket(size)

    def _divided(self, plan: Plan, size: int) -> str:
        cost = "" if self.budget.unit == "runs" else f" (one takes about {self.per_run:.1f} s)"
        left = [s.method for s in self.usual[size:]]
        missing = f"; for want of budget without {len(left)} others ({', '.join(left[:4])} ...)" if left else ""
        return (
            f"{self.budget} pay for about {plan.search + plan.kept:.0f} runs of {self.epochs} epochs{cost}: "
            f"{plan.search:.0f} for the search, {plan.repeats} more seeds for the finalists, {plan.seeds} fresh seeds "
            f"to confirm; first the {size} published methods as they come{missing}"
        )

    def _next_size(self) -> int:
        if not self.methods:
            return 0
        return largest(self.plan().search - self.spent, MOST, self.ladder)

    def _bracket(self, bracket: int) -> None:
        """Propose what is missing of a bracket and train it, rung by rung, from where it stands."""
        size, before = self.store.brackets[bracket], sum(self.store.brackets[:bracket])
        for index in range(before, before + size):
            if bracket and index >= len(self.store.tried()):
                self.store.propose(index, bracket, self.draft, self.methods, self.seed)
        reached_before = 0
        alive = [t.index for t in self._of(bracket)]
        for place, until in enumerate(self.ladder):
            new = [t for t in self._of(bracket) if t.index in alive and until not in t.scores and t.fault is None]
            waiting = [self.job(t, until) for t in new]
            share = (until - reached_before) / self.epochs
            runs = share * (len(alive) - ((bracket, place) == (0, 0)))  # kd has come so far already
            key = f"search {bracket}.{place}"
            if waiting or self.store.ledger.get(key, (0.0, 0.0))[0] < runs:
                try:
                    with self.store.spending(key, runs):
                        self.train(waiting, self.deadline(), f"bracket {bracket + 1}, rung {place + 1}")
                finally:
                    self._note(new, until)
            alive, reached_before = self._ranked(bracket, alive, until, said=bool(waiting)), until
        for student in self._of(bracket):
            self.store.close(student, self.epochs)

    def _of(self, bracket: int) -> list[Tried]:
        return [t for t in self.store.tried() if t.bracket == bracket]

    def _note(self, students: Sequence[Tried], until: int) -> None:
        for student in students:
            folder = self.folder / student.name
            found = reached(folder, until)
            self.store.report(student, until, found.score if found else None, None if found else why_failed(folder))

    def _ranked(self, bracket: int, alive: Sequence[int], until: int, *, said: bool) -> list[int]:
        """Who goes on, the best first; says how the rung ended."""
        here = [t for t in self._of(bracket) if t.index in alive]
        good = sorted((t for t in here if until in t.scores), key=lambda t: (-t.scores[until], t.index))
        on = [t.index for t in good[: surviving(len(alive))]]
        on += [t.index for t in good if t.index == 0 and 0 not in on]  # kd, to compare with
        if not said:
            return on
        last = until == self.epochs
        failed = f", {len(here) - len(good)} failed" if len(good) < len(here) else ""
        best = f"best {good[0].setting.label} {good[0].scores[until]:.2f}" if good else "none is left"
        goes = "" if last or not good else f"; {len(on)} go on"
        self.say(f"bracket {bracket + 1}, {until} of {self.epochs} epochs: {len(here)} students{failed}, {best}{goes}")
        return on


def first_size(budget: Budget, plan: Plan, count: int, epochs: int, per_run: float = 1.0) -> int:
    """Students of the first bracket, which are published methods as they come.

    Args:
        budget, plan: what is there, and how it is divided.
        count: how many methods there are.
        epochs: of a run of full length.
        per_run: what such a run costs, in the budget's unit.

    Raises:
        ValueError: it does not pay for three.
    """
    ladder = rungs(epochs)
    size = largest(plan.search * ROUND_OF_DEFAULTS, count, ladder, GUESTS)
    if size >= min(FEWEST, count):
        return size
    smallest = price(FEWEST, ladder, GUESTS)
    least = next(n for n in range(1, 10_000) if divided(n, 2).search * ROUND_OF_DEFAULTS >= smallest)
    need = "" if budget.unit == "runs" else f", here about {least * per_run:.0f} seconds and the teachers"
    raise ValueError(
        f"--budget {budget} is too small: {least} runs of {epochs} epochs are the least{need}; give more, or shorten "
        "the runs (--epochs)"
    )
