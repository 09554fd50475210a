"""What students that are trained side by side share: images, their teacher, every batch, and its answers.

Each student keeps a loop of its own, and the loops take their steps in turns. What is shared is made by whoever asks
first and is the same, bit for bit, as each would have made alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from ..config.run import Run
from ..data import Batch, Draw, Drawn, Source, shares
from ..teachers.live import Teacher

T = TypeVar("T")
Given = TypeVar("Given", Batch, Draw)
Make = Callable[[int, int], Iterator[Given]]  # of an epoch and the number of its first batch

# What may differ between runs that share their batches and their teacher's answers; all other fields must be equal.
OWN = (
    "student",
    "method",
    "optimizer",
    "learning_rate",
    "monitors",
    "epochs",
    "merge",
    "combine",
    "ema",
    "save_every",
    "keep",
    "skip_nonfinite",
)


def shared_part(run: Run) -> tuple[Any, ...]:
    """What of a config decides the batches and the teacher's answers, or how they are computed.

    Example:
        >>> from dataclasses import replace
        >>> from fractionate.config.method import MethodSpec
        >>> from fractionate.config.run import Network
        >>> run = Run(student=Network("convnet_4_8"), method=MethodSpec("ce"))
        >>> [shared_part(run) == shared_part(other) for other in (replace(run, epochs=3), replace(run, seed=1))]
        [True, False]
    """
    return tuple(getattr(run, f.name) for f in fields(run) if f.name not in OWN)


class Answers:
    """A :class:`Teacher` that is asked once about each batch, or part of one; whoever asks gets a copy of their own.

    Args:
        teacher: who answers.
    """

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher
        self._kept: dict[tuple[Any, ...], tuple[Batch, tuple[Tensor, Tensor | None]]] = {}
        self._made: dict[tuple[Any, ...], tuple[Batch, Any]] = {}

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Logits of both views."""
        key = _key(batch)
        if key not in self._kept:  # the batch is kept too, so that no other one can come to lie where it lies
            self._kept[key] = batch, self.teacher(batch)
        weak, strong = self._kept[key][1]
        return weak.clone(), None if strong is None else strong.clone()  # a loss may work in place

    def once(self, batch: Batch, make: Callable[[], T]) -> T:
        """What ``make`` computed of this batch when somebody asked first; nobody may work in place on it."""
        key = _key(batch)
        if key not in self._made:
            self._made[key] = batch, make()
        found: T = self._made[key][1]
        return found

    def forget(self) -> None:
        """The next batch is another one, even if it lies where this one lay."""
        self._kept.clear()
        self._made.clear()


def _key(batch: Batch) -> tuple[Any, ...]:
    """By which a batch, or a part of one, is known again: parts are views of it."""
    images = batch.images
    return images.data_ptr(), tuple(images.shape), images.stride(), images.dtype, *_age(batch)


def _age(given: Batch | Draw) -> tuple[int | None, ...]:
    """How often each of its tensors was written to."""
    tensors = [x for x in vars(given).values() if isinstance(x, Tensor)]
    return tuple(None if x.is_inference() else x._version for x in tensors)


class Feed(Generic[Given]):
    """The batches of one epoch after the other, each made once as long as everybody asks for the same one.

    Args:
        before: called before another one is made.
    """

    def __init__(self, before: Callable[[], None]) -> None:
        self.before = before
        self._at: tuple[int, int] | None = None
        self._rest: Iterator[Given] = iter(())
        self._given: Given | None = None
        self._age: tuple[int | None, ...] = ()

    def batches(self, make: Make[Given], epoch: int, start: int, steps: int) -> Iterator[Given]:
        """Those of an epoch from number ``start`` on.

        Args:
            make: the source's; the same for all who ask.
            epoch: from 1.
            start: number of the first.
            steps: batches of a whole epoch; nobody who is done with his last one makes another for it.
        """
        for number in range(start, steps):
            found = self._get(make, epoch, number)
            if found is None:
                return
            yield found

    def _get(self, make: Make[Given], epoch: int, number: int) -> Given | None:
        if self._at != (epoch, number):
            self.before()
            if self._at != (epoch, number - 1):  # somebody goes on from another place
                self._rest = make(epoch, number)
            self._given = next(self._rest, None)
            self._at, self._age = (epoch, number), () if self._given is None else _age(self._given)
        elif self._given is not None and _age(self._given) != self._age:
            raise ValueError(
                f"batch {number} of epoch {epoch}, which students side by side share, was written to by one of them: "
                f"its network or its loss works in place on what it is given; train one at a time (--no-together)"
            )
        return self._given


class Common:
    """What runs share that go side by side in one process."""

    def __init__(self) -> None:
        self.students = 0
        self._part: tuple[Any, ...] | None = None
        self._made: dict[str, Any] = {}
        self._answers: Answers | None = None
        self._whole: Feed[Batch] = Feed(self.forget)
        self._drawn: Feed[Draw] = Feed(self.forget)
        self._shown: tuple[Draw, Batch] | None = None

    def join(self, run: Run) -> None:
        """Take in a run.

        Raises:
            ValueError: it has other batches or another teacher than those before it.
        """
        part = shared_part(run)
        if self._part not in (None, part):
            raise ValueError(
                f"{run.method.title}, seed {run.seed}, has other batches or another teacher than the runs beside it"
            )
        self._part, self.students = part, self.students + 1

    def once(self, name: str, make: Callable[[], T], *, reseeded: bool = False) -> T:
        """What ``make`` returned when it was asked for first; a ``None`` is asked for again.

        Where making it moves torch's generator, it is made for everyone, as it would be for each alone.

        Args:
            name: of what is made.
            make: makes it.
            reseeded: the generator is seeded afterwards, so that it does not matter.
        """
        if name in self._made:
            found: T = self._made[name]
            return found
        before = torch.get_rng_state()
        found = make()
        if found is not None and (reseeded or torch.equal(before, torch.get_rng_state())):
            self._made[name] = found
        return found

    def answers(self, teacher: Teacher) -> Teacher:
        """The teacher, asked once about each batch."""
        if self._answers is None or self._answers.teacher is not teacher:
            self._answers = Answers(teacher)
        return self._answers

    def batches(self, source: Source, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch from number ``start`` on."""
        return self._whole.batches(lambda e, first: shares(source, e, start=first), epoch, start, len(source))

    def draws(self, source: Source, epoch: int, start: int) -> Iterator[Draw]:
        """What chance decided about them."""
        assert isinstance(source, Drawn)
        return self._drawn.batches(source.draws, epoch, start, len(source))

    def shown(self, source: Source, draw: Draw) -> Batch:
        """The batch of a draw."""
        assert isinstance(source, Drawn)
        if self._shown is None or self._shown[0] is not draw:
            self._shown = draw, source.shown(draw)
        return self._shown[1]

    def forget(self) -> None:
        """What comes next is another batch."""
        self._shown = None
        if self._answers:
            self._answers.forget()
