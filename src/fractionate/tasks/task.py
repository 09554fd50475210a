"""The door through which training sees a task: rows for the losses, metrics of a network, and the one that leads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import nn

from ..data import Batch, Source, shares
from ..models.foreign import run_on
from ..rows import Logits
from ..teachers.live import Teacher
from ..world import current

if TYPE_CHECKING:
    from .classification import Calibration


class Result(Protocol):
    """Metrics of a network on a set of images; :class:`fractionate.tasks.Evaluation` is one."""

    @property
    def headline(self) -> str:
        """Name of the metric that tables and pages show first."""

    @property
    def score(self) -> float:
        """Its value."""

    @property
    def agreement(self) -> float | None:
        """How often the answer is the teacher's, in percent; ``None`` without a teacher."""

    @property
    def calibration(self) -> Calibration:
        """Reliability bins; empty where they are not measured."""

    def columns(self) -> dict[str, float]:
        """Metrics by name, the headline among them."""


@runtime_checkable
class Guessed(Protocol):
    """A :class:`Result` that knows what guessing gets: a network that gets clearly less was asked in the wrong way."""

    def guessing(self, classes: int) -> tuple[float, float]:
        """The headline's value for answers drawn at random among so many classes, and its standard deviation."""


class Metrics(Protocol):
    """Takes in one batch after the other; several processes that divide the batches get the same result."""

    def add(self, outputs: Any, batch: Batch) -> None:
        """Take in what a network returned for a batch, whose ``share`` is 0 where it is another process's."""

    def result(self) -> Result:
        """What came out; called by all processes together."""


class Task(Protocol):
    """What a network is trained for; :class:`fractionate.tasks.Classification` is one."""

    @property
    def headline(self) -> str:
        """Name of the metric that tables and pages show first."""

    @property
    def even(self) -> bool:
        """Whether every image gives one row of weight 1, so that a part of a batch counts by its images.

        Where it is not so (pixels without a label, regions, weights), it counts by the sum of its rows' weights.
        """

    def rows(self, student: nn.Module, teacher: Teacher | None, batch: Batch) -> Logits:
        """The rows of a batch from one forward pass of each network; further losses of the task in ``extra``."""

    def metrics(self, beside: Metrics | None = None) -> Metrics:
        """New metrics; ``beside`` are those of the teacher, which has seen the same images."""


M = TypeVar("M", bound=Metrics)


def _run(net: nn.Module, batch: Batch) -> Any:
    return run_on(net, batch.images)


@torch.inference_mode()
def measure_with(metrics: M, net: nn.Module, source: Source) -> M:
    """Show a network all images, in evaluation mode (it is put back afterwards); processes divide them.

    Args:
        metrics: take in what it says; returned.
        net: network.
        source: images in a fixed order, without augmentation.
    """
    world, training = current(), net.training
    run = getattr(metrics, "run", _run)  # metrics that show an image in parts run the network themselves
    net.eval()
    for batch in shares(source, 1, world.rank, world.size):
        metrics.add(run(net, batch), batch)
    net.train(training)
    return metrics
