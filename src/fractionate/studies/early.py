"""What can be known before a teacher is trained for hours: whether its students could learn from it at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..train import Run, prepare
from ..train.checks import check_batches, check_classes, check_labels, check_method
from ..train.networks import place
from ..train.sources import sources
from .doctor import Thinned

FEW = 64  # test images


def check_students(runs: Sequence[Run]) -> None:
    """Try every student's run on a few images, with a teacher as it is before its training.

    Args:
        runs: of students, all on the same images.

    Raises:
        ValueError: networks, batches or a method that do not fit the data, as
            :func:`fractionate.train.checks.check_training` says it.
    """
    if not runs:
        return
    train, test = sources(runs[0].data, runs[0].seed, place(runs[0].device))
    count = sum(len(batch) for batch in test.batches(1))
    few = Thinned(test, max(1, count // FEW))
    for run in runs:
        made = train if run.data == runs[0].data else sources(run.data, run.seed, place(run.device))[0]
        training = prepare(replace(run, teacher_table="off"), train=made, test=few)
        check_classes(training)
        check_labels(training)
        check_batches(training)
        check_method(training)
