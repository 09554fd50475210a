"""Small programs that look at what is there: the list of methods, the metrics of a finished run."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from .._files import expanded
from .._headlines import headline
from .._terminal import one_line
from ..config.data import Data
from ..config.run import Network
from ..data import Photos, SmallImages
from ..data.boxes import BoxImages
from ..data.dense import DenseImages
from ..methods import effective_weights
from ..methods.catalog import METHODS, WRAPPERS, describe, matching
from ..methods.effective import said
from ..runs.folder import RunFolder
from ..runs.origin import images_problem, problems
from ..tasks import DenseEvaluation, DetectionEvaluation, Task
from ..tasks.classification import Calibration, Evaluation, throughput
from ..teachers.live import in_channels_last
from ..train.build import task_of
from ..train.device import fixed_threads, place
from ..train.health import check_weights
from ..train.networks import build_for
from ..train.pixels import check_order, normalised_as_trained
from ..train.sources import evaluation_source
from .dense import class_table, measured_on, metrics_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

REMEDY = "measure it on images of the same classes in the same order"


def print_methods(console: Console, words: Sequence[str] = ()) -> None:
    """Methods and wrappers, by words of their names: what each is, its defaults, cost, needs, where it comes from."""
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=True, title="--method NAME, NAME(option=value) or NAME+WRAPPER")
    table.add_column("name")
    table.add_column("what it does, defaults, source", ratio=1)
    table.add_column("components")
    table.add_column("backward passes", justify="right", max_width=8)
    for name in matching(words):
        d = describe(name)
        options = ", ".join(f"{k}={v!r}" for k, v in d.defaults.items())
        text = Text(d.title)
        for part, style in ((d.formula, "bold"), (options, "cyan"), (d.source, "dim")):
            text.append(f"\n{part}" if part else "", style)
        if name in ("deepkd", "dot", "reweighted"):
            text.append(f"\n{_gains(name)}", "magenta")
        if d.needs:
            text.append(f"\nneeds {', '.join(d.needs)}", "yellow")
        table.add_row(
            name, text, "\n".join(d.components) or "those of\nthe method", str(d.backward_passes or "one per shift")
        )
    console.print(table)


def _gains(name: str) -> str:
    """What a wrapper of streams makes of dkd's weights under SGD."""
    inner = METHODS["dkd"]()
    method = WRAPPERS[name](WRAPPERS["deepkd"](inner) if name == "reweighted" else inner)
    return f"over dkd at momentum 0.9, {said(effective_weights(method))}"


def print_map(console: Console, words: Sequence[str] = ()) -> None:
    """Every method and wrapper, or those with one of the words in their name, as a point on the axes of the map."""
    from rich.table import Table
    from rich.text import Text

    from ..methods.map import AXES, point_of

    table = Table(show_lines=True, title="a wrapper shows what it changes; what is not said is as usual")
    table.add_column("name", no_wrap=True)
    table.add_column("axes", ratio=1)
    width = max(map(len, AXES.values()))
    for name in matching(words):
        said = {AXES[axis]: value for axis, value in vars(point_of(name)).items() if value}
        table.add_row(name, Text("\n".join(f"{axis:<{width}}  {value}" for axis, value in said.items())))
    console.print(table)


@dataclass(frozen=True)
class Conditions:
    """How a network is run while it is measured.

    Args:
        batch_size: images at once; ``None``: as :func:`fractionate.train.sources.evaluation_batch` says.
        device: as in :class:`fractionate.config.run.Run`.
        precision, channels_last, threads: likewise.
        seconds: how long the speed is measured.
    """

    batch_size: int | None = None
    device: str = "auto"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = False
    threads: int | None = None
    seconds: float = 1.0


@dataclass(frozen=True)
class Measured:
    """A network's metrics on a set of images, its size and its speed.

    Args:
        title: what was measured.
        metrics: accuracy, loss, agreement, calibration.
        images: how many there were.
        params: number of parameters.
        images_per_s: through the network alone, the images being on the device.
        batch_size: at which that holds.
        device: on which.
    """

    title: str
    metrics: Evaluation | DenseEvaluation | DetectionEvaluation
    images: int
    params: int
    images_per_s: float
    batch_size: int
    device: str

    def columns(self) -> dict[str, Any]:
        """All of it as plain data, ``ece`` included."""
        metrics = asdict(self.metrics) | {"ece": self.metrics.calibration.ece}
        return {k: v for k, v in asdict(self).items() if k != "metrics"} | metrics


def evaluate_run(folder: Path, console: Console, *, batch_size: int | None = None) -> Measured:
    """Load a run's student and measure it again on the images it was tested on, as training measured it.

    That is in float32, whatever the precision of the steps. A teacher that cannot be built again (its checkpoint is
    gone) is left out, with a warning.

    Raises:
        ValueError: no finished run, or weights that do not fit.
    """
    target = RunFolder(folder)
    facts, run = target.summary(), target.config()
    for problem in problems(facts, run, folder):
        console.print(problem, style="yellow", markup=False, highlight=False, soft_wrap=True)
    teacher = run.teacher
    if teacher is not None and (missing := no_weights(teacher)):
        if run.method.distils:  # labels alone need none
            console.print(f"no agreement with the teacher: {missing}", style="yellow", markup=False, highlight=False)
        teacher = None
    conditions = Conditions(batch_size, run.device, "float32", run.channels_last, run.threads)
    student = replace(run.student, checkpoint=str(target.student))
    title = one_line(f"{facts.get('name') or run.method.title}: {run.student.name}")
    return evaluate_network(
        student,
        run.data,
        console,
        teacher=teacher,
        conditions=conditions,
        title=title,
        measured_before=facts,
        task=task_of(run),
    )


def no_weights(teacher: Network) -> str | None:
    """Why the trained teacher cannot be built again; ``None`` if it can."""
    if not teacher.checkpoint:
        return None if teacher.pretrained else "the run's config names no checkpoint of it"
    return None if expanded(teacher.checkpoint).is_file() else f"its checkpoint {teacher.checkpoint} is not there"


def evaluate_network(
    student: Network,
    data: Data,
    console: Console,
    *,
    teacher: Network | None = None,
    conditions: Conditions | None = None,
    title: str | None = None,
    measured_before: Mapping[str, Any] | None = None,
    task: Task | None = None,
) -> Measured:
    """Measure any network on the evaluation images of any data set: two tables.

    Args:
        student: its name, and the file with its weights (or ``pretrained``).
        data: which images; ``data.evaluate_on`` is the part.
        console: where the tables go.
        teacher: network whose answers the student's are compared with.
        conditions: how the networks are run.
        title: of the table.
        measured_before: summary of the network's run; it is said where the images are others than there.
        task: what the network was trained for; that of the data unless given.

    Raises:
        ValueError: an unknown name, weights that do not fit, or of a run or an export whose classes are others or in
            another order.
        FileNotFoundError: no checkpoint there.
    """
    how = conditions or Conditions()
    if how.batch_size is not None and how.batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {how.batch_size}")
    device = place(how.device)
    test, told = normalised_as_trained(evaluation_source(data, device, how.batch_size), student.checkpoint)
    for problem in filter(None, (told, images_problem(measured_before, test))):
        console.print(problem, style="yellow", markup=False, highlight=False, soft_wrap=True)
    for network, what in ((student, "student"), (teacher, "teacher")):
        if network is not None:
            check_order(network.checkpoint, test.classes, what, REMEDY)
    with fixed_threads(how.threads):
        measured = _measure(student, teacher, test, how, title or f"{data.name}: {student.name}", task)
    _print(measured, console)
    return measured


def _measure(
    student: Network,
    teacher: Network | None,
    test: SmallImages | Photos | DenseImages | BoxImages,
    how: Conditions,
    title: str,
    task: Task | None,
) -> Measured:
    device = torch.device(test.device)
    net, other = (None if config is None else _ready(config, test, how) for config in (student, teacher))
    assert net is not None
    dtype = torch.float16 if how.precision == "float16" else torch.bfloat16
    with torch.autocast(device.type, dtype, enabled=how.precision != "float32"):
        metrics = metrics_of(net, other, test, task)
        images = next(iter(test.batches(1))).images
        images = images.contiguous(memory_format=torch.channels_last) if how.channels_last else images
        speed = throughput(net, images, how.seconds)
    return Measured(
        title=title,
        metrics=metrics,
        images=test.count,
        params=sum(p.numel() for p in net.parameters()),
        images_per_s=speed,
        batch_size=len(images),
        device=device_name(device),
    )


def _ready(config: Network, test: SmallImages | Photos | DenseImages | BoxImages, how: Conditions) -> nn.Module:
    net = build_for(config, test, test).to(test.device)
    check_weights(config.name, net)
    return in_channels_last(net) if how.channels_last else net


def device_name(device: torch.device) -> str:
    """What computes, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, torch threads: {torch.get_num_threads()}"


def _print(measured: Measured, console: Console) -> None:
    from rich.table import Table

    m = measured.metrics
    table = Table(title=f"{measured.title}, {measured.params:,} parameters, {measured.images:,} images")
    scores = {key: x for key, x in m.columns().items() if "/" not in key}
    for head in (*(headline(key).head for key in scores), "agreement %", "ECE %", "images/s"):
        table.add_column(head, justify="right")
    agreement = "-" if m.agreement is None else f"{m.agreement:.2f}"
    ece, speed = f"{100 * m.calibration.ece:.2f}", f"{measured.images_per_s:,.0f}"
    cells = (f"{x:.2f}" if headline(key).unit else f"{x:.4f}" for key, x in scores.items())
    table.add_row(*cells, agreement, ece, speed)
    console.print(table)
    if not isinstance(m, Evaluation):
        console.print(class_table(m))
    console.print(_bins(m.calibration, measured_on(m).split()[0]))
    console.print(f"images/s: batches of {measured.batch_size}, {measured.device}", highlight=False)


def _bins(calibration: Calibration, unit: str) -> Table:
    """Reliability: in every bin of confidence, how sure the network was and how often it was right."""
    from rich.table import Table

    table = Table(title="calibration")
    for head in ("confidence between", "mean %", "right %", unit):
        table.add_column(head, justify="right")
    for i, count in enumerate(calibration.count):
        sure, right = calibration.confidence[i], calibration.accuracy[i]
        if sure is not None and right is not None:
            low, high = (100 * (i + j) / len(calibration.count) for j in (0, 1))
            table.add_row(f"{low:.1f} - {high:.1f}", f"{100 * sure:.2f}", f"{100 * right:.2f}", f"{count:,}")
    return table
