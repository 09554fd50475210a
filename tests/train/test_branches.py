"""The recorded step of students side by side does what each student's ordinary step does, and asks the host nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from fractionate.config.run import Network, Run
from fractionate.models import create
from fractionate.train.branches import Branches
from fractionate.train.build import Training, prepare
from fractionate.train.cuda_graph import Noted, Outcome
from fractionate.train.lockstep import Common
from fractionate.train.loop import Loop, Record
from tests.train.test_captured import NET, Hostless, NoCast, Operations, _flat, blind, run_of, training_of

T = TypeVar("T")
METHODS = ("kd", "dkd+deepkd", "ce", "kd+deepkd(rule=published-code)", "dkd+deepkd(keep='phases(plateau=0.55)')")
TWO_VIEWS = ("mlkd", "crld")
__all__ = ["blind"]


class Many:
    """A recorder of the bare tensor operations of several students' steps, which are undone after recording."""

    def __init__(self, trainings: Sequence[Training], *, fails: bool = False) -> None:
        self.singles, self.fails = [Operations(training) for training in trainings], fails
        self.recordings, self.forks, self.plays = 0, 0, 0

    def beside(self, work: Callable[[], T]) -> T:
        return work()

    def fork(self, works: Sequence[Callable[[], T]]) -> list[T]:
        self.forks += 1
        return [work() for work in works]

    def record(self, work: Callable[[], list[Outcome]]) -> tuple[list[Outcome], Callable[[], None]]:
        made: list[list[Outcome]] = []

        def flat() -> list[Tensor]:
            made.append(work())
            return [x for outcome in made[-1] for x in _flat(outcome)]

        before = [(x, x.detach().clone()) for x in chain(*(one.state() for one in self.singles))]
        graph = make_fx(flat)()
        with torch.no_grad():
            for x, value in before:
                x.copy_(value)
        if self.fails:  # after all of the host's work
            raise RuntimeError("operation not permitted when stream is capturing")
        static = [torch.full_like(x, torch.nan) for outcome in made[-1] for x in _flat(outcome)]
        rest = iter(static)
        outcomes = [_refilled(outcome, rest) for outcome in made[-1]]
        self.recordings += 1

        @torch.no_grad()
        def play() -> None:
            self.plays += 1
            for x, value in zip(static, graph(), strict=True):
                x.copy_(value)

        return outcomes, play


def _refilled(outcome: Outcome, rest: Any) -> Outcome:
    """The same outcome in other tensors."""
    step, unseen = outcome
    loss, components = next(rest), {name: next(rest) for name in step.components}
    streams = {s: tuple(None if g is None else next(rest) for g in row) for s, row in step.grads.items()}
    filled = replace(step, loss=loss, components=components, grads=replace(step.grads, streams=streams))
    return filled, None if unseen is None else next(rest)


def with_teacher(method: str) -> Run:
    return replace(run_of(method), teacher=Network("convnet_8_16"))


def prepared(runs: Sequence[Run]) -> tuple[list[Loop], Common]:
    common, loops = Common(), []
    for run in runs:
        torch.manual_seed(3)
        teacher = create(NET, num_classes=10) if run.teacher else None
        loops.append(Loop(prepare(run, teacher=teacher, common=common), common))
    return loops, common


def in_turns(loops: Sequence[Loop], group: Branches) -> list[list[Record]]:
    """Let the loops take turns, those that are behind first; who begins a step changes."""
    turns, records = [loop.turns() for loop in loops], [[] for _ in loops]  # type: list[Any], list[list[Record]]
    waiting = list(range(len(loops)))
    while waiting:
        n = min(waiting, key=lambda n: (loops[n].training.step, (n - loops[n].training.step) % len(loops)))
        try:
            record = next(turns[n])
        except StopIteration:
            waiting.remove(n)
            group.leave(loops[n])
        else:
            records[n] += [record] if record else []
    return records


def assert_as_ordinary(run: Run, loop: Loop, records: Sequence[Record]) -> None:
    one = training_of(run)
    ordinary = list(Loop(replace_graph(one)).records())
    for a, b in zip(one.student.state_dict().values(), loop.training.student.state_dict().values(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5), run.method.title
    assert len(ordinary) == len(records)
    for a, b in zip(ordinary, records, strict=True):
        assert b.train_loss == pytest.approx(a.train_loss, rel=1e-5)
        assert b.components == pytest.approx(a.components, rel=1e-4, abs=1e-6)
        assert b.lr == a.lr


def replace_graph(training: Training) -> Training:
    return replace(training, run=replace(training.run, graph=False))


@pytest.mark.usefixtures("blind")
@pytest.mark.filterwarnings("ignore:graph=true")
@pytest.mark.parametrize("methods", [METHODS, TWO_VIEWS], ids=["one view", "two views"])
def test_students_recorded_together_end_as_each_does_alone(methods: Sequence[str]) -> None:
    """Over two epochs with a learning rate that moves at every step, and a smaller last batch; one ends an epoch early,
    and one is never recorded."""
    runs = [with_teacher(method) for method in methods]
    runs[-1] = replace(runs[-1], epochs=1)
    loops, common = prepared(runs)
    recorder = Many([loop.training for loop in loops])
    group = Branches(loops, common, recorder)
    records = in_turns(loops, group)
    assert group.reason is None
    assert recorder.plays > 3
    for run, loop, found in zip(runs, loops, records, strict=True):
        assert_as_ordinary(run, loop, found)


@pytest.mark.usefixtures("blind")
@pytest.mark.filterwarnings("ignore:graph=true")
def test_one_that_decides_anew_at_every_step_goes_on_by_itself() -> None:
    runs = [run_of("dkd"), run_of("skd"), run_of("kd+dot")]
    loops, common = prepared(runs)
    recorder = Many([loop.training for loop in loops])
    group = Branches(loops, common, recorder)
    records = in_turns(loops, group)
    assert [loop.captured.reason is None for loop in loops if loop.captured] == [True, False, True]
    assert recorder.plays > 3
    for run, loop, found in zip(runs, loops, records, strict=True):
        assert_as_ordinary(run, loop, found)


@pytest.mark.usefixtures("blind")
def test_a_recording_that_fails_leaves_ordinary_steps() -> None:
    runs = [run_of("dkd"), run_of("kd")]
    loops, common = prepared(runs)
    group = Branches(loops, common, Many([loop.training for loop in loops], fails=True))
    with pytest.warns(UserWarning, match="side by side take steps one operation after the other, because recording"):
        records = in_turns(loops, group)
    for run, loop, found in zip(runs, loops, records, strict=True):
        assert_as_ordinary(run, loop, found)


@pytest.mark.filterwarnings("ignore:deepkd")
@pytest.mark.parametrize("methods", [METHODS, TWO_VIEWS], ids=["one view", "two views"])
def test_no_step_of_students_side_by_side_asks_the_host(
    methods: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device without values; from the images' shift over the teacher to every student's new weights."""
    module = sys.modules["fractionate.train.build"]
    monkeypatch.setattr(torch, "autocast", NoCast)
    monkeypatch.setattr(module, "place", lambda name: torch.device("meta"))
    monkeypatch.setattr(module, "_compared_with", lambda training, teacher, common: training)
    monkeypatch.setattr(module, "_facts", lambda *parts: None)  # read once, before the first step
    monkeypatch.setattr(module, "folded", lambda net, images, **options: net)
    loops, common = prepared([with_teacher(method) for method in methods])
    recorder = Many([loop.training for loop in loops])
    group = Branches(loops, common, recorder)
    batches = [branch.batches(1) for branch in group.branches]
    for step, mode in enumerate((nullcontext(), nullcontext(), Hostless())):
        given = [next(own) for own in batches]
        assert all(one is given[0] for one in given)
        places = [Noted(step=step, epochs=2, steps=14) for _ in loops]
        for branch, place in zip(group.branches, places, strict=True):
            branch.numbers.set(place)
        with mode:
            outcomes = group._taken(given[0], group.branches, places)
        assert len(outcomes) == len(methods)
        assert all("step" not in place.read for place in places)
    assert recorder.forks == 3
