"""What is going to be done with a folder of pictures: at which size, by which networks; said before torch is there."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .._files import expanded
from .._terminal import in_bytes
from .heads import LARGEST, printable
from .kinds import USUAL_BATCH, solver
from .survey import Survey, survey

TEACHER, STUDENT, EPOCHS = "resnet32", "resnet8", 60  # where nothing is said
# Pixels that suit a network, without and with a GPU: this package's own were drawn for 32 x 32, others' for 224 x 224.
SMALL, PHOTO = (48, 64), (96, LARGEST)
GPUS = ("/dev/nvidiactl", "/dev/dxg", r"C:\Windows\System32\nvcuda.dll")  # files that NVIDIA's drivers bring
CONFIG_READ = 100_000  # bytes of a config


@dataclass(frozen=True)
class Networks:
    """Who teaches whom, by name.

    Args:
        teacher: network; ``None`` where the labels alone teach.
        student: network.
        checkpoint: file with the teacher's weights; ``None``: it is trained first.
        small_stems: how many of the two have a stem for small pictures.
        pretrained: whether the teacher begins with its library's weights.
        method: how the student learns.
    """

    teacher: str | None = TEACHER
    student: str = STUDENT
    checkpoint: Path | None = None
    small_stems: int = 0
    pretrained: bool = False
    method: str = "kd"

    @property
    def names(self) -> list[str]:
        """Both, or the student's alone."""
        return [name for name in (self.teacher, self.student) if name]

    @property
    def small(self) -> bool:
        """Whether one of them is made for small pictures."""
        return self.small_stems > 0 or any(":" not in name for name in self.names)


@dataclass(frozen=True)
class Plan:
    """A folder of pictures and what is going to be done with it.

    Args:
        survey: what lies there, and the size.
        networks: who teaches whom.
        why: where the size comes from, in words.
        batch_size, epochs: what was chosen by the number of pictures; ``None`` where the user said it.
        images: how many are trained on, where that is not all of them.
    """

    survey: Survey
    networks: Networks
    why: str
    batch_size: int | None = None
    epochs: int | None = None
    images: int | None = None

    @property
    def lines(self) -> list[str]:
        """It in words, a sentence each."""
        found, there = self.survey, self.survey.available
        memory = f" of memory, of {in_bytes(there)}" if there else " of memory"
        told = [f"{printable(found.root)}: {found}{memory}", f"{found.size} x {found.size} {self.why}", self._way()]
        told += self._settings()
        told += [text for text in (found.validation, found.grouped, found.left_out, found.repeated) if text]
        if bad := len(found.unreadable):
            told.append(
                f"{bad} of {found.sampled} pictures that were looked at cannot be read, for example "
                f"{printable(found.unreadable[0])}: remove them, or write data.skip_broken=true"
            )
        return told

    def _way(self) -> str:
        n = self.networks
        if n.teacher is None:
            return f"{n.student} learns from the labels alone"
        if n.pretrained:
            weights = f"the weights in {printable(n.checkpoint)}" if n.checkpoint else "its library's weights"
            return (
                f"the teacher {n.teacher} begins with {weights} (if they are for other classes it is fine-tuned first, "
                f"and kept), then {n.student} learns from it"
            )
        if n.checkpoint is not None:
            return f"{n.student} learns from {n.teacher}, whose weights are those of {printable(n.checkpoint)}"
        nothing = ", from nothing: teacher.pretrained=true begins with its library's weights"
        begins = nothing if (n.teacher or "").startswith(("timm:", "torchvision:")) else ""
        first = f"first the teacher {n.teacher} is trained on the labels{begins} (and kept)"
        return f"{first}, then {n.student} learns from it"

    def _settings(self) -> list[str]:
        """Solver, length and method, and why."""
        images, n = self.images or sum(self.survey.train), self.networks
        few = "" if self.batch_size == USUAL_BATCH else f", few because there are {images:,}"
        told = (
            [f"batches of {self.batch_size} pictures{few}; data.batch_size=N takes another"] if self.batch_size else []
        )
        if self.epochs is not None:
            told.append(
                f"{self.epochs} epochs, about {self.epochs * images:,} pictures shown; --epochs N takes another length"
            )
        told.append(f"{n.student} learns by {solver(n.student)}; optimizer.lr=X takes another rate")
        if n.teacher is not None and n.method == "kd":
            told.append("the method is kd, which suits any number of classes; --method NAME takes another")
        return told


def planned(root: Path, networks: Networks, size: int | None = None) -> Plan:
    """Look at a folder and choose the size of its pictures.

    A size that is given is taken; else the size at which the teacher's weights were trained, if they lie in a run
    folder; else what suits the networks (of two, the one for smaller pictures, unless a teacher that is trained already
    was made for large ones) and the machine, but not more than the pictures have.

    Args:
        root: the folder.
        networks: who teaches whom.
        size: as the user says.

    Raises:
        ValueError, ImportError: as :func:`fractionate.pictures.survey`.
    """
    if size is not None:
        return Plan(survey(root, size), networks, "is what data.size says")
    if networks.checkpoint is not None and (trained := trained_size(networks.checkpoint)):
        return Plan(survey(root, trained), networks, "is what the teacher was trained at; data.size=N takes another")
    gpu = has_gpu()
    small = networks.small and not (networks.checkpoint is not None and ":" in (networks.teacher or ""))
    found = survey(root, largest=(SMALL if small else PHOTO)[gpu])
    return Plan(found, networks, f"{_why(found, small, gpu)}; data.size=N takes another")


def _why(found: Survey, small: bool, gpu: bool) -> str:
    if found.size < (SMALL if small else PHOTO)[gpu]:
        return "is as large as the pictures are"
    made = "suits networks made for small pictures" if small else "suits networks made for photos"
    return f"{made}, and {'a GPU' if gpu else 'a machine without a GPU'}"


def trained_size(checkpoint: Path) -> int | None:
    """The size of the pictures of the run that weights lie in the folder of; ``None`` where that is not told."""
    try:
        with open(expanded(checkpoint).parent / "config.yaml", encoding="utf-8") as file:
            text = file.read(CONFIG_READ)
    except (OSError, UnicodeDecodeError):
        return None
    found = re.search(r"^data:\n(?: .*\n)*?  size: (\d{1,5})$", text, re.MULTILINE)
    return int(found[1]) if found else None


def has_gpu() -> bool:
    """Whether a driver for GPUs that torch can use is installed, and none of them hidden."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and any(Path(path).exists() for path in GPUS)
