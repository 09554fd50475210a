"""A run from its config to a finished folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .config import Run
from .configfile import differences
from .evaluate import evaluate
from .fit import Record, fit
from .prepare import prepare
from .runfolder import RunFolder

Listener = Callable[[Record], None]


def execute(
    run: Run,
    folder: str | Path,
    *,
    on_record: Listener | None = None,
    overwrite: bool = False,
    resume: bool = False,
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """Train and leave a complete run folder behind.

    Args:
        run: config.
        folder: where to write.
        on_record: called after every epoch, for progress display.
        overwrite: replace a run that is there.
        resume: go on from the folder's ``last.ckpt``; without one, start at the beginning. A finished run with the same
            config is left as it is.
        command: how the program was called, for the summary.

    Returns:
        The summary.

    Raises:
        ValueError: the folder holds a run and neither ``overwrite`` nor ``resume`` is on, or a finished run with
            another config.
        Diverged: training produced a number that is not finite.
    """
    target = RunFolder(Path(folder))
    resume = resume and not overwrite
    if resume and target.finished:
        if other := differences(target.config(), run):
            raise ValueError(f"{folder} holds a finished run with another {', '.join(other)}; --overwrite replaces it")
        return target.summary()
    training = prepare(run)
    if not (resume and target.resume(training)):
        target.start(run, overwrite=overwrite or resume)
    test = None
    for record in fit(training):
        test = record.test
        target.append(record)
        if run.save_every and training.epoch % run.save_every == 0 and training.epoch < run.epochs:
            target.save(training)
        if on_record:
            on_record(record)
    target.save(training)
    # nothing left to train when a run was interrupted between its last epoch and its summary
    test = test or evaluate(training.student, training.test, training.teacher_top1)
    return target.finish(training, test, command)
