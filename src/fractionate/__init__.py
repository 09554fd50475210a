"""fractionate: knowledge distillation as a split of the loss, a stream per component, a momentum per stream.

Rooms and names are loaded when they are first asked for, so that the command line answers ``--help`` without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for type checkers and editors; at run time `__getattr__` below finds the same names
    from . import combine, losses, methods, models, monitors, optim, rows, schedules
    from .kernels import Direction, Partition, jsd, skew, skew_reverse
    from .language import LinearLogits, linear_loss, linear_stream_losses
    from .losses import Split, TopLogits, by_target, by_target_top, by_teacher_top1, by_top, by_top1_top, split_kl
    from .methods import Method, only, pixel_losses, resplit
    from .optim import AllReduce, Momenta, StreamAdamW, StreamGrads, StreamSGD, UpdateAllReduce, stream_grads
    from .rows import Logits, Progress

__version__ = "0.1.0"

__all__ = [
    "AllReduce",
    "Direction",
    "LinearLogits",
    "Logits",
    "Method",
    "Momenta",
    "Partition",
    "Progress",
    "Split",
    "StreamAdamW",
    "StreamGrads",
    "StreamSGD",
    "TopLogits",
    "UpdateAllReduce",
    "by_target",
    "by_target_top",
    "by_teacher_top1",
    "by_top",
    "by_top1_top",
    "combine",
    "jsd",
    "linear_loss",
    "linear_stream_losses",
    "losses",
    "methods",
    "models",
    "monitors",
    "only",
    "optim",
    "pixel_losses",
    "resplit",
    "rows",
    "schedules",
    "skew",
    "skew_reverse",
    "split_kl",
    "stream_grads",
]

_ROOMS = ("combine", "losses", "methods", "models", "monitors", "optim", "rows", "schedules")
_HOMES = (
    "rows",
    "optim",
    "kernels",
    "losses",
    "methods",
    "language",
)  # of the other names, in this order

if not TYPE_CHECKING:  # a type checker would take any misspelled name for one of these

    def __getattr__(name: str) -> object:
        """Load a room, or a public name from its room, and keep it."""
        if name in _ROOMS:
            return import_module(f".{name}", __name__)
        if name in __all__:
            for home in _HOMES:
                found = getattr(import_module(f".{home}", __name__), name, None)
                if found is not None:
                    globals()[name] = found
                    return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
