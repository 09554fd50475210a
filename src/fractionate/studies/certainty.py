"""How certain a teacher is of the images that its students train on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .._headlines import headline
from ..config.data import Data
from ..config.run import Run
from ..data import Batch, Source
from ..data.boxes import BoxImages, unpacked
from ..data.dense import DenseImages, whole
from ..models import switched
from ..models.dense import pick_maps, same_size
from ..models.detection import classified, features_of
from ..tasks import measure_with
from ..tasks.counts import labelled
from ..train.build import task_of
from ..train.device import fixed_threads, place
from ..train.networks import build_for
from ..train.sources import evaluation_batch, sources

SURE = 0.99
OF = {"segmentation": "labelled pixels", "detection": "objects, in their true boxes,"}


@dataclass
class Sums:
    """Sums over rows: right answers, probability of the label at 1 and at T, and labels above .99."""

    temperature: float
    right: float = 0.0
    at_1: float = 0.0
    at_t: float = 0.0
    sure: float = 0.0
    count: int = 0

    def add(self, logits: Tensor, target: Tensor) -> None:
        """Take in logits ``[n, c]`` and their labels."""
        logits = logits.double()
        of_label = logits.softmax(1).gather(1, target[:, None])[:, 0]
        soft = (logits / self.temperature).softmax(1).gather(1, target[:, None])[:, 0]
        self.right += float((logits.argmax(1) == target).sum())
        self.at_1, self.at_t = self.at_1 + float(of_label.sum()), self.at_t + float(soft.sum())
        self.sure += float((of_label > SURE).sum())
        self.count += len(target)

    def means(self) -> dict[str, Any]:
        """What they come to."""
        return {
            "train": 100 * self.right / self.count,
            "label": self.at_1 / self.count,
            "label_at_t": self.at_t / self.count,
            "sure": self.sure / self.count,
            "temperature": self.temperature,
        }


@torch.no_grad()
def certainty(run: Run, temperature: float = 4.0) -> dict[str, Any]:
    """Accuracy of the teacher on a student's training images, and its probability of their labels.

    The images are those of ``run.data`` as they are, without crops, shifts, flips or any other augmentation. Where
    every pixel has a class, each with a label counts; where objects have boxes, each object in its true box.

    Args:
        run: of a student, with its teacher.
        temperature: T of the second mean.

    Returns:
        ``train``, percent of right answers; ``label``, mean probability of the label; ``label_at_t``, the same at T;
        ``sure``, share of the images on which the label's exceeds .99; ``temperature``. Of dense tasks also ``of``,
        what is counted in place of images, and ``headline`` and ``score``: the task's metric on the training images.

    Raises:
        ValueError: a run without a teacher.
    """
    if run.teacher is None:
        raise ValueError("how certain a teacher is, is measured of a run with a teacher")
    plain = replace(run.data, shift=0, flip=False, augment="none", strong="none", mixup=0.0, cutmix=0.0, passes=1)
    plain = replace(plain, unlabelled=None, unlabelled_batch=None)
    if run.data.workers is not None:
        plain = replace(plain, resized_crop=False, crop_scale=Data.crop_scale, erasing=0.0, repeats=1)
    device, sums = place(run.device), Sums(temperature)
    train, test = sources(plain, run.seed, device)
    net = switched(build_for(run.teacher, train, test, "teacher").to(device), False)
    with fixed_threads(run.threads):
        if run.task.name != "classification":
            return _dense(run, net, train, sums)
        for batch in train.batches(1):
            few = evaluation_batch(batch.images.shape[-1])
            for images, target in zip(batch.images.split(few), batch.target.split(few), strict=True):
                sums.add(net(images), target)
    return sums.means()


def knowledge(found: Mapping[str, Any]) -> str:
    """What a teacher knows of its students' training images, in words; ``found`` as in the record of a study.

    Example:
        >>> knowledge({"name": "", "train": 99.5, "label": 0.97})
        'teacher usual: 99.50 % of the training images right, mean probability of their label 0.970'
    """
    whom = f"teacher {found['name'] or 'usual'}"
    what = f"{found['of']} of the training images" if "of" in found else "training images"
    says = f"{whom}: {found['train']:.2f} % of the {what} right, mean probability of their label {found['label']:.3f}"
    if "score" not in found:
        return says
    metric = headline(found["headline"])
    return f"{says}; {metric.value(found['score'])} {metric.label} on them"


def _dense(run: Run, net: nn.Module, train: Source, sums: Sums) -> dict[str, Any]:
    """The same for every pixel or object, and the task's own metric on the training images."""
    if isinstance(train, DenseImages):
        train = whole(replace(train, crop=None, passes=1))
    elif isinstance(train, BoxImages):
        train = replace(train, training=False, passes=1)
    for batch in train.batches(1):
        if run.task.name == "segmentation":
            _pixels(net, batch, run.task.ignore, sums)
        else:
            _objects(net, batch, sums)
    result = measure_with(task_of(run, train.classes).metrics(), net, train).result()
    return {**sums.means(), "of": OF[run.task.name], "headline": result.headline, "score": result.score}


def _pixels(net: nn.Module, batch: Batch, ignore: int, sums: Sums) -> None:
    height, width = batch.target.shape[1:]
    logits = same_size(pick_maps(net(batch.images)), (height, width))
    for one, target in zip(logits, batch.target, strict=True):
        keep = labelled(target, ignore, one.shape[0])
        sums.add(one[:, keep].T, target[keep])


def _objects(net: nn.Module, batch: Batch, sums: Sums) -> None:
    known = unpacked(batch.target)
    boxes, labels = zip(*(one.trained for one in known), strict=True)
    logits, _ = classified(net, features_of(net, batch.images), boxes, batch.images)
    sums.add(logits, torch.cat(labels))
