"""fractionate: knowledge distillation as a split of the loss, a stream per component, a momentum per stream."""

from . import losses, methods, models, monitors, optim, rows, schedules
from .kernels import Direction, Partition, jsd, skew, skew_reverse
from .language import LinearLogits, linear_loss, linear_stream_losses
from .losses import Split, TopLogits, by_target, by_target_top, by_teacher_top1, by_top, by_top1_top, split_kl
from .methods import Method, only, resplit
from .optim import AllReduce, Momenta, StreamGrads, StreamSGD, UpdateAllReduce, stream_grads
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
    "StreamGrads",
    "StreamSGD",
    "TopLogits",
    "UpdateAllReduce",
    "by_target",
    "by_target_top",
    "by_teacher_top1",
    "by_top",
    "by_top1_top",
    "jsd",
    "linear_loss",
    "linear_stream_losses",
    "losses",
    "methods",
    "models",
    "monitors",
    "only",
    "optim",
    "resplit",
    "rows",
    "schedules",
    "skew",
    "skew_reverse",
    "split_kl",
    "stream_grads",
]
