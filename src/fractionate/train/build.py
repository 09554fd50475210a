"""From a config to everything that takes part in the run: networks, method, optimizer, batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..config.run import Decay, Network, Run
from ..data import Source
from ..methods import Method
from ..models import create, load_checkpoint
from ..optim import Momenta, StreamAdamW, StreamSGD
from ..tasks.classification import Evaluation, measure, predict, region_rows
from ..teachers.live import LiveTeacher, Teacher, folded, in_channels_last
from ..teachers.table import tabled
from ..world import current
from .health import check_weights
from .log import Watch, unmerged
from .sources import cache_folder, sources


def build(config: Network, num_classes: int) -> nn.Module:
    """The network, filled from its checkpoint if it has one.

    Raises:
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
    )
    if config.checkpoint:
        load_checkpoint(net, config.checkpoint)
    return net


def place(name: str) -> torch.device:
    """The device that a config names; ``"auto"`` is a GPU if there is one, ``"cuda:1"`` the second of several.

    Raises:
        ValueError: a GPU asked for that is not there.

    Example:
        >>> place("cpu")
        device(type='cpu')
    """
    if not name.startswith("cuda"):
        return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else "cpu")
    if not torch.cuda.is_available():
        raise ValueError(f"device {name!r} was asked for, but torch finds no GPU; use device=cpu or device=auto")
    found, count = torch.device(name), torch.cuda.device_count()
    if found.index is not None and found.index >= count:
        numbers = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise ValueError(f"device {name!r} was asked for, but torch finds {numbers} only")
    if found.index is not None:
        torch.cuda.set_device(found)  # kernels of Triton and recorded graphs run on the current one
    return found


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
        teacher_test: the teacher's metrics on the test images.
        teacher_top1: its class for every test image.
        teacher_params: its number of parameters.
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
    teacher_test: Evaluation | None = None
    teacher_top1: Tensor | None = None
    teacher_params: int | None = None
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
) -> Training:
    """Build everything a run needs; parts of your own take the place of the config's.

    Args:
        run: the config; its seed fixes the student's weights and the batches.
        student: network to train.
        teacher: network to imitate.
        train: training batches.
        test: evaluation batches, in a fixed order.

    Raises:
        ValueError: an unknown name, a checkpoint that does not fit, or a GPU asked for that is not there.
    """
    device = place(run.device)
    made = sources(run.data, run.seed, device) if train is None or test is None else (train, test)
    train, test = train or made[0], test or made[1]
    teacher = teacher or _built_teacher(run, train.num_classes)
    torch.manual_seed(run.seed)  # after the teacher: its construction must not move the student's weights
    student = _placed(student or build(run.student, train.num_classes), run, device).train()
    student = _with_batch_norms(student, run, device)
    current().draw_apart(run.seed)
    teacher = _placed(teacher, run, device) if teacher else None
    watched = run.monitors.watches(run.seed)
    method = _method(run, device)
    method, merge = (unmerged(method), False) if watched else (method, merging(run, method))
    if method.regions and teacher is not None:
        _check_regions(method, student, teacher, test)
    training = Training(
        run=run,
        method=method,
        merge=merge,
        student=student,
        teacher=_teacher(run, teacher, train) if teacher and run.method.distils else None,
        train=train,
        test=test,
        optimizer=stream_optimizer(run, parameters(student, method), method.momenta(run.optimizer.base, merge)),
        watch=Watch(run.monitors) if watched else None,
    )
    return _compared_with(training, teacher) if teacher else training


def _built_teacher(run: Run, num_classes: int) -> nn.Module | None:
    """The config's teacher; none where it has no weights and would only be compared with."""
    if run.teacher is None or not (run.method.distils or run.teacher.checkpoint or run.teacher.pretrained):
        return None
    torch.manual_seed(run.seed + 1)  # one without weights must be the same in the process that goes on
    return build(run.teacher, num_classes)


def merging(run: Run, method: Method) -> bool | None:
    """Whether to join streams with equal momentum: as the config says, else wherever the optimizer says it is exact."""
    if run.merge is not None:
        return run.merge
    apart = method.momenta(run.optimizer.base, merge=False)
    return stream_optimizer(run, [nn.Parameter(torch.zeros(1, 1))], apart).merges_exactly


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


def _teacher(run: Run, net: nn.Module, train: Source) -> Teacher:
    images = next(iter(train.batches(1))).images
    short = folded(net, images, channels_last=run.channels_last, compiled=run.compile_teacher)
    folder = cache_folder() / "teacher-tables" if run.teacher_table_place == "file" else None
    dtype = getattr(torch, run.teacher_table_dtype)
    return tabled(LiveTeacher(short), train, mode=run.teacher_table, folder=folder, dtype=dtype, known_as=net)


def _method(run: Run, device: torch.device) -> Method:
    method = run.method.build()
    if method.module is not None:
        method.module.to(device)
    return method


def _check_regions(method: Method, student: nn.Module, teacher: nn.Module, test: Source) -> None:
    """Refuse networks without region logits before anything is trained or written."""
    batch = next(iter(test.batches(1)))
    student.eval()
    with torch.no_grad():
        region_rows(student, LiveTeacher(teacher), batch, method.regions)
    student.train()


def stream_optimizer(run: Run, trained: list[nn.Parameter], momenta: Momenta) -> StreamSGD | StreamAdamW:
    """The config's optimizer, by name; with ``decay="weights"`` in two groups of parameters, the second without decay.

    Raises:
        ValueError: momenta that this optimizer does not follow.
    """
    o, params = run.optimizer, _groups(trained, run.optimizer.decay)
    if o.name == "adamw":
        return StreamAdamW(
            params,
            lr=o.lr,
            betas=momenta,
            beta2=o.beta2,
            eps=o.eps,
            weight_decay=o.weight_decay,
            gain=o.gain,
            clip_rms=o.clip_rms,
        )
    return StreamSGD(
        params,
        lr=o.lr,
        momentum=momenta,
        weight_decay=o.weight_decay,
        dampening=o.dampening,
        nesterov=o.nesterov,
    )


def _groups(trained: list[nn.Parameter], decay: Decay) -> Any:
    if decay == "all":
        return trained
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1]},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _compared_with(training: Training, teacher: nn.Module) -> Training:
    """With the teacher's accuracy, and its answers that the student's are compared with."""
    check_weights("teacher", teacher)
    with fixed_threads(training.run.threads):
        logits, target = predict(teacher, training.test)
    return replace(
        training,
        teacher_test=measure(logits, target),
        teacher_top1=logits.argmax(1),
        teacher_params=sum(p.numel() for p in teacher.parameters()),
    )


def autocast(run: Run, device: torch.device) -> torch.autocast:
    """The precision in which the networks run; losses are computed outside of it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=run.precision == "bfloat16")


@contextmanager
def fixed_threads(count: int | None) -> Iterator[None]:
    """A fixed number of CPU threads: sums then run in one order, so the same seed gives the same numbers."""
    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def parameters(student: nn.Module, method: Method) -> list[nn.Parameter]:
    """What is trained: the student, and whatever the method itself learns (a temperature, say)."""
    return [*student.parameters(), *(method.module.parameters() if method.module else ())]
