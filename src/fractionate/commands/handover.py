"""The commands about trained networks: ``evaluate``, ``predict``, ``linear-probe`` and ``export``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast, get_args

from tyro.conf import Positional, arg

from .options import (
    AnyDevice,
    Count,
    Device,
    File,
    Folder,
    Formats,
    Name,
    OneRun,
    Pictures,
    Pixels,
    Place,
    SetName,
    ThisRun,
    Words,
    at_least,
    names_and_changes,
    shown,
)
from .own_code import check_own_code

if TYPE_CHECKING:
    from rich.console import Console

    from ..config.data import Data
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
    """With --student: your folder of images, masks or boxes (its layout tells which), or a set by name (digits,
    cifar10, cifar100 ...; camvid, cityscapes, ade20k, voc, masks or coco in --root)."""
    root: Folder = None
    """Folder in which a set lies that goes by name; default: the environment variable FRACTIONATE_DATA, or data."""
    size: Count = None
    """Pixels of a folder's images; default: those of the run in whose folder the weights lie, else as in training.
    Of images with boxes the longer side; default: that of the run, else 640."""
    validation: bool = False
    """Measure on the validation part of the training images."""
    stem: Literal["default", "small"] = "default"
    """Stem of a torchvision or timm network, as it was trained with."""
    preprocessing: Pixels = None
    """With --student: pixels as timm, torchvision or transformers prepare them, or as the data have them."""
    teacher: Name = None
    """Network whose answers are compared with."""
    teacher_checkpoint: File = None
    """File with the teacher's weights."""
    batch_size: Count = None
    """Images at once, for which the speed holds; default: 1024, fewer of images above 64 pixels."""
    device: AnyDevice = "auto"
    """With --student: auto, cpu, cuda, cuda:1; a run is measured on the device of its config."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """With --student; a run is measured in float32, as its training measured it."""
    out: File = None
    """Write the numbers as JSON to this file."""
    own_code: bool = False
    """Run the module or file that the run's config names for its network; only for runs of people you trust."""

    def __call__(self, console: Console, command: tuple[str, ...]) -> None:
        """Run it."""
        import json

        from .._files import write_atomically
        from ..probe.measure import Conditions, evaluate_run

        if (self.run is None) == (self.student is None):
            raise ValueError("name a run folder, or a network: --student NAME --checkpoint FILE --data SET")
        if self.run is not None:
            self._nothing_but_the_run()
            check_own_code(self.run, self.own_code)
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
            "size",
            "validation",
            "stem",
            "preprocessing",
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
        from ..config.run import Network
        from ..probe.images import as_trained
        from ..probe.measure import evaluate_network

        if self.checkpoint is None:
            raise ValueError("--student needs --checkpoint FILE: a network without weights has nothing to measure")
        if (self.teacher is None) != (self.teacher_checkpoint is None):
            raise ValueError("--teacher NAME and --teacher-checkpoint FILE belong together")
        assert self.student is not None
        student = Network(
            self.student, checkpoint=str(self.checkpoint), stem=self.stem, preprocessing=self.preprocessing
        )
        teacher = Network(self.teacher, checkpoint=str(self.teacher_checkpoint)) if self.teacher else None
        data, task = as_trained(self._images(console), self.checkpoint, console, size=self.size)
        return evaluate_network(student, data, console, teacher=teacher, conditions=conditions, task=task)

    def _images(self, console: Console) -> Data:
        """The set that --data names, or the folder that it is."""
        from .._choices import choose
        from ..config.data import Data
        from ..config.ranges import BOXED, DENSE
        from ..probe.images import kind_of
        from ..train.sources import SETS

        name, root, sets = self.data, self.root, [*SETS, *DENSE, *BOXED]
        there = Path(name).expanduser()
        if name not in sets and (there.exists() or "/" in name):
            if root is not None:
                raise ValueError(f"--data {name} and --root {root} are two folders; leave --root out")
            name, root = kind_of(there), there
        elif name in (*DENSE, *BOXED) and root is None and there.is_dir():
            root = there
        choose("data set", name, sets)
        size = self.size
        if name == "folder" and root is not None:
            size = self._size(root, console)
        elif size is not None and name not in BOXED:
            raise ValueError("--size belongs to a folder of images or of boxes; a set that goes by name has one size")
        part: Literal["test", "validation"] = "validation" if self.validation else "test"
        return Data(name, root=str(root) if root else None, evaluate_on=part, size=size)  # type: ignore[arg-type]

    def _size(self, root: Path, console: Console) -> int:
        """Of a folder's images: as it is said, as they were trained on, or as training would take them."""
        from ..pictures.plan import Networks, planned, trained_size

        assert self.student is not None
        assert self.checkpoint is not None
        size = self.size or trained_size(self.checkpoint)
        if size is None:
            small = 1 if self.stem == "small" else 0
            size = planned(root, Networks(None, self.student, small_stems=small)).survey.size
            told = f"measured at {size} x {size} pixels, as {self.student} is trained where nothing is said; --size N"
            console.print(f"{told} takes another", highlight=False, soft_wrap=True)
        return size


@dataclass(frozen=True)
class Export:
    """Write a run's student as files for others, each compared with the network, with a model card."""

    run: ThisRun
    """Run folder."""
    out: Place
    """New folder for the files."""
    format: Formats = ("safetensors",)
    """One or several of safetensors, onnx, torch-export."""
    own_code: bool = False
    """Run the module or file that the run's config names for its network; only for runs of people you trust."""

    def __call__(self, console: Console, command: tuple[str, ...]) -> None:
        """Run it."""
        from ..export.folder import export_run

        check_own_code(self.run, self.own_code)
        export_run(self.run, self.out, self.format, console=console)


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


@dataclass(frozen=True)
class LinearProbe:
    """Measure a run's student on other images: frozen, with a new last layer that is trained on them."""

    what: Annotated[Positional[Words], shown("RUN [FIELD=VALUE ...]")] = ()
    """Folder of a finished run; then field=value: epochs, seed, data.size, optimizer.lr and the like."""
    on: Annotated[str, arg(metavar="SET")] = "stl10"
    """The other images: stl10, tiny-imagenet, cifar10, cub200, folder ..."""
    data: Folder = None
    """Folder in which they lie."""
    own_code: bool = False
    """Run the module or file that the run's config names for its network; only for runs of people you trust."""

    def __call__(self, console: Console, command: Words) -> None:
        """Run it."""
        from .._choices import choose
        from .._files import expanded
        from ..config.data import Name
        from ..config.files import override
        from ..config.ranges import BOXED, DENSE
        from ..probe.linear import probe_run, probe_settings
        from ..runs.folder import RunFolder

        names, changes = names_and_changes(self.what)
        if len(names) != 1:
            raise ValueError("name one run folder: fractionate linear-probe RUN --on stl10 --data DIR")
        folder = expanded(names[0])
        check_own_code(folder, self.own_code)
        trained = RunFolder(folder).config()
        other = cast("Name", choose("set of images", self.on, [n for n in get_args(Name) if n not in (*DENSE, *BOXED)]))
        settings = probe_settings(other, trained, None if self.data is None else str(self.data))
        probe_run(folder, override(settings, changes), console)
