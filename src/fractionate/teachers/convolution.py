"""A convolution with what follows it in one call of cuDNN, and a trial whether that is right and faster."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEVICES = ("cuda",)
ROUNDING = {torch.float32: 2**-10, torch.float16: 2**-10, torch.bfloat16: 2**-7}  # float32: TF32 reads 10 bits
PROBED = 8  # images of which an output is compared with float64's
ROUNDS, CALLS = 3, 10
BUSY = (
    4096  # rows of a square whose product takes some ms: the calls to be timed wait in line, no launch is in the time
)
Seconds = Callable[[Callable[[], object]], float]


def gpu_seconds(work: Callable[[], object]) -> float:
    """What the GPU takes for a call, without the host's time to ask for it."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    work()
    with torch.autocast("cuda", enabled=False):
        square = torch.ones(BUSY, BUSY, device="cuda")
        torch.mm(square, square)
    start.record()
    for _ in range(CALLS):
        work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / CALLS


class FusedConvolution(nn.Module):
    """relu(convolution(x) + z), without ``z`` if there is none; in one call on a GPU, else one after the other.

    Args:
        layer: the convolution, with a bias.
        name: what it is called in the network.

    Attributes:
        refused: why it is not one call; ``None`` where it may be.
        seconds: a stopwatch while it is tried.
    """

    def __init__(self, layer: nn.Conv2d, name: str) -> None:
        super().__init__()
        self.layer, self.name = layer, name
        self.refused: str | None = None
        self.seconds: Seconds | None = None

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """The output of the ReLU."""
        if self.refused is not None or not self.suits(x, z):
            return self.plain(x, z)
        if self.seconds is not None:
            plain = self.plain(x, z)
            self.refused = self._fault(x, z, plain, self.seconds)
            return plain
        try:
            return self.whole(x, z)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # there was a kernel for the batch that it was tried on
            self.refused = first_line(error)
            warnings.warn(f"{self.name} of the teacher goes on without fusing: {self.refused}", stacklevel=2)
            return self.plain(x, z)

    def suits(self, x: Tensor, z: Tensor | None) -> bool:
        """Whether cuDNN takes these tensors, the convolution having weights of the type in which it would run."""
        kind, weight = x.device.type, self.layer.weight
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        if kind not in DEVICES or x.ndim != 4 or weight.dtype != dtype or dtype not in ROUNDING:
            return False
        return z is None or (z.dtype == dtype and tuple(z.shape) == self._shape(x))

    def _shape(self, x: Tensor) -> tuple[int, ...]:
        o, own = self.layer, zip(x.shape[2:], *self._geometry(), self.layer.kernel_size, strict=True)
        return (x.shape[0], o.out_channels, *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, s, p, d, k in own))

    def _geometry(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        o = self.layer
        assert not isinstance(o.padding, str)
        return o.stride, o.padding, o.dilation

    def plain(self, x: Tensor, z: Tensor | None) -> Tensor:
        """One operation after the other."""
        y: Tensor = self.layer(x)
        return F.relu(y if z is None else y + z, inplace=True)

    def whole(self, x: Tensor, z: Tensor | None) -> Tensor:
        """One call."""
        o = self.layer
        x, (stride, padding, dilation) = x.to(o.weight.dtype), self._geometry()
        if z is None:
            return torch.cudnn_convolution_relu(x, o.weight, o.bias, stride, padding, dilation, o.groups)
        return torch.cudnn_convolution_add_relu(x, o.weight, z, 1.0, o.bias, stride, padding, dilation, o.groups)

    def _fault(self, x: Tensor, z: Tensor | None, plain: Tensor, seconds: Seconds) -> str | None:
        try:
            found = self.whole(x, z)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            return first_line(error)
        if not self._right(found, plain, x, z):
            return "wrong numbers"
        times = [(seconds(lambda: self.whole(x, z)), seconds(lambda: self.plain(x, z))) for _ in range(ROUNDS)]
        return None if statistics.median(a / b for a, b in times) < 1 else "no faster"

    def _right(self, found: Tensor, plain: Tensor, x: Tensor, z: Tensor | None) -> bool:
        """Whether it is as near to what float64 says as the plain operations are, or as rounding is."""
        o, few = self.layer, slice(0, PROBED)
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = o.weight.double(), None if o.bias is None else o.bias.double()
            exact = F.conv2d(x[few].to(o.weight.dtype).double(), weight, bias, *self._geometry(), o.groups)
            exact = F.relu(exact if z is None else exact + z[few].double())
        errors = [float((y[few].double() - exact).abs().max()) for y in (found, plain)]
        allowed = max(2 * errors[1], ROUNDING[o.weight.dtype] * float(exact.abs().max()))
        return found.shape == plain.shape and errors[0] <= allowed


def first_line(error: Exception) -> str:
    """What an exception says first."""
    return (str(error).splitlines() or [type(error).__name__])[0]
