"""A recorded step does what the ordinary one does, under every schedule, and asks the host for nothing.

Here a recorder takes the place of CUDA graphs that keeps the bare tensor operations of a step and runs those again: as
in a CUDA graph, no line of Python runs between them, numbers that were Python's are constants, and reading a value is
refused.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from fractionate.config.data import Data
from fractionate.config.method import MethodSpec
from fractionate.config.optimizers import LearningRate
from fractionate.config.run import Monitors, Network, Run
from fractionate.methods import catalog
from fractionate.models import create
from fractionate.rows import Progress
from fractionate.runs.checkpoint import restore, save_checkpoint
from fractionate.train.build import Training, parameters, prepare
from fractionate.train.cuda_graph import Captured, Noted, Outcome
from fractionate.train.health import Guard
from fractionate.train.loop import Loop
from fractionate.train.step import Step
from tests.train.runs import tiny

NET = "convnet_gap_8_16"
T = TypeVar("T")
WRAPPED = (
    "dkd+deepkd",
    "kd+dot",
    "dkd+lskd+deepkd",
    "kd+deepkd(rule=published-code)",
    "dkd+deepkd(keep=5)",
    "kd+sdd",
    "dkd+swap",
    "kd+ctkd",
)
READS_STEPS = ("skd", "sgdkd")  # a random set of classes at every step
# A second head of the student is what tests/train/test_token.py has.
FITTING = [name for name, make in catalog.METHODS.items() if name not in READS_STEPS and not make().token]
PLAYED = (
    "ce",
    "mlkd",
    "ctkd",
    "gdkd",
    "skd",
    "dkd+deepkd(keep='phases(plateau=0.55)')",
    "kd+deepkd(rule=published-code)",
)


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are not looked at, as on an accelerator."""
    for name, module in list(sys.modules.items()):
        if name.startswith("fractionate") and hasattr(module, "can_look"):
            monkeypatch.setattr(module, "can_look", lambda x: False)
    monkeypatch.setattr("fractionate.train.health._on_cpu", lambda grads: False)


class Operations:
    """A recorder of tensor operations. Recording them runs them here, which is undone."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.recordings = 0

    def beside(self, work: Callable[[], T]) -> T:
        return work()

    def record(self, work: Callable[[], Outcome]) -> tuple[Outcome, Callable[[], None]]:
        made: list[Outcome] = []

        def flat() -> list[Tensor]:
            made.append(work())
            return _flat(made[-1])

        before = [(x, x.detach().clone()) for x in self.state()]
        graph = make_fx(flat)()
        with torch.no_grad():
            for x, value in before:
                x.copy_(value)
        step, unseen = made[-1]
        static = [torch.full_like(x, torch.nan) for x in _flat(made[-1])]
        n = len(step.components)
        grads = iter(static[1 + n :])
        streams = {s: tuple(None if g is None else next(grads) for g in row) for s, row in step.grads.items()}
        outcome = Step(
            static[0], dict(zip(step.components, static[1:], strict=False)), replace(step.grads, streams=streams)
        )
        self.recordings += 1

        @torch.no_grad()
        def play() -> None:
            for x, value in zip(static, graph(), strict=True):
                x.copy_(value)

        return (outcome, None if unseen is None else static[-1]), play

    def state(self) -> Iterator[Tensor]:
        t = self.training
        yield from parameters(t.student, t.method)
        yield from t.student.buffers()
        for entry in t.optimizer.state.values():
            yield from entry.values()


def _flat(outcome: Outcome) -> list[Tensor]:
    step, unseen = outcome
    grads = [g for row in step.grads.values() for g in row if g is not None]
    return [step.loss, *step.components.values(), *grads, *([] if unseen is None else [unseen])]


def recorded(training: Training) -> tuple[Loop, Operations]:
    loop, recorder = Loop(training), Operations(training)
    loop.captured = Captured(training, loop.trained, loop.guard, recorder)
    return loop, recorder


def run_of(method: str, **changes: Any) -> Run:
    spec = MethodSpec.parse(method)
    data = Data(labels_per_class=4, batch_size=6, shift=1)
    run = tiny(spec, learning_rate=LearningRate("cosine", per="step"), data=data, epochs=2)
    if spec.build().views == 2:
        run = replace(run, data=replace(run.data, strong="cutout"))
    return replace(run, student=Network(NET), **changes)


def training_of(run: Run, **parts: Any) -> Training:
    """The same at every call: teachers without a file have the weights that chance gives them."""
    torch.manual_seed(3)
    return prepare(run, teacher=create(NET, num_classes=10) if run.teacher else None, **parts)


def same(a: Training, b: Training, tolerance: float = 1e-6) -> None:
    for one, two in zip(a.student.state_dict().values(), b.student.state_dict().values(), strict=True):
        assert torch.allclose(one, two, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("blind")
@pytest.mark.filterwarnings("ignore:graph=true")
@pytest.mark.parametrize("method", PLAYED)
def test_a_recorded_run_is_the_ordinary_run(method: str) -> None:
    """Over two epochs with a learning rate that moves at every step, warm-ups, and a smaller last batch."""
    run = run_of(method)
    one, two = training_of(run), training_of(run)
    ordinary = list(Loop(one).records())
    loop, recorder = recorded(two)
    played = list(loop.records())
    assert loop.captured is not None
    assert ("anew at every step" in str(loop.captured.reason)) == (method in READS_STEPS)
    moves = method == "ctkd" or "phases" in method  # something beside the weights depends on the epoch
    assert recorder.recordings == (0 if method in READS_STEPS else 2 if moves else 1)
    for a, b in zip(one.student.state_dict().values(), two.student.state_dict().values(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5)
    for a, b in zip(ordinary, played, strict=True):
        assert b.train_loss == pytest.approx(a.train_loss, rel=1e-5)
        assert b.components == pytest.approx(a.components, rel=1e-4, abs=1e-6)
        assert b.lr == a.lr


class Hostless(TorchDispatchMode):
    """Refuses every operation whose result the host would wait for, or that brings numbers of the host's."""

    WAITS = (
        "_local_scalar_dense",
        "is_nonzero",
        "equal",
        "nonzero",
        "masked_select",
        "_unique2",
        "bincount",
        "lift_fresh",
    )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [x for x in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        places = {x.device.type for x in tensors if x.ndim}
        name = func.__name__.split(".")[0]
        counted = name.startswith("index") and any(x.dtype == torch.bool for x in tensors[1:])  # rows of a mask
        if name in self.WAITS or counted or len(places) > 1:
            raise AssertionError(f"{func} asks the host, or moves from one device to another: {places}")
        return func(*args, **(kwargs or {}))


class NoCast(torch.autocast):
    """Autocast for a device that has none."""

    def __init__(self, *args: Any, **options: Any) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


@pytest.mark.parametrize("operation", [lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: x + torch.tensor([1.0])])
def test_what_waits_for_the_host_is_noticed(operation: Callable[[Tensor], Any]) -> None:
    with pytest.raises(AssertionError, match="asks the host"), Hostless():
        operation(torch.ones(3))


@pytest.mark.filterwarnings("ignore:deepkd")
@pytest.mark.parametrize("method", ["ce", *FITTING, *WRAPPED])
def test_no_step_asks_the_host_for_anything(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device without values, where a question would have no answer; from the images' shift to the new weights."""
    module = sys.modules["fractionate.train.build"]
    monkeypatch.setattr(torch, "autocast", NoCast)
    monkeypatch.setattr(module, "place", lambda name: torch.device("meta"))
    monkeypatch.setattr(module, "_compared_with", lambda training, *others: training)
    monkeypatch.setattr(module, "_facts", lambda *parts: None)  # read once, before the first step
    monkeypatch.setattr(module, "folded", lambda net, images, **options: net)
    monkeypatch.setattr(module, "_check_regions", lambda *parts: None)
    training = training_of(run_of(method))
    trained = parameters(training.student, training.method)
    with Guard(training.optimizer, training.student, 0) as guard:
        captured = Captured(training, trained, guard, Operations(training))
        batches = captured.batches(1)
        for step, mode in enumerate((nullcontext(), nullcontext(), Hostless())):
            progress = Noted(step=step, epochs=2, steps=14)
            captured.numbers.set(progress)
            given = next(batches)
            progress.read.clear()
            with mode:
                outcome, unseen = captured.taken(given, progress)
            assert "step" not in progress.read
        assert outcome.loss.device.type == "meta"
        assert unseen is not None


def test_draws_show_the_batches() -> None:
    data = training_of(run_of("kd")).train
    assert data.drawn
    for draw, batch in zip(data.draws(2), data.batches(2), strict=True):
        shown = data.shown(draw)
        for name in ("images", "target", "index", "variant"):
            assert torch.equal(getattr(shown, name), getattr(batch, name))
    strong = training_of(run_of("mlkd")).train
    assert not strong.drawn
    with pytest.raises(ValueError, match="augmented or mixed by more than a draw"):
        strong.shown(next(strong.draws(1)))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "there is no CUDA device"),
        ({"accumulate": 2}, "steps in parts and clipped gradients are not recorded"),
        ({"skip_nonfinite": 1}, "skip_nonfinite looks at the gradients of every step"),
        ({"teacher_table": "lazy", "teacher_table_place": "memory"}, "use teacher_table=full"),
    ],
)
def test_the_reason_why_nothing_is_recorded_is_said(changes: dict[str, Any], why: str) -> None:
    run = run_of("kd", graph=True, **changes)
    training = training_of(run)
    if changes:
        with pytest.warns(UserWarning, match=why):
            Captured(
                training,
                [*training.student.parameters()],
                Guard(training.optimizer, training.student, 0),
                Operations(training),
            )
        return
    with pytest.warns(UserWarning, match=f"graph=true: steps are taken one operation after the other, because {why}"):
        loop = Loop(training)
    plain = training_of(replace(run, graph=False))
    assert [r.train_loss for r in loop.records()] == [r.train_loss for r in Loop(plain).records()]


@pytest.mark.usefixtures("blind")
def test_a_full_table_is_read_by_a_recorded_step() -> None:
    run = run_of("dkd", teacher_table="full", teacher_table_place="memory")
    one, two = training_of(run), training_of(run)
    losses = [r.train_loss for r in Loop(one).records()]
    loop, recorder = recorded(two)
    assert [r.train_loss for r in loop.records()] == pytest.approx(losses, rel=1e-5)
    assert recorder.recordings == 1


@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize("late", [False, True], ids=["at once", "after all of the host's work"])
def test_a_recording_that_fails_costs_no_step(late: bool) -> None:
    run = run_of("kd+deepkd")
    one, two = training_of(run), training_of(run)
    losses = [r.train_loss for r in Loop(one).records()]
    loop, recorder = recorded(two)

    def fails(work: Callable[[], Outcome]) -> Any:
        if late:  # nothing of it runs on a GPU that records, but what the host notes is noted
            before = [(x, x.detach().clone()) for x in recorder.state()]
            work()
            with torch.no_grad():
                for x, value in before:
                    x.copy_(value)
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    recorder.record = fails
    with pytest.warns(UserWarning, match="because recording failed: operation not permitted when stream is capturing$"):
        assert [r.train_loss for r in loop.records()] == pytest.approx(losses, rel=1e-6)
    same(one, two)


@pytest.mark.usefixtures("blind")
def test_a_recorded_run_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    run = run_of("dkd+deepkd")
    whole = recorded(training_of(run))[0]
    losses = [r.train_loss for r in whole.records()]
    first = recorded(training_of(run))[0]
    next(first.records())
    save_checkpoint(first, tmp_path / "last.ckpt")
    second = recorded(training_of(run))[0]
    restore(second, tmp_path / "last.ckpt")
    assert [r.train_loss for r in second.records()] == pytest.approx(losses[1:], rel=1e-5)


@pytest.mark.usefixtures("blind")
def test_a_run_that_goes_on_with_an_epoch_s_small_last_batch_records_the_whole_ones() -> None:
    training = training_of(run_of("kd"))
    loop, recorder = recorded(training)
    assert loop.captured is not None
    *whole, last = loop.captured.batches(1)
    assert len(last) < len(whole[0])
    with loop.guard:
        for step, draw in enumerate([last, *whole]):
            loop.captured(draw, Progress(step=step, epochs=2, steps=14))
            assert recorder.recordings == (step > 3)  # three whole ones as usual, the fourth recorded


@pytest.mark.usefixtures("blind")
def test_monitors_see_the_gradients_of_every_played_step() -> None:
    run = run_of("dkd+deepkd", monitors=Monitors(gsnr_window=2, norms=True, cosines=True))
    seen = [[r.monitors for r in loop.records()] for loop in (Loop(training_of(run)), recorded(training_of(run))[0])]
    for a, b in zip(*seen, strict=True):
        assert b == pytest.approx(a, rel=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("method", ["ce", "dkd+deepkd", "kd+deepkd(rule=published-code)", "mlkd", "ctkd"])
@pytest.mark.parametrize("table", ["off", "full"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_plays_what_it_would_compute(method: str, table: str, precision: str) -> None:
    if table == "full" and method == "ce":
        pytest.skip("labels alone read no teacher")
    changes = {"device": "cuda", "precision": precision, "teacher_table": table, "teacher_table_place": "memory"}
    run = run_of(method, **changes)
    losses = [[r.train_loss for r in Loop(training_of(replace(run, graph=g))).records()] for g in (False, True)]
    loop = Loop(training_of(replace(run, graph=True)))
    list(loop.records())
    assert loop.captured is not None
    assert loop.captured.reason is None
    assert losses[1] == pytest.approx(losses[0], rel=1e-3 if precision == "float32" else 3e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_is_not_waited_for_inside_an_epoch() -> None:
    loop = Loop(training_of(run_of("dkd+deepkd", device="cuda", graph=True)))
    records = loop.records(lambda: torch.cuda.set_sync_debug_mode("error"))
    try:
        with pytest.raises(RuntimeError, match="synchronizing CUDA operation"):
            next(records)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert loop.log.seen == len(loop.training.train)  # the epoch's numbers are read at its end, once
