"""What is noted about an epoch: its losses, kept on their device and looked at once, and its gradient streams."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from ..config.run import Monitors, Run
from ..methods import Method
from ..monitors import GSNR, cosines, norms, update_rms
from ..optim import StreamAdamW, StreamGrads, StreamSGD
from ..optim.grads import Grads, Reduce
from ..tasks import Result
from ..world import World
from .health import diverged, gradient_diverged
from .observed import by_layer, layers_of, ranks_seen, update_shares

if TYPE_CHECKING:
    from .build import Training
    from .step import Step


T = TypeVar("T")
Lap = Callable[[str], None]  # told the name of every stage of a step when it is over
ROWS, BACKWARD, UPDATE = "rows", "backward", "update"


def tested(test: Result | None) -> dict[str, float | None]:
    """Columns of what was measured on the test images after an epoch; none where nothing was."""
    if test is None:
        return {}
    found = {f"test_{name}": x for name, x in test.columns().items()}
    return {**found, "agreement": test.agreement, "ece": test.calibration.ece}


class Watch:
    """Everything a config asks to observe about the gradients.

    Args:
        monitors: what to observe.
        optimizer: whose updates are observed, if that is asked for.
        layers: layer of every parameter, by its id.
    """

    def __init__(
        self, monitors: Monitors, optimizer: StreamSGD | StreamAdamW, layers: Mapping[int, str] | None = None
    ) -> None:
        self.monitors, self.optimizer, self.layers = monitors, optimizer, layers or {}
        self.by_layer = GSNR(monitors.gsnr_window) if monitors.gsnr_window and monitors.layers else None
        self.gsnr = GSNR(monitors.gsnr_window) if monitors.gsnr_window else None
        self.last: StreamGrads | None = None

    def see(self, grads: StreamGrads) -> None:
        """Take in the gradients of one step."""
        self.last = grads
        if self.gsnr:
            self.gsnr.update(grads)
        if self.by_layer:
            self.by_layer.update(by_layer(grads, self.layers))

    def read(self, training: Training | None = None, steps: int = 0) -> dict[str, float | None]:
        """Columns of the metrics; once after every epoch, for a window is told where it ended and not again.

        Args:
            training: it, after an epoch; without it nothing is read at the logits.
            steps: of an epoch.

        Returns:
            ``gsnr/<stream>``, ``norm/<stream>``, ``cosine/<stream>|<stream>``; ``update_rms`` over all weights, and
            ``update_rms/largest`` of the tensor that stepped farthest; ``share/<stream>``, ``layer/<layer>|<stream>``.
            ``gsnr`` and ``layer`` are ``None`` where no window ended since the last epoch's end.
        """
        found = _ratios("gsnr", self.gsnr)
        if self.last and self.monitors.norms:
            found |= {f"norm/{name}": x for name, x in norms(self.last).items()}
        if self.last and self.monitors.cosines:
            found |= {f"cosine/{a}|{b}": x for (a, b), x in cosines(self.last).items()}
        found |= _ratios("layer", self.by_layer)
        if self.last and self.monitors.shares:
            found |= {f"share/{name}": x for name, x in update_shares(self.optimizer).items()}
        if self.monitors.ranks and training is not None:
            found |= ranks_seen(training, steps)
        if self.monitors.update_rms and isinstance(self.optimizer, StreamAdamW):
            rms = update_rms(self.optimizer)
            found |= {"update_rms": rms.overall, "update_rms/largest": rms.largest}
        return found

    def state_dict(self) -> dict[str, Any]:
        """The windows, begun and full; the gradients of the last step belong to a finished epoch and are not kept."""
        windows = self.gsnr.state_dict() if self.gsnr else {}
        return windows | {"layers": self.by_layer.state_dict()} if self.by_layer else windows

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on with saved windows; windows of another length start anew."""
        if self.gsnr and state:
            self.gsnr.load_state_dict(state, device)
        if self.by_layer and state and "layers" in state:
            self.by_layer.load_state_dict(state["layers"], device)


def _ratios(prefix: str, monitor: GSNR | None) -> dict[str, float | None]:
    ended = monitor.ended() if monitor else {}
    return {f"{prefix}/{name}": g.ratio if g else None for name, g in ended.items()}


def watching(run: Run, optimizer: StreamSGD | StreamAdamW, student: nn.Module) -> Watch | None:
    """What is observed of this run; ``None`` if nothing."""
    monitors = run.monitors
    wanted = monitors.update_rms and (monitors.seeds is None or run.seed in monitors.seeds)
    if not (wanted or monitors.watches(run.seed)):
        return None
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    names = zip(parameters, layers_of(student, parameters), strict=True)
    return Watch(monitors, optimizer, {id(p): name for p, name in names})


class EpochLog:
    """The loss and the components of every step of an epoch, and how long it took.

    Args:
        method: names the components and the streams they are in.
        world: the processes that take every step together. Each keeps its own contributions to the means; they are
            summed when somebody looks.
    """

    def __init__(self, method: Method, world: World | None = None) -> None:
        self.method, self.world = method, world or World()
        self.names = list(method.parts)
        self.streams: list[str] = []
        self.rows: list[Tensor] = []
        self.places: list[int] = []
        self.counts: list[int] = []  # images of each row's step
        self.seen = 0
        self.images = 0
        self.lr: float | None = None
        self._before, self._started = 0.0, time.perf_counter()
        self._waited = 0.0

    def begin(self, lr: float) -> None:
        """Start the clock, of a new epoch or of the rest of an interrupted one.

        Args:
            lr: current learning rate; kept if this is the epoch's first step.
        """
        self.lr = lr if self.lr is None else self.lr
        self._started = time.perf_counter()

    def away(self, seconds: float) -> None:
        """The clock stood still for so long, while it was others' turn."""
        self._started += seconds

    @property
    def seconds(self) -> float:
        """Time since the epoch began; that between an interruption and its end does not count."""
        return self._before + time.perf_counter() - self._started

    @property
    def images_per_s(self) -> float:
        """Images seen since the epoch began, per second."""
        return self.images / self.seconds

    @property
    def data_wait(self) -> float:
        """Share of the time since the epoch began, or went on, in which a batch was waited for."""
        return self._waited / max(1e-9, time.perf_counter() - self._started)

    def waiting(self, batches: Iterator[T]) -> Iterator[T]:
        """The same batches, with a clock at how long each is waited for."""
        end = object()
        while True:
            begun = time.perf_counter()
            batch = next(batches, end)
            self._waited += time.perf_counter() - begun
            if batch is end:
                return
            yield batch  # type: ignore[misc]

    def add(self, step: Step, images: int, largest: Tensor | None = None) -> None:
        """Keep one step's numbers; nothing is synchronized.

        Args:
            step: what it did.
            images: how many it saw.
            largest: largest absolute gradient of every stream, where nobody has looked at it yet.
        """
        self.names = [name for name in self.names if name in step.components]  # without labels there is no task
        row = torch.stack([step.loss, *(step.components[name] for name in self.names)])
        if largest is not None:
            self.streams = list(step.grads)
            row = torch.cat([row, largest.to(row.dtype) / self.world.size])
        self.rows.append(row)
        self.places.append(self.seen)
        self.counts.append(images)
        self.skip(images)

    def skip(self, images: int) -> None:
        """Count a step without numbers."""
        self.seen += 1
        self.images += images

    def check(self, epoch: int, first_step: int) -> Tensor:
        """Look at all numbers so far.

        Args:
            epoch: for the message.
            first_step: number of the epoch's first step, for the message.

        Returns:
            ``[steps, 1 + components]`` float64 on the CPU.

        Raises:
            Diverged: a number is not finite.
        """
        width = 1 + len(self.names)
        if not self.rows:
            return torch.empty(0, width, dtype=torch.float64)
        table = self.world.sum_(torch.stack(self.rows)).double().cpu()
        for place, row in zip(self.places, table.tolist(), strict=True):
            step, values = first_step + place, row[:width]
            for name, value in zip(["", *self.names], values, strict=True):
                if not math.isfinite(value) and (name or all(map(math.isfinite, values[1:]))):
                    raise diverged(self.method, epoch, step, name, value)
            for stream, value in zip(self.streams, row[width:], strict=False):
                if not math.isfinite(value):
                    raise gradient_diverged(self.method, epoch, step, stream, value)
        return table[:, :width]

    def means(self, epoch: int, first_step: int) -> tuple[float, dict[str, float]]:
        """Mean loss and mean components over the images; as :meth:`check`. NaN if every step was left out."""
        if not (table := self.check(epoch, first_step)).numel():
            return math.nan, dict.fromkeys(self.names, math.nan)
        share = torch.tensor(self.counts, dtype=torch.float64)
        loss, *components = (share / share.sum() @ table).tolist()
        return loss, dict(zip(self.names, components, strict=True))

    def settle(self) -> None:
        """Let the main process have what all have contributed."""
        if self.rows:
            self.rows = self._kept(self.world.sum_(torch.stack(self.rows)).unbind())

    def _kept(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Sums over all processes, in the form in which each keeps its own contribution."""
        return [row if self.world.main else torch.zeros_like(row) for row in rows]

    def state_dict(self) -> dict[str, Any]:
        """Everything seen so far, as plain data and tensors."""
        return {
            "names": self.names,
            "streams": self.streams,
            "rows": torch.stack(self.rows).cpu() if self.rows else None,
            "places": self.places,
            "counts": self.counts,
            "seen": self.seen,
            "images": self.images,
            "lr": self.lr,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on where :meth:`state_dict` was taken.

        Raises:
            ValueError: the components are others.
        """
        if state["seen"] and state["names"] not in (self.names, self.names[1:]):
            raise ValueError(
                f"it stands inside an epoch of a method with components {state['names']}, the config has {self.names}; "
                f"keep the method, or start anew in another folder"
            )
        self.names = list(state["names"]) if state["seen"] else self.names
        self.streams, self.places = list(state["streams"]), list(state["places"])
        self.rows = self._kept([] if state["rows"] is None else state["rows"].to(device).unbind())
        each = state["images"] // max(1, state["seen"])  # of checkpoints without counts
        self.counts = list(state.get("counts") or [each] * len(self.rows))
        self.seen, self.images, self.lr, self._before = (state[k] for k in ("seen", "images", "lr", "seconds"))


@dataclass(frozen=True)
class Laps:
    """Tells when each stream has been differentiated, on the way to the processes' sums if there are several."""

    lap: Lap
    inner: Reduce | None
    one: bool

    def start(self, stream: str, parameters: Sequence[Tensor], grads: Grads) -> Grads:  # noqa: D102
        self.lap(BACKWARD if self.one else f"{BACKWARD}, {stream}")
        return self.inner.start(stream, parameters, grads) if self.inner else grads

    def finish(self) -> None:  # noqa: D102
        if self.inner:
            self.inner.finish()
