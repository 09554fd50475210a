"""From a config to everything that takes part in the run: networks, method, optimizer, batches."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import nn

from .._files import cache_folder
from ..config.ranges import check_images
from ..config.run import Run
from ..data import Source, stated
from ..methods import Method, TeacherFacts
from ..models import Ask, Preprocessing, logits_of, switched, train_token
from ..optim import StreamAdamW, StreamSGD
from ..tasks import Classification, Metrics, Result, Task, measure_with
from ..teachers.fused import fused
from ..teachers.live import LiveTeacher, Teacher, folded, in_channels_last
from ..teachers.table import tabled
from ..world import current
from .device import fixed_threads, fuses, kept_dtype, place, settled_precision, tuned
from .facts import facts_of, settled
from .health import check_weights
from .lockstep import Common
from .log import Watch, watching
from .networks import build_for
from .optimizer import grouped, stream_optimizer, streams_of
from .pixels import seen_by
from .room import check_step_fits
from .sources import sources


@dataclass(eq=False)
class Training:
    """Everything that takes part in a run; :func:`fit` moves it forward.

    Args:
        run: the config.
        method: built from it, in the form that is trained (unmerged when watched).
        merge: whether streams with equal momentum are joined.
        student: network that is trained.
        teacher: where teacher logits come from, if the method reads them.
        train, test: batches.
        optimizer: holds one buffer per stream, or one first moment per coefficient.
        task: makes rows of batches, and metrics.
        teacher_test: the teacher's metrics on the test images.
        teacher_seen: the same before they were summed up, with which the student's are compared.
        teacher_params: its number of parameters.
        teacher_facts: what it says about some training images.
        teacher_pixels: what it does to pixels itself; ``None``: it takes them as the data have them.
        epoch, step: how far training is.
    """

    run: Run
    method: Method
    merge: bool | None
    student: nn.Module
    teacher: Teacher | None
    train: Source
    test: Source
    optimizer: StreamSGD | StreamAdamW
    task: Task = field(default_factory=Classification)
    teacher_test: Result | None = None
    teacher_seen: Metrics | None = None
    teacher_params: int | None = None
    teacher_facts: TeacherFacts | None = None
    teacher_pixels: Preprocessing | None = None
    epoch: int = 0
    step: int = 0
    watch: Watch | None = None


def prepare(
    run: Run,
    *,
    student: nn.Module | None = None,
    teacher: nn.Module | None = None,
    train: Source | None = None,
    test: Source | None = None,
    task: Task | None = None,
    common: Common | None = None,
) -> Training:
    """Build everything a run needs; parts of your own take the place of the config's.

    Args:
        run: the config; its seed fixes the student's weights and the batches.
        student: network to train.
        teacher: network to imitate.
        train: training batches.
        test: evaluation batches, in a fixed order.
        task: what the student is trained for; classification unless given.
        common: images and teacher of the runs beside this one, where there are any.

    Raises:
        ValueError: an unknown name, a checkpoint that does not fit, or a GPU asked for that is not there.
    """
    run, common = settled_precision(run), common or Common()
    device = place(run.device)
    common.join(run)
    train, test = _sources(run, device, common, train, test)
    teacher = teacher or common.once("network", lambda: _built_teacher(run, train, test), reseeded=True)
    torch.manual_seed(run.seed)  # after the teacher: its construction must not move the student's weights
    student = student or build_for(run.student, train, test, "student")
    check_step_fits(run, student, device)
    student = switched(_placed(student, run, device), True)
    student = _with_batch_norms(student, run, device)
    current().draw_apart(run.seed)
    teacher = _placed(teacher, run, device) if teacher else None
    watched = run.monitors.watches(run.seed)
    task = task or task_of(run, train.classes if stated(train) else ())
    facts = _facts(run, teacher, train, task) if teacher else None
    run = settled(run, facts)
    method = _method(run, device, task)
    if method.token:
        train_token(student)
    method, merge, momenta = streams_of(run, method, watched)
    if method.regions and teacher is not None:
        _check_regions(task, student, teacher, test)
    optimizer = stream_optimizer(run, grouped(run.optimizer, student, method.module), momenta)
    training = Training(
        run=run,
        method=method,
        merge=merge,
        student=student,
        teacher=_teacher(run, teacher, train, task, common) if teacher and run.method.distils else None,
        train=train,
        test=test,
        optimizer=optimizer,
        watch=watching(run, optimizer, student),
        task=task,
        teacher_facts=facts,
    )
    return _compared_with(training, teacher, common) if teacher else training


def task_of(run: Run, classes: tuple[str, ...] = ()) -> Task:
    """The config's task.

    Args:
        run: the config.
        classes: names of the data's classes, for the metrics.

    Example:
        >>> from fractionate.config.method import MethodSpec
        >>> from fractionate.config.run import Network
        >>> task_of(Run(student=Network("resnet8"), method=MethodSpec("ce"))).headline
        'top1'
    """
    if run.task.name == "segmentation":
        from ..tasks import Segmentation

        height, width = run.data.crop or (0, 0)
        return Segmentation(run.task, classes, (height, width) if run.data.crop else None)
    if run.task.name == "detection":
        from ..tasks import Detection

        return Detection(run.task, classes)
    method = run.method.build()
    return Classification(method.regions, method.token)


def method_of(run: Run, task: Task | None = None) -> Method:
    """The config's method, with whatever its task adds to it."""
    completed = getattr(task or task_of(run), "completed", None)
    method = run.method.build()
    return method if completed is None else completed(method)


def _sources(
    run: Run, device: torch.device, common: Common, train: Source | None, test: Source | None
) -> tuple[Source, Source]:
    """The batches that were given, and the config's in place of those that were not."""
    if train is not None and test is not None:
        return train, test
    check_images(run)
    made = common.once("images", lambda: sources(run.data, run.seed, device), reseeded=True)
    return train or made[0], test or made[1]


def _built_teacher(run: Run, train: Source, test: Source) -> nn.Module | None:
    """The config's teacher, which sees pixels as it was trained to; none where it would only be compared with."""
    if run.teacher is None or not (run.method.distils or run.teacher.checkpoint or run.teacher.pretrained):
        return None
    torch.manual_seed(run.seed + 1)  # one without weights must be the same in the process that goes on
    return build_for(run.teacher, train, test, "teacher")


def _placed(net: nn.Module, run: Run, device: torch.device) -> nn.Module:
    """The network on its device, its weights laid out as the config says."""
    net = net.to(device)
    return in_channels_last(net) if run.channels_last else net


def _with_batch_norms(student: nn.Module, run: Run, device: torch.device) -> nn.Module:
    """Batch norms that see the images of all processes, where the config asks for them."""
    if not run.parallel.sync_batchnorm:
        return student
    if device.type != "cuda":
        raise ValueError(
            "parallel.sync_batchnorm works on GPUs only: torch has no SyncBatchNorm for CPUs; leave it off, or train "
            "on GPUs"
        )
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(student)
    return converted


def _facts(run: Run, net: nn.Module, train: Source, task: Task) -> TeacherFacts | None:
    with fixed_threads(run.threads):
        return facts_of(run, net, train, asking(task))


def _teacher(run: Run, net: nn.Module, train: Source, task: Task, common: Common) -> Teacher:
    """What answers at every step, made of the network."""
    return common.once("teacher", lambda: _shortened(run, net, train, task))


def _shortened(run: Run, net: nn.Module, train: Source, task: Task) -> Teacher:
    images, ask = next(iter(train.batches(1))).images, asking(task)
    kept = kept_dtype(run)
    short = folded(net, images, channels_last=run.channels_last, compiled=run.compile_teacher, ask=ask, dtype=kept)
    said = None
    if fuses(run, images.device):
        with tuned(images.device):
            made = fused(short, images, ask=ask, dtype=kept)
        short, said = made.net, made.said
    folder = cache_folder() / "teacher-tables" if run.teacher_table_place == "file" else None
    dtype = getattr(torch, run.teacher_table_dtype)
    return tabled(
        LiveTeacher(short, ask, kept, said), train, mode=run.teacher_table, folder=folder, dtype=dtype, known_as=net
    )


def asking(task: Task) -> Ask:
    """How a task takes a network's logits; those of one that does not say, as :func:`logits_of` does."""
    found: Ask = getattr(task, "ask", logits_of)
    return found


def _method(run: Run, device: torch.device, task: Task) -> Method:
    method = method_of(run, task)
    if method.module is not None:
        method.module.to(device)
    return method


def _check_regions(task: Task, student: nn.Module, teacher: nn.Module, test: Source) -> None:
    """Refuse networks without region logits before anything is trained or written."""
    batch = next(iter(test.batches(1)))
    student.eval()
    with torch.no_grad():
        task.rows(student, LiveTeacher(teacher), batch)
    student.train()


def _compared_with(training: Training, teacher: nn.Module, common: Common) -> Training:
    """With the teacher's metrics, and its answers that the student's are compared with."""
    check_weights("teacher", teacher)
    with fixed_threads(training.run.threads):
        seen = common.once("seen", lambda: measure_with(training.task.metrics(), teacher, training.test))
    return replace(
        training,
        teacher_test=seen.result(),
        teacher_seen=seen,
        teacher_params=sum(p.numel() for p in teacher.parameters()),
        teacher_pixels=seen_by(teacher),
    )


def parameters(student: nn.Module, method: Method) -> list[nn.Parameter]:
    """What is trained: the student, and whatever the method itself learns (a temperature, say)."""
    return [*student.parameters(), *(method.module.parameters() if method.module else ())]
