"""The command's work from the teacher to the page; every part of it goes on where it was ended."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..._files import write_atomically
from ..._terminal import in_time
from ...config.method import MethodSpec
from ...config.run import Network
from ...recipes import find, placed
from ...report.page import write_page
from ...report.tuning import Arm, Try, Tuning, write_tuning
from ...runs.lock import locked
from ...runs.stop import Stopped
from ..chosen import Choice, chosen_jobs
from ..jobs import Options
from ..shipped import EXPORTED, hand_over
from ..usual import refuse_taken
from .budget import Budget, divided
from .confirm import Confirmed, Finalist, arms, confirm, finals
from .rungs import reached
from .search import TEACHER, Search, first_size
from .space import AROUND, BASELINE, Setting, drafts, published, tuned_methods, uncontrolled
from .store import FILE, Store, Tried

if TYPE_CHECKING:
    from rich.console import Console

SEARCHED, CONFIRMED, PAGE, FOUND = "search", "confirmed", "tune.html", "tune.json"
# Fields that the command sets itself.
OWN = ("seed", "method", "data.evaluate_on", "monitors", "save_every", "evaluate_every")


@dataclass(frozen=True)
class Wish:
    """What is tuned, and how far.

    Args:
        choice: recipe, networks and changes; ``method`` and ``validation`` are not looked at.
        budget: of everything.
        seeds: fresh seeds of the confirmation, at most.
        methods: as they come, in this order; none = all published ones.
        only_published: try nothing but the methods as they come.
        seed: of the proposals.
    """

    choice: Choice
    budget: Budget
    seeds: int = 5
    methods: Sequence[str] = ()
    only_published: bool = False
    seed: int = 0


def tune(wish: Wish, out: Path, console: Console, options: Options, workers: int = 1) -> Path:
    """Search on a validation part, confirm with fresh seeds on the test part, and leave the winner and a page.

    Args:
        wish: what.
        out: folder of everything; what is there already is gone on with, or replaced with ``options.overwrite``.
        console: where progress goes.
        options: ``overwrite`` and ``command`` count.
        workers: processes.

    Returns:
        The winner's run folder.

    Raises:
        ValueError: settings that do not fit each other, a folder with another search, or a budget that is too small.
        Stopped: a signal; the same command goes on.
    """
    _check(wish.choice)
    refuse_taken(out, FILE)
    usual = published(wish.choice, console, wish.methods)
    _check_budget(wish, usual)
    if options.overwrite:
        _clear(out)
    options = replace(options, overwrite=False, resume=True)
    with locked(out):
        store = Store(out, _about(wish, usual))
        try:
            return _tuned(wish, usual, store, out, console, options, workers)
        except Stopped:
            console.print("the same command goes on from here", highlight=False)
            raise
        finally:
            store.beat(now=True)


def _check_budget(wish: Wish, usual: Sequence[Setting]) -> None:
    """Refuse a number of runs that is too small, for which nothing has to be measured, before anything is written."""
    if wish.budget.unit == "runs":
        learned = replace(wish.choice, validation=True)
        found = placed(learned.recipe, learned.root, validation=True)
        epochs = drafts(learned, found.teacher().student)(MethodSpec(BASELINE), 0).epochs
        first_size(wish.budget, divided(wish.budget.amount, wish.seeds), len(usual), epochs)


def _tuned(
    wish: Wish, usual: Sequence[Setting], store: Store, out: Path, console: Console, options: Options, workers: int
) -> Path:
    learned = replace(wish.choice, validation=True)
    with store.spending(TEACHER, 0.0):
        teacher = _teacher(learned, out / SEARCHED, console, options)
    draft = drafts(learned, teacher)
    names = [] if wish.only_published else tuned_methods([MethodSpec.parse(m).name for m in wish.methods])
    search = Search(
        store=store,
        folder=out / SEARCHED,
        draft=draft,
        epochs=draft(MethodSpec(BASELINE), 0).epochs,
        budget=wish.budget,
        seeds=wish.seeds,
        usual=usual,
        methods=names,
        seed=wish.seed,
        console=console,
        options=options,
        workers=workers,
    )
    finalists = _searched(search)
    settings = arms(finalists)
    with store.spending("teacher of all images", 0.0):
        whole = replace(wish.choice, validation=False)
        draft = drafts(whole, _teacher(whole, out / CONFIRMED, console, options))
    confirmed = confirm(search, settings, draft, out / CONFIRMED)
    return _left(wish, search, finalists, confirmed, out, console, options)


def _searched(search: Search) -> list[Finalist]:
    """The finalists; a search that has ended stays ended unless the budget is another one."""
    if not search.closed:
        try:
            search.go()
        except Stopped as stopped:
            if stopped.reason != "budget":
                raise
            search.say("the search's share of the budget is used up")
        search.close()
    return finals(search)


def _teacher(choice: Choice, out: Path, console: Console, options: Options) -> Network | None:
    """The teacher with its weights: trained on the part that the students learn from, or given."""
    jobs, _ = chosen_jobs(choice, [MethodSpec(BASELINE)], 1, out, console, options, always=True)
    return jobs[0].run.teacher


def _check(choice: Choice) -> None:
    """Refuse changes of what the command itself decides."""
    for change in choice.changes:
        path = change.partition("=")[0].strip()
        if next((own for own in OWN if path == own or path.startswith(f"{own}.")), None):
            raise ValueError(f"tune decides {path} itself: leave {change} out")


def _about(wish: Wish, usual: Sequence[Setting]) -> dict[str, object]:
    """What a search cannot go on under another value of."""
    choice = {k: v for k, v in asdict(wish.choice).items() if k not in ("method", "validation")}
    return {
        **choice,
        "methods": [setting.method for setting in usual],
        "wrappers": None if wish.only_published else AROUND,  # Optuna cannot go on along another axis
        "only_published": wish.only_published,
        "seed": wish.seed,
    }


def _clear(out: Path) -> None:
    """Remove an earlier search, and nothing else."""
    if (out / FILE).is_file():
        with locked(out):
            for name in (FILE, PAGE, FOUND):
                (out / name).unlink(missing_ok=True)
            for name in (SEARCHED, CONFIRMED):
                shutil.rmtree(out / name, ignore_errors=True)


def _left(
    wish: Wish,
    search: Search,
    finalists: Sequence[Finalist],
    confirmed: Sequence[Confirmed],
    out: Path,
    console: Console,
    options: Options,
) -> Path:
    """Write the page and the numbers on it, and hand the winner over."""
    title, winner = f"Tuned: {find(wish.choice.recipe).title}", confirmed[0].folders[0]
    usual = [f.student.setting.label for f in finalists if f.student.usual][:1] or [BASELINE]
    said = reached(winner, search.epochs)
    assert said is not None  # it is confirmed
    tried = search.store.tried()
    alone = uncontrolled([student.setting for student in tried if student.scores], search.draft)
    apart = uncontrolled([c.setting for c in confirmed], search.draft)
    found = Tuning(
        title=title,
        metric=said.headline,
        baseline=BASELINE,
        tries=tuple(_try(search, student, finalists, alone) for student in tried),
        arms=tuple(Arm(c.setting.label, tuple(c.scores.values()), c.seconds, c.setting in apart) for c in confirmed),
        usual=usual[0],
        facts=_facts(wish, search),
        folder=str(winner),
        command=" ".join(options.command),
    )
    write_atomically(out / FOUND, json.dumps(asdict(found), indent=1) + "\n")
    page = write_tuning(found, out / PAGE)
    write_page([out / CONFIRMED], out / CONFIRMED / "report.html", title=title)
    hand_over(winner, winner.parent / EXPORTED, console)
    from ...report.tuning import sentences

    for line in (*sentences(found), f"the winner's run: {winner}", f"{page}  ({search.store.seconds:.0f} s in all)"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return winner


def _facts(wish: Wish, search: Search) -> tuple[tuple[str, str], ...]:
    run = search.draft(MethodSpec(BASELINE), 0)
    ledger = search.store.ledger
    return (
        ("data", run.data.name),
        ("student", run.student.name),
        ("teacher", run.teacher.name if run.teacher else "none"),
        ("epochs", str(search.epochs)),
        ("budget", str(wish.budget)),
        ("students tried", str(len(search.store.tried()))),
        ("runs of full length, all in all", f"{sum(runs for runs, _ in ledger.values()):.1f}"),
        ("time", in_time(search.store.seconds)),
    )


def _try(search: Search, student: Tried, finalists: Sequence[Finalist], alone: Sequence[Setting]) -> Try:
    last = max(student.scores, default=0)
    far = reached(search.folder / student.name, last) if last else None
    more = next((f.scores[1:] for f in finalists if f.student.index == student.index), ())
    return Try(
        label=student.setting.label,
        usual=student.usual,
        score=student.scores.get(last),
        epochs=last,
        seconds=far.seconds if far else 0.0,
        whole=last == search.epochs,
        more=more,
        fault=student.fault,
        uncontrolled=student.setting in alone,
    )
