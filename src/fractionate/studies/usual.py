"""What is said around runs: which method a short name means, what its momenta make of its weights, what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .._headlines import headline_of
from ..config.files import override
from ..config.method import METHODS, WRAPPERS, MethodSpec
from ..config.run import Run
from ..methods.restream import MOMENTUM
from ..recipes import placed
from ..recipes.streams import usual
from ..rows import Logits, Progress
from ..runs.folder import RunFolder
from ..train.allocation import allocation, weighed

if TYPE_CHECKING:
    from rich.console import Console

    from .chosen import Choice
    from .jobs import Job

STREAMS = ("deepkd", "dot")
SHOWN = 3  # runs in a sentence
OWNERS = {"study.json": "study", "tune.sqlite3": "search"}  # what a folder holds that has one of these files
SOME = 0.1  # points that boxes in the wrong places stay below: hardly one meets an object
LUCK = 2.0  # points above guessing that a network without knowledge may have


def methods_of(choice: Choice, texts: Sequence[str], console: Console) -> list[MethodSpec]:
    """The methods that texts mean in a recipe (:func:`fractionate.recipes.streams.usual`), and says what was chosen.

    Args:
        choice: recipe, networks and changes.
        texts: as on the command line.
        console: where a choice is said.
    """
    found = []
    for text in texts:
        spec, remark = usual(text, lambda spec: drafted(choice, spec))
        found.append(spec)
        if remark:
            _print(console, remark)
    return found


def refuse_taken(out: Path, own: str = "") -> None:
    """Refuse a folder that holds something else than a command is about to write there, whose page it would replace.

    Args:
        out: the folder.
        own: the file of ``OWNERS`` that may be there.

    Raises:
        ValueError: it does.
    """
    for file, what in OWNERS.items():
        if file != own and (out / file).is_file():
            raise ValueError(f"{out} holds a {what} ({file}), whose page this would replace: choose another --out")


def refuse_twice(texts: Sequence[str], specs: Sequence[MethodSpec]) -> None:
    """Refuse a method that is there twice, maybe by two names.

    Raises:
        ValueError: one is.
    """
    if twice := [spec for spec in specs if specs.count(spec) > 1]:
        names = dict.fromkeys(text for text, spec in zip(texts, specs, strict=True) if spec == twice[0])
        told = "is named twice" if len(names) == 1 else f"is what {' and '.join(names)} mean here"
        raise ValueError(f"{twice[0]} {told}; name every method once")


def drafted(choice: Choice, spec: MethodSpec) -> Run:
    """The run of a method in a recipe, before its teacher has weights."""
    recipe = placed(choice.recipe, choice.root, validation=choice.validation)
    given = {"name": choice.student, "epochs": choice.epochs}
    teacher = recipe.teacher(**({"name": choice.teacher} if choice.teacher else {})).student
    teacher = replace(teacher, checkpoint=None if choice.teacher_checkpoint is None else str(choice.teacher_checkpoint))
    run = recipe.student(spec, teacher, **{name: x for name, x in given.items() if x is not None})
    return override(run, choice.changes)


def say_weights(runs: Iterable[Run], console: Console) -> None:
    """A line for every method whose streams weigh its losses otherwise than without them, and a warning if too much."""
    told = set()
    for run in runs:
        if (key := (run.method.title, str(run.method))) not in told:
            for line in weighed(run):
                _print(console, line)
        told.add(key)


def say_settled(jobs: Iterable[Job], console: Console) -> None:
    """Which numbers ``weights=auto`` became, and from what; a line per method, of its first run that is there."""
    told = set()
    for job in jobs:
        folder = RunFolder(job.folder)
        if not job.run.method.unsettled or str(job.run.method) in told or not folder.finished:
            continue
        told.add(str(job.run.method))
        facts, run = folder.summary().get("teacher_facts") or {}, folder.config()
        sure = f"; the teacher gives the label {facts['label']:.3f} on training images" if "label" in facts else ""
        _print(console, f"{job.run.method} became {run.method}{sure}")
        for line in weighed(run):
            _print(console, line)


def say_guesses(jobs: Sequence[Job], console: Console) -> None:
    """A line about the runs that learnt nothing, so that nobody compares with them unawares."""
    ended = [(job.title, RunFolder(job.folder), job.run.task.name) for job in jobs]
    lost = [title for title, folder, task in ended if folder.finished and knows_nothing(task, folder.summary())]
    if lost:
        names = f"{'; '.join(lost[:SHOWN])}{'; ...' if len(lost) > SHOWN else ''}"
        what = f"{len(lost)} of {len(jobs)} runs" if len(jobs) > 1 else "this run"
        remedy = "train longer (--epochs N), or at a lower rate (optimizer.lr)"
        _print(console, f"{what} ended no better than guessing ({names}): {remedy}", style="yellow")


def knows_nothing(task: str, facts: Mapping[str, Any]) -> bool:
    """Whether a run ended as a network without knowledge would, by its task and its summary."""
    score, classes = facts[f"last_{headline_of(facts)}"], (facts.get("images") or {}).get("classes") or ()
    return bool(score < guessed(task, facts.get("class_shares", {}), len(classes)))


def guessed(task: str, shares: Mapping[str, float], classes: int) -> float:
    """What the score of a network without knowledge stays below; of boxes it is 0 without any.

    Args:
        task: its name.
        shares: of pixels, in percent, by class.
        classes: how many; of images.
    """
    if task == "segmentation":
        from ..tasks.segmentation import guessing

        return guessing(shares) + LUCK
    return SOME if task == "detection" else 100 / classes + LUCK if classes else 0.0


def controls(specs: Sequence[MethodSpec], draft: Callable[[MethodSpec], Run]) -> list[MethodSpec]:
    """The controls that stand beside every method in DeepKD's or DOT's streams, without those that are there.

    ``+reweighted`` keeps the streams' weights in one backward pass, ``normalize_gain`` keeps their memory and takes the
    weights back (DOT has no such option). Where momentum weighs nothing, as under AdamW, there is nothing to keep or to
    take back: the method without streams is the control.

    Args:
        specs: methods.
        draft: function of a method that returns the run it would be trained in.

    Example:
        >>> from fractionate.config.run import Network
        >>> draft = lambda spec: Run(student=Network("resnet8"), teacher=Network("resnet20"), method=spec)
        >>> [str(spec) for spec in controls([MethodSpec.parse("kd+deepkd"), MethodSpec.parse("kd+dot")], draft)]
        ['kd+deepkd+reweighted', 'kd+deepkd(normalize_gain=True)', 'kd+dot+reweighted']
    """
    found: list[MethodSpec] = []
    for spec in specs:
        if not spec.wrappers or spec.wrappers[-1].name not in STREAMS:
            continue
        *inner, last = spec.wrappers
        if last.args.get("normalize_gain"):
            continue
        run = draft(spec)
        streamed, momentum = allocation(run).streamed, run.optimizer.base
        around = "" if momentum == MOMENTUM else f"(momentum={momentum:g})"
        wanted = [MethodSpec.parse(f"{spec}+reweighted{around}") if streamed else replace(spec, wrappers=tuple(inner))]
        if streamed and last.name == "deepkd":
            memory = replace(last, args={**last.args, "normalize_gain": True})
            wanted.append(replace(spec, wrappers=(*inner, memory)))
        found += [each for each in wanted if each not in (*specs, *found)]
    return found


def _print(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def every_method() -> tuple[list[str], dict[str, str]]:
    """All methods by name and all wrappers over dkd, as far as images and one teacher are enough for them.

    Returns:
        Those that are, and for the others why not.

    Example:
        >>> able, unable = every_method()
        >>> "dkd+deepkd" in able, "dkd+mixture_of_teachers" in unable
        (True, True)
    """
    names = [*METHODS, *(f"dkd+{name}" for name in WRAPPERS if name not in METHODS)]
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4, 20, 10, generator=generator)
    target = torch.arange(20) % 10
    rows = Logits(z[0], z[1], target, strong=Logits(z[2], z[3], target))
    unable = {}
    for name in names:
        try:
            MethodSpec.parse(name).build().components(rows, Progress())
        except ValueError as error:
            unable[name] = str(error)
    return [name for name in names if name not in unable], unable
