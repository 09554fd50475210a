"""From a config to everything that takes part in the run: networks, method, optimizer, batches."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import nn

from .._files import cache_folder
from ..config.ranges import check_images
from ..config.run import Network, Run
from ..data import Source, stated
from ..methods import Method
from ..models import Ask, OtherHead, Preprocessing, create, load_checkpoint, logits_of, train_token
from ..optim import StreamAdamW, StreamSGD
from ..tasks import Classification, Metrics, Result, Segmentation, Task, measure_with
from ..teachers.live import LiveTeacher, Teacher, folded, in_channels_last
from ..teachers.table import tabled
from ..world import current
from .device import fixed_threads, place
from .health import check_weights
from .log import Watch, watching
from .optimizer import grouped, stream_optimizer, streams_of
from .pixels import made_for, seen_by
from .sources import sources

REMEDY = (
    "fractionate train RECIPE --teacher NAME teacher.pretrained=true fine-tunes such weights first, also those of "
    "--teacher-checkpoint FILE; a config wants the weights that came out (teacher.checkpoint=FILE)"
)


def build(config: Network, num_classes: int, *, new_head: bool = False) -> nn.Module:
    """The network, filled from its checkpoint if it has one.

    Args:
        config: its name and where its weights come from.
        num_classes: number of logits.
        new_head: pretrained weights for other classes get a new last layer, which knows nothing yet.

    Raises:
        OtherHead: a ValueError: weights for another number of classes.
        ValueError: an unknown name, or a checkpoint that does not fit.
        FileNotFoundError: no checkpoint there.

    Example:
        >>> build(Network("convnet_4_8"), num_classes=10).fc.out_features
        10
    """
    net = create(
        config.name,
        num_classes=num_classes,
        pretrained=config.pretrained and not config.checkpoint,  # the file brings every weight
        stem=config.stem,
        published_bn=config.published_bn,
        new_head=new_head,
    )
    if config.checkpoint:
        load_checkpoint(net, config.checkpoint, new_head=new_head and config.pretrained)
    return net


def build_teacher(config: Network, num_classes: int) -> nn.Module:
    """As :func:`build`; weights for other classes teach nothing, and what makes teachers of them is said."""
    try:
        return build(config, num_classes)
    except OtherHead as error:
        raise OtherHead(f"{error}; {REMEDY}") from error


def build_for(config: Network, source: Source, tried_on: Source, what: str = "network") -> nn.Module:
    """A network that sees the images of a source as it was trained to (:func:`fractionate.train.pixels.made_for`).

    Pretrained weights for other classes are where a student begins, with a new last layer.
    """
    if what == "teacher":
        net = build_teacher(config, source.num_classes)
    else:
        net = build(config, source.num_classes, new_head=what == "student")
    return made_for(net, config, source, tried_on, what)


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
) -> Training:
    """Build everything a run needs; parts of your own take the place of the config's.

    Args:
        run: the config; its seed fixes the student's weights and the batches.
        student: network to train.
        teacher: network to imitate.
        train: training batches.
        test: evaluation batches, in a fixed order.
        task: what the student is trained for; classification unless given.

    Raises:
        ValueError: an unknown name, a checkpoint that does not fit, or a GPU asked for that is not there.
    """
    device = place(run.device)
    made = _sources(run, device) if train is None or test is None else (train, test)
    train, test = train or made[0], test or made[1]
    teacher = teacher or _built_teacher(run, train, test)
    torch.manual_seed(run.seed)  # after the teacher: its construction must not move the student's weights
    student = _placed(student or build_for(run.student, train, test, "student"), run, device).train()
    student = _with_batch_norms(student, run, device)
    current().draw_apart(run.seed)
    teacher = _placed(teacher, run, device) if teacher else None
    watched = run.monitors.watches(run.seed)
    task = task or task_of(run, train.classes if stated(train) else ())
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
        teacher=_teacher(run, teacher, train, task) if teacher and run.method.distils else None,
        train=train,
        test=test,
        optimizer=optimizer,
        watch=watching(run, optimizer),
        task=task,
    )
    return _compared_with(training, teacher) if teacher else training


def task_of(run: Run, classes: tuple[str, ...] = ()) -> Task:
    """The config's task.

    Args:
        run: the config.
        classes: names of the data's classes, for the metrics.

    Example:
        >>> from fractionate.config.method import MethodSpec
        >>> task_of(Run(student=Network("resnet8"), method=MethodSpec("ce"))).headline
        'top1'
    """
    if run.task.name == "segmentation":
        height, width = run.data.crop or (0, 0)
        return Segmentation(run.task, classes, (height, width) if run.data.crop else None)
    method = run.method.build()
    return Classification(method.regions, method.token)


def method_of(run: Run, task: Task | None = None) -> Method:
    """The config's method, with whatever its task adds to it."""
    completed = getattr(task or task_of(run), "completed", None)
    method = run.method.build()
    return method if completed is None else completed(method)


def _sources(run: Run, device: torch.device) -> tuple[Source, Source]:
    check_images(run)
    return sources(run.data, run.seed, device)


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


def _teacher(run: Run, net: nn.Module, train: Source, task: Task) -> Teacher:
    images, ask = next(iter(train.batches(1))).images, asking(task)
    short = folded(net, images, channels_last=run.channels_last, compiled=run.compile_teacher, ask=ask)
    folder = cache_folder() / "teacher-tables" if run.teacher_table_place == "file" else None
    dtype = getattr(torch, run.teacher_table_dtype)
    return tabled(LiveTeacher(short, ask), train, mode=run.teacher_table, folder=folder, dtype=dtype, known_as=net)


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


def _compared_with(training: Training, teacher: nn.Module) -> Training:
    """With the teacher's metrics, and its answers that the student's are compared with."""
    check_weights("teacher", teacher)
    with fixed_threads(training.run.threads):
        seen = measure_with(training.task.metrics(), teacher, training.test)
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
