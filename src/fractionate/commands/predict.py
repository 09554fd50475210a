"""The command that asks a trained student about pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .handover import check_own_code
from .options import Device, Pictures, ThisRun, at_least

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Predict:
    """Say what a run's student sees in pictures, beside its teacher: fractionate predict RUN PICTURE ..."""

    run: ThisRun
    """Run folder."""
    pictures: Pictures = ()
    """Files."""
    top: int = 3
    """How many classes of each network, the likeliest first."""
    json: bool = False
    """Say it as JSON, with probabilities of 0 to 1."""
    device: Device = None
    """Where to compute: auto, cpu, cuda, cuda:1; default: where the run was."""
    own_code: bool = False
    """Run the module or file that the run's config names for its network; only for runs of people you trust."""

    def __call__(self, console: Console, command: tuple[str, ...]) -> None:
        """Run it."""
        from ..probe.predict import predict_pictures

        at_least(1, top=self.top)
        check_own_code(self.run, self.own_code)
        predict_pictures(self.run, self.pictures, console, top=self.top, device=self.device, as_json=self.json)
