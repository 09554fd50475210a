"""``fractionate doctor``: is everything there and does it fit, in seconds instead of after an hour of training."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .._headlines import headline
from .._terminal import in_bytes, in_time
from ..config.ranges import BOXED, DENSE
from ..config.run import Run
from ..data import PHOTO_NORMALIZATION, Source, class_counts, normalization_of, unlabelled_count
from ..kernels import state
from ..methods.effective import said, warning_of
from ..monitors import norms
from ..rows import Progress
from ..train.allocation import allocation
from ..train.build import Training, parameters, prepare
from ..train.checks import check_training
from ..train.device import fixed_threads, place
from ..train.scenes import described
from ..train.step import Stepper
from .cost import free_bytes, graph_bytes, kept_bytes
from .dense import classes_said, measured_on
from .sample import Sampled, Thinned, sampled

if TYPE_CHECKING:
    from rich.console import Console

IMAGES = 512
FAR = 1.0  # from mean 0, in standard deviations, that normalised images may be on average
FAR_OF_GIVEN = 2.0  # the same by numbers of other images: black is 2.1 below them
WIDE = (0.3, 3.0)  # standard deviations that they may have
SHARE = 0.9  # of the free memory that may be filled


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        what: its name.
        ok: whether it is as it should be.
        found: what was seen.
        advice: what to do about it.
    """

    what: str
    ok: bool
    found: str
    advice: str = ""


def doctor(run: Run, console: Console, *, out: Path = Path("runs"), images: int = IMAGES) -> list[Finding]:
    """Look at everything a run needs, train one step that is thrown away, and print what was found.

    Args:
        run: config.
        console: where the table goes.
        out: where the run is going to be written.
        images: how many test images the teacher is tried on.

    Returns:
        The findings, those that are not ok included.

    Example:
        >>> from rich.console import Console
        >>> from fractionate.config.data import Data
        >>> from fractionate.config.run import Network, Run
        >>> from fractionate.config.method import MethodSpec
        >>> run = Run(student=Network("convnet_4_8"), method=MethodSpec("ce"), data=Data(labels_per_class=5))
        >>> [f.what for f in doctor(run, Console(quiet=True)) if not f.ok]
        ['batches']
    """
    from rich.table import Table

    started = time.perf_counter()
    findings = list(examine(run, out, images))
    seconds = time.perf_counter() - started
    table = Table(
        title=f"{run.data.name}, {run.method.title}, {run.student.name} ({seconds:.1f} s)", title_justify="left"
    )
    for head in ("check", "", "found", "what to do"):
        table.add_column(head, overflow="fold")
    for f in findings:
        table.add_row(f.what, "[green]ok" if f.ok else "[bold red]problem", _plain(f.found), _plain(f.advice))
    console.print(table)
    return findings


def examine(run: Run, out: Path, images: int = IMAGES) -> Iterator[Finding]:
    """Every check in order; what cannot be looked at because of an earlier problem is left out."""
    device = _device(run.device)
    made: list[tuple[Source, Source]] = []
    yield _look("data", lambda: _data(made, run, device))
    if not made:
        return
    train, test = made[0]
    if run.data.name in (*DENSE, *BOXED):  # of photos the plan says it
        yield from (_problem("parts", sentence) for sentence in described(run.data)[1:])
    yield _look("classes", lambda: _classes(train))
    yield _look("normalisation", lambda: _normalization(train))
    count = sum(len(b) for b in test.batches(1))  # of a folder's those that were decoded
    run = replace(run, teacher_table="off") if isinstance(train, Sampled) else run
    ready: list[Training] = []
    yield _look("networks", lambda: _networks(ready, run, train, Thinned(test, max(1, count // images))))
    if not ready:
        return
    training = ready[0]
    yield _look("disk", lambda: _disk(training, out))
    if training.teacher_test is not None:
        yield _look("teacher", lambda: _teacher(training))
    batches = _look("batches", lambda: _batches(training))
    yield batches
    if batches.ok:
        yield _weighed(_look("one step", lambda: _step(training)), training)
        if device.type == "cpu":
            yield Finding("losses", True, state())
        yield _look("memory", lambda: _memory(training))


def _device(name: str) -> torch.device:
    """The config's device; the CPU where it is not there, which the networks' finding says."""
    try:
        return place(name)
    except ValueError:
        return torch.device("cpu")


def _look(what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, check())
    except (ValueError, OSError, ImportError, ArithmeticError, RuntimeError) as error:
        return _problem(what, " ".join(str(error).split()))


def _problem(what: str, message: str) -> Finding:
    found, _, advice = message.rpartition("; ")
    return Finding(what, False, found or message, advice if found else "")


def _disk(training: Training, out: Path) -> str:
    there = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not os.access(there, os.W_OK):
        raise ValueError(f"{there} cannot be written to; choose another folder")
    free = shutil.disk_usage(there).free
    need = (training.run.keep + 1) * kept_bytes(training)  # one more while it is written
    if free < need:
        raise ValueError(
            f"{in_bytes(free)} free at {there}, {in_bytes(need)} needed; make room, or choose another folder"
        )
    return f"{in_bytes(free)} free at {there}, about {in_bytes(need)} needed"


def _data(made: list[tuple[Source, Source]], run: Run, device: torch.device) -> str:
    train, test = sampled(run.data, run.seed, device)
    made.append((train, test))
    first = next(iter(train.batches(1))).images
    shape = " x ".join(map(str, first.shape[1:]))
    return f"{len(train)} batches of up to {len(first)} training images ({shape}); {test.count} images to evaluate on"


def _classes(train: Source) -> str:
    if said := classes_said(train):
        return said
    passes = getattr(train, "passes", 1)
    known = class_counts(train)
    if (without := unlabelled_count(train)) == train.count:
        return f"{without:,} images without labels"
    count = _counted(train) if known is None else [n * passes for n in known]
    if empty := [label for label, n in enumerate(count) if not n]:
        found = f"{len(empty)} of {train.num_classes} classes have no training image ({str(empty[:5])[1:-1]})"
        raise ValueError(f"{found}; look at the data")
    return f"{train.num_classes} classes with {min(count)} to {max(count)} images per epoch"


def _counted(train: Source) -> list[int]:
    targets = [b.target for b in train.batches(1)]
    labels = torch.cat([t.argmax(1) if t.ndim == 2 else t for t in targets]).cpu()
    return torch.bincount(labels.flatten(), minlength=train.num_classes).tolist()


def _normalization(train: Source) -> str:
    images = next(iter(train.batches(1))).images.float()
    mean, std = float(images.mean()), float(images.std())
    found = f"mean {mean:.2f}, standard deviation {std:.2f} of the first batch"
    given = normalization_of(train) == PHOTO_NORMALIZATION  # not measured on these images, which may be dark or pale
    if abs(mean) > (FAR_OF_GIVEN if given else FAR) or not WIDE[0] < std < WIDE[1]:
        raise ValueError(f"{found}, expected about 0 and 1; look at the images, or at how they are normalised")
    return found


def _networks(ready: list[Training], run: Run, train: Source, test: Source) -> str:
    training = prepare(run, train=train, test=test)
    check_training(training, needs=("networks",))
    ready.append(training)
    size = sum(p.numel() for p in training.student.parameters())
    against = f", teacher {training.teacher_params:,}" if training.teacher_params else ""
    return f"student {size:,} parameters{against}"


def _teacher(training: Training) -> str:
    check_training(training, needs=("teacher",))
    found = training.teacher_test
    assert found is not None
    metric, count = headline(found.headline), f"{sum(found.calibration.count)} {measured_on(found)}"
    seen = f"{metric.value(found.score)} {metric.label} on {count}, evenly taken out of all"
    network = training.run.teacher
    seen += f"; {training.teacher_facts}" if training.teacher_facts else ""
    untrained = network is not None and not (network.checkpoint or network.pretrained)
    return f"{seen} (no weights were given: a random network)" if untrained else seen


def _weighed(step: Finding, training: Training) -> Finding:
    """With what momentum makes of the weights; too much of it is no fault of the run, so it is advice."""
    found = allocation(training.run, training.method)
    rate = training.run.optimizer.lr if training.run.optimizer.name == "sgd" else 0.0
    advice = "; ".join(text for text in (step.advice, warning_of(found, rate)) if text)
    return replace(step, found=f"{step.found}; {said(found)}", advice=advice)


def _batches(training: Training) -> str:
    check_training(training, needs=("config", "data"))
    return f"{len(training.train)} steps per epoch, {len(training.train) * training.run.epochs:,} in all"


def _step(training: Training) -> str:
    """Two steps, the second one timed; the training is thrown away afterwards."""
    take = Stepper(training, parameters(training.student, training.method))
    batch = next(iter(training.train.batches(1)))
    with fixed_threads(training.run.threads):
        for _ in range(2):
            started = time.perf_counter()
            step = take(batch, Progress())
            sizes = norms(step.grads)
            seconds = time.perf_counter() - started
    if bad := [name for name, size in sizes.items() if not size < float("inf")]:
        raise ValueError(
            f"the gradient of stream {bad[0]!r} is {sizes[bad[0]]}; lower optimizer.lr, or look at the data"
        )
    total = seconds * len(training.train) * training.run.epochs
    streams = ", ".join(f"{name} |g| {size:.3g}" for name, size in sizes.items())
    return f"{streams}; {seconds:.3f} s, so about {in_time(total)} for the run"


def _memory(training: Training) -> str:
    device = next(training.student.parameters()).device
    need = kept_bytes(training) + graph_bytes(training)
    free = free_bytes(device)
    if free is None:
        return f"about {in_bytes(need)} needed for weights, momentum and the largest step"
    if need > SHARE * free:
        raise ValueError(
            f"about {in_bytes(need)} needed, {in_bytes(free)} free; lower data.batch_size, or free some memory"
        )
    return f"about {in_bytes(need)} needed for weights, momentum and the largest step, {in_bytes(free)} free"


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
