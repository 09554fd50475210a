"""What holds for a method, as its author states it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from ..methods import Method
from ..rows import Logits, Progress
from .inputs import Needs, easy_rows, huge_rows


@dataclass(frozen=True, kw_only=True)
class Contract:
    """One row of the contract table: every field is a claim, and each claim is checked in both directions.

    A claim that is too weak fails as well: a method that says ``row_wise=False`` must really look at other rows.

    Args:
        components: names besides ``task``, in order.
        zero_at_teacher: those that vanish, with their gradient, where the student equals the teacher; the others must
            not.
        row_wise: whether a row's value depends on that row alone.
        shift_invariant: whether a constant added to all logits of a row changes nothing.
        class_symmetric: whether renaming the classes changes nothing.
        random: whether random numbers belong to the place of a row in the batch (then only its first rows are left
            standing when rows are dropped).
        needs_labels: whether a distillation component reads the label.
        held_constant: whether a weight that depends on the student is kept out of the gradient, so that finite
            differences disagree with it.
        roles: whether ``deepkd`` works on it.
        deepkd_keeps_loss: whether ``deepkd`` then leaves the whole loss as it is.
        streams: names of its gradient streams.
        backward_passes: per step.
        needs: what its rows must hold.
        progress: position in training at which it is looked at.
        classes: number of classes it is looked at with.

    Example:
        >>> Contract(components=("kd",), zero_at_teacher=("kd",)).row_wise
        True
    """

    components: tuple[str, ...]
    zero_at_teacher: tuple[str, ...] = ()
    row_wise: bool = True
    shift_invariant: bool = True
    class_symmetric: bool = True
    random: bool = False
    needs_labels: bool = False
    held_constant: bool = False
    roles: bool = False
    deepkd_keeps_loss: bool = True
    streams: tuple[str, ...] = ("loss",)
    backward_passes: int = 1
    needs: Needs = field(default_factory=Needs)
    progress: Progress = field(default_factory=lambda: Progress(step=2, epoch=3, epochs=10))
    classes: int = 7

    def rows(self, n: int = 10) -> Logits:
        """Easy rows with everything the method needs; more of them than classes, so that labels repeat."""
        return easy_rows(n, self.classes, self.needs)

    def huge(self, size: float) -> Logits:
        """Extreme rows with everything the method needs."""
        return huge_rows(self.classes, size, self.needs)

    def components_of(self, method: Method) -> Callable[[Logits], dict[str, Tensor]]:
        """The method as a function of rows."""
        return lambda lg: method.components(lg, self.progress)

    def loss_of(self, method: Method) -> Callable[[Logits], Tensor]:
        """Its whole loss as a function of rows."""
        return lambda lg: method.loss(lg, self.progress)
