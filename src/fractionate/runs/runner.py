"""A run from its config to a finished folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from .._files import expanded
from ..config.files import differences
from ..config.run import Run
from ..optim import PeerLost
from ..tasks import Diverged
from ..train.build import prepare
from ..train.checks import check_training
from ..train.device import settled_precision
from ..train.facts import remembered
from ..train.lockstep import Common
from ..train.loop import Loop, Record
from ..world import Wishes, current
from .folder import CONFIG, SUMMARY, RunFolder
from .origin import check_teacher, origin_of, restore_student, say_other_images
from .stop import Reason, Stop, Stopped

Listener = Callable[[Record], None]
StepListener = Callable[[float, float], None]
T = TypeVar("T")
Turns = Generator[Loop, None, T]  # a run that others may run beside
SAVE_SECONDS = 300.0
REASONS: tuple[Reason, ...] = ("budget", "SIGINT", "SIGTERM", "SIGHUP")
SAVE = 1  # a wish, above which those to stop begin


def run_in_folder(
    run: Run,
    folder: str | Path,
    *,
    on_record: Listener | None = None,
    on_step: StepListener | None = None,
    overwrite: bool = False,
    resume: bool = False,
    command: Sequence[str] = (),
    stop: Stop | None = None,
    save_seconds: float | None = SAVE_SECONDS,
    save_steps: int | None = None,
    teacher_at_least: float | None = None,
) -> dict[str, Any]:
    """Train and leave a complete run folder behind.

    Args:
        run: config.
        folder: where to write.
        on_record: called after every epoch, for progress display.
        on_step: called after every step but an epoch's last, with the epochs done so far (2.25, say) and the images per
            second of the epoch under way; before them where a resumed run goes on, with 0 images per second.
        overwrite: replace a run that is there.
        resume: go on from the folder's ``last.ckpt``; without one, start at the beginning. A finished run with the same
            config is left as it is.
        command: how the program was called, for the summary.
        stop: when to end early; by default on SIGINT and SIGTERM. ``Stop(deadline("9m"))`` adds a time budget; whoever
            gives one listens to the signals too (``with stop:``).
        save_seconds: write ``last.ckpt`` inside an epoch when the last one is this old.
        save_steps: likewise, after every so many steps.
        teacher_at_least: smallest accuracy in percent that the teacher must have on the test images.

    Returns:
        The summary.

    Raises:
        ValueError: the folder holds a run and neither ``overwrite`` nor ``resume`` is on, or a finished run with
            another config; parts that do not fit each other; a config that cannot change under way.
        Diverged: training produced a number that is not finite; the state is in ``DIVERGED.ckpt``.
        Stopped: asked to end early; all is saved.
        PeerLost: another process of the run is gone; what ``last.ckpt`` holds is not.
        OSError: a file cannot be written; the last good state is kept.
    """
    with Stop() if stop is None else nullcontext(stop) as stop:
        return drained(
            in_turns(
                run,
                folder,
                on_record=on_record,
                on_step=on_step,
                overwrite=overwrite,
                resume=resume,
                command=command,
                stop=stop,
                save_seconds=save_seconds,
                save_steps=save_steps,
                teacher_at_least=teacher_at_least,
            )
        )


def drained(turns: Turns[T]) -> T:
    """What they return, once all are taken one after the other."""
    while True:
        try:
            next(turns)
        except StopIteration as end:
            found: T = end.value
            return found


def in_turns(
    run: Run,
    folder: str | Path,
    *,
    stop: Stop,
    on_record: Listener | None = None,
    on_step: StepListener | None = None,
    overwrite: bool = False,
    resume: bool = False,
    command: Sequence[str] = (),
    save_seconds: float | None = SAVE_SECONDS,
    save_steps: int | None = None,
    teacher_at_least: float | None = None,
    common: Common | None = None,
) -> Turns[dict[str, Any]]:
    """As :func:`run_in_folder`, a turn at a time: the run's loop before the first step, and after every step.

    Args:
        run, folder, stop, on_record, on_step, overwrite, resume, command: as there.
        save_seconds, save_steps, teacher_at_least: likewise.
        common: what is shared with the runs whose turns lie between.
    """
    run = settled_precision(run)
    target, world = RunFolder(expanded(folder)), current()
    if reason := _first(world.everyones(stop.reason)):
        raise Stopped(reason)
    resume = resume and not overwrite
    if resume and run.method.unsettled and (target.path / CONFIG).is_file():
        run = remembered(run, target.config())
    if resume and (done := world.on_main(lambda: _finished(target, run))):
        return done
    world.on_main(lambda: target.check_free(overwrite=overwrite or resume))
    loop = Loop(prepare(run, common=common), common) if common else Loop(prepare(run))
    run = loop.training.run
    check_training(loop.training, teacher_at_least)
    if reason := _first(world.everyones(stop.reason)):  # asked while pictures were read: nothing is written yet
        raise Stopped(reason)
    with ExitStack() as held:
        world.on_main(lambda: held.enter_context(target.locked()))
        if resume and (done := world.on_main(lambda: _finished(target, run))):  # by another run meanwhile
            return done
        if not (resume and target.resume(loop)):
            world.on_main(lambda: target.start(run, overwrite=overwrite or resume, origin=origin_of(loop)))
        saver = Saver(target, loop, stop, save_seconds, save_steps)
        try:
            return (yield from _train(target, loop, saver, on_record, on_step, command))
        except Diverged as error:
            raise _kept(error, target, loop) from error
        except PeerLost as error:
            raise PeerLost(f"{error}; {target.newest()}, and --resume goes on") from error


class Saver:
    """Called after every step: saves when it is time to, and ends the training when it is asked to.

    Of several processes the main one's clock counts, and any of them may be asked to end.

    Args:
        target: folder.
        loop: training.
        stop: when to end.
        seconds: age of a checkpoint at which the next one is written.
        steps: number of steps between two.
    """

    def __init__(self, target: RunFolder, loop: Loop, stop: Stop, seconds: float | None, steps: int | None) -> None:
        self.target, self.loop, self.stop = target, loop, stop
        self.seconds, self.steps = seconds, steps
        self._saved = time.monotonic()
        self._wishes = Wishes(loop.world)

    def __call__(self) -> None:
        """After a step."""
        old = self.seconds is not None and time.monotonic() - self._saved >= self.seconds
        now = bool(self.steps) and self.loop.training.step % (self.steps or 1) == 0
        self._grant(old or now)

    def after_epoch(self) -> None:
        """After an epoch that is not the last one."""
        run, epoch = self.loop.training.run, self.loop.training.epoch
        self._grant(bool(run.save_every) and epoch % run.save_every == 0)

    def save(self) -> None:
        """Write ``last.ckpt``."""
        self._wishes.settle()
        self.target.save(self.loop)
        self._saved = time.monotonic()

    def _grant(self, save: bool) -> None:
        """Do what was wished for; of several processes, one step later."""
        wish = SAVE if save and self.loop.world.main else 0
        if reason := self.stop.reason:
            wish = SAVE + 1 + REASONS.index(reason)
        agreed = self._wishes.exchange(wish)
        if agreed > SAVE:
            self.end(REASONS[agreed - SAVE - 1])
        elif agreed == SAVE:
            self.save()

    def end(self, reason: Any) -> None:
        """Save and stop."""
        self.save()
        t = self.loop.training
        steps = t.run.epochs * len(t.train)
        raise Stopped(reason, f"in {self.target.path} after step {t.step:,} of {steps:,}")


def _train(
    target: RunFolder,
    loop: Loop,
    saver: Saver,
    on_record: Listener | None,
    on_step: StepListener | None,
    command: Sequence[str],
) -> Turns[dict[str, Any]]:
    training, test = loop.training, None
    if training.step and on_step:
        on_step(loop.epochs_done, 0.0)
    yield loop
    with closing(loop.turns()) as turns:
        for record in turns:
            if record is None:
                if on_step:
                    on_step(loop.epochs_done, loop.log.images_per_s)
                saver()
            else:
                test = record.test
                loop.world.on_main(partial(target.append, record))
                if on_record:
                    on_record(record)
                if training.epoch < training.run.epochs:
                    saver.after_epoch()
            yield loop
    saver.save()
    # nothing left to train when a run was interrupted between its last epoch and its summary
    last = test or loop.evaluate()
    return loop.world.on_main(lambda: target.finish(loop, last, command))


def _first(reasons: Sequence[Reason | None]) -> Reason | None:
    return next((reason for reason in reasons if reason), None)


def _finished(target: RunFolder, run: Run) -> dict[str, Any] | None:
    """The summary, if the run is finished; its weights are written again if they are gone, other images are said."""
    if not target.finished:
        return None
    if other := differences(target.config(), run):
        raise ValueError(f"{target.path} holds a finished run with another {', '.join(other)}; --overwrite replaces it")
    facts = target.summary()
    check_teacher(facts, run, target.path)
    restore_student(facts, target.path)
    say_other_images(facts, run, target.path / SUMMARY)
    return facts


def _kept(error: Diverged, target: RunFolder, loop: Loop) -> Diverged:
    """The same error, with the place of the state to look at."""
    try:
        return Diverged(f"{error}; the state is in {target.save_diverged(loop)}")
    except OSError as full:
        return Diverged(f"{error}; its state was not saved: {full}")
