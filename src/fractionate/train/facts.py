"""What a run's teacher says about a few of the images it is going to teach, and the weights that follow from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..config.method import MethodSpec
from ..config.run import Run
from ..data import Batch, Photos, SmallImages
from ..data.augment.photo import Shown
from ..data.joined import Joined
from ..methods import TeacherFacts, teacher_facts
from ..models import Ask
from .allocation import gain_of_rest

SAMPLE = 512  # images; a mean probability over so many is known to .022 at worst (its standard error)
DECODED = 128  # of photos, which have to be decoded for it
AT_ONCE = 128


def facts_of(run: Run, net: nn.Module, train: object, ask: Ask, most: int = SAMPLE) -> TeacherFacts | None:
    """Facts about a teacher from up to ``most`` training images without augmentation, evenly spread.

    Args:
        run: its method says at which temperature.
        net: the teacher; evaluated, and left in its mode.
        train: batches it teaches on.
        ask: how its logits are taken.
        most: how many images are looked at; of photos, which have to be decoded, at most 128.

    Returns:
        ``None`` where images cannot be shown without their augmentation, or rows are no images (a class per pixel).
    """
    seen = plain_batches(train, most)
    if seen is None or run.task.name != "classification":
        return None
    mode = net.training
    net.eval()
    rows: list[Tensor] = []
    labels: list[Tensor] = []
    with torch.inference_mode():
        for images, target in seen:
            rows.append(ask(net, images, "teacher").cpu())
            labels.append(target.cpu())
    net.train(mode)
    logits, target = torch.cat(rows), torch.cat(labels)
    if logits.ndim != 2 or logits.shape[1] < 3:
        return None
    return teacher_facts(logits, None if int(target.min()) < 0 else target, **_settings(run.method))


def plain_batches(source: object, most: int = SAMPLE) -> Iterator[tuple[Tensor, Tensor]] | None:
    """Images and labels of a training source, without augmentation; ``None`` where it cannot show them so."""
    source = getattr(source, "source", source)  # of a sample, what it was taken from
    if isinstance(source, Joined):
        source = source.labelled
    if isinstance(source, SmallImages):
        return _in_memory(source, most)
    if isinstance(source, Photos):
        return _decoded(source, min(most, DECODED))
    return None


def _in_memory(source: SmallImages, most: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The middle of every image: neither shifted nor mirrored."""
    step = max(1, -(-source.count // most))
    middle = (source.shift * (2 * source.shift + 1) + source.shift) * 2
    for index in torch.arange(0, source.count, step, device=source.target.device).split(AT_ONCE):
        yield source.form(index, middle).contiguous(memory_format=torch.channels_last), source.target[index]


def _decoded(source: Photos, most: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Photos in the order of the first epoch, cut to their middle."""
    view = (
        None
        if source.shown is None
        else Shown(source.size, "pad", flip=False, interpolation=source.shown.interpolation)
    )
    plain = replace(
        source, shown=view, strong=None, mixup=0.0, cutmix=0.0, passes=1, repeats=1, workers=0, batch_size=most
    )
    first: Batch = next(iter(plain.batches(1)))
    yield from zip(first.images.split(AT_ONCE), first.target.split(AT_ONCE), strict=True)


def _settings(spec: MethodSpec) -> dict[str, Any]:
    """How a method reads its teacher: the field's usual T and k where it has none, or several."""
    origin = spec.build().origin
    temperature, k, largest = (
        None if origin is None else origin.core.value(n) for n in ("temperature", "k", "largest")
    )
    call = origin
    while call is not None and call.function.__name__ != "lskd":
        call = call.inner
    if call is not None:  # its T, where it has one, is that of the method inside
        temperature = call.value("temperature")
    return {
        "temperature": float(temperature) if isinstance(temperature, int | float) else 4.0,
        "k": k if k == "auto" or isinstance(k, int) else 5,
        "largest": largest is not False,
        "standardized": call is not None,
    }


def settled(run: Run, facts: TeacherFacts | None) -> Run:
    """The run with numbers in the place of ``weights="auto"``; the run itself where there is nothing to settle.

    Args:
        run: config.
        facts: about its teacher.

    Raises:
        ValueError: there are no facts to take the weights from.
    """
    spec = run.method
    if not spec.unsettled:
        return run
    if facts is None:
        raise ValueError(
            f"method {spec.title}: weights=auto reads the teacher's logits of training images with one label each, in "
            f"memory or as photos, and 3 classes at least; give {', '.join(spec.unsettled)} as numbers"
        )
    weights = facts.weights(spec.name, gain_of_rest(run))
    found = {name: x for name, x in weights.items() if name in spec.unsettled}
    return replace(run, method=replace(spec, args={**spec.args, **found}))


def remembered(run: Run, before: Run) -> Run:
    """The run with the numbers that ``weights="auto"`` had when it began, so that going on measures nothing anew.

    Args:
        run: as it is asked for now.
        before: as it began.
    """
    wanted, there = run.method, before.method
    numbers = {name: there.args[name] for name in wanted.unsettled if name in there.args}
    settled_now = replace(wanted, args={**wanted.args, **numbers})
    return replace(run, method=settled_now) if numbers and settled_now == there else run
