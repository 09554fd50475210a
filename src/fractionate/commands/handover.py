"""The two commands about trained networks, ``evaluate`` and ``export``, as frozen dataclasses like the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .options import File, Folder, Formats, Name, OneRun, Place, SetName, ThisRun

if TYPE_CHECKING:
    from rich.console import Console

    from ..probe.measure import Conditions, Measured


@dataclass(frozen=True)
class Evaluate:
    """Measure a run's student again, or any network (--student NAME --checkpoint FILE --data SET)."""

    run: OneRun = None
    """Run folder."""
    student: Name = None
    """Network, in place of a run."""
    checkpoint: File = None
    """File with its weights."""
    data: SetName = "digits"
    """Data set, with --student: digits, cifar10, cifar100, mnist, fashion-mnist or folder (then --root DIR)."""
    root: Folder = None
    """Folder of the data set; default: that of the environment variable FRACTIONATE_DATA, or data."""
    validation: bool = False
    """Measure on the validation part of the training images."""
    stem: Literal["default", "small"] = "default"
    """Stem of a torchvision or timm network, as it was trained with."""
    teacher: Name = None
    """Network whose answers are compared with."""
    teacher_checkpoint: File = None
    """File with the teacher's weights."""
    batch_size: int = 1024
    """Images at once; the speed holds for this number."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """With --student; a run is measured on the device of its config."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """With --student; a run is measured in the precision of its config."""
    out: File = None
    """Write the numbers as JSON to this file."""

    def __call__(self, console: Console, command: tuple[str, ...]) -> None:
        """Run it."""
        import json

        from .._files import write_atomically
        from ..probe.measure import Conditions, evaluate_run

        if (self.run is None) == (self.student is None):
            raise ValueError("name a run folder, or a network: --student NAME --checkpoint FILE --data SET")
        if self.run is not None:
            self._nothing_but_the_run()
            measured = evaluate_run(self.run, console, batch_size=self.batch_size)
        else:
            measured = self._network(console, Conditions(self.batch_size, self.device, self.precision))
        if self.out is not None:
            write_atomically(self.out, json.dumps(measured.columns(), indent=1) + "\n")

    def _nothing_but_the_run(self) -> None:
        own = (
            "checkpoint",
            "data",
            "root",
            "validation",
            "stem",
            "teacher",
            "teacher_checkpoint",
            "device",
            "precision",
        )
        plain = Evaluate()
        given = [name for name in own if getattr(self, name) != getattr(plain, name)]
        if given:
            words = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise ValueError(f"a run folder says everything itself; {words} belong to --student")

    def _network(self, console: Console, conditions: Conditions) -> Measured:
        from .._choices import choose
        from ..config.run import Data, Network
        from ..probe.measure import evaluate_network
        from ..train.sources import SETS

        if self.checkpoint is None:
            raise ValueError("--student needs --checkpoint FILE: a network without weights has nothing to measure")
        if (self.teacher is None) != (self.teacher_checkpoint is None):
            raise ValueError("--teacher NAME and --teacher-checkpoint FILE belong together")
        choose("data set", self.data, SETS)
        assert self.student is not None
        student = Network(self.student, checkpoint=str(self.checkpoint), stem=self.stem)
        teacher = Network(self.teacher, checkpoint=str(self.teacher_checkpoint)) if self.teacher else None
        root, part = str(self.root) if self.root else None, "validation" if self.validation else "test"
        data = Data(self.data, root=root, evaluate_on=part)  # type: ignore[arg-type]
        return evaluate_network(student, data, console, teacher=teacher, conditions=conditions)


@dataclass(frozen=True)
class Export:
    """Write a run's student as files for others, each compared with the network, with a model card."""

    run: ThisRun
    """Run folder."""
    out: Place
    """New folder for the files."""
    format: Formats = ("safetensors",)
    """One or several of safetensors, onnx, torch-export."""

    def __call__(self, console: Console, command: tuple[str, ...]) -> None:
        """Run it."""
        from ..export.folder import export_run

        export_run(self.run, self.out, self.format, console=console)
