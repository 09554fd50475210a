"""``fractionate export``: the student of a finished run as files that others can use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from .._choices import choose
from ..models import Description
from ..train import Run, RunFolder
from ..train.networks import build
from ..train.runfolder import CONFIG
from ..train.sources import SETS
from .card import card
from .formats import FORMATS, Format, Written, check_packages

if TYPE_CHECKING:
    from rich.console import Console

COMPARED = 16  # images of the evaluation part that every format is compared on


def export_run(
    folder: Path, out: Path, formats: Sequence[Format] = ("safetensors",), *, console: Console
) -> list[Written]:
    """Write a run's student in one or several formats, each compared with the network, and a model card.

    All is written into a folder beside ``out``, which gets its name at the end: ``out`` is whole or not there.

    Args:
        folder: of a finished run, whose data must be at hand: the formats are compared on images.
        out: new folder, with ``README.md``, ``training.yaml`` and the formats' files.
        formats: ``"safetensors"`` (with a config that ``fr.models.load_exported`` and, for timm's networks, timm
            read), ``"onnx"``, ``"torch-export"``.
        console: where the differences are printed.

    Returns:
        What was written.

    Raises:
        ValueError: no finished run, an unknown format, ``out`` is taken, or a format gives other logits.
        ImportError: a package that a format needs is missing.
    """
    chosen = list(dict.fromkeys(formats))
    for format in chosen:
        choose("format", format, FORMATS)
        check_packages(format)
    if not chosen:
        raise ValueError(f"name at least one format of {', '.join(FORMATS)}")
    target = RunFolder(folder)
    facts, run = target.summary(), target.config()
    net, description, images = _network(run, target)
    with _whole(out) as draft:
        written = [FORMATS[format][0](net, description, images, draft) for format in chosen]
        (draft / "README.md").write_text(card(facts, run, description, written), encoding="utf-8")
        shutil.copyfile(target.path / CONFIG, draft / "training.yaml")  # as the run wrote it
    for w in written:
        line = f"{out / w.file}: {w.format}, largest difference {w.difference:.2g} over {w.images} images"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(str(out / "README.md"), markup=False, highlight=False, soft_wrap=True)
    return written


def _network(run: Run, target: RunFolder) -> tuple[nn.Module, Description, Tensor]:
    """The trained student on the CPU, its description, and some normalised images."""
    data = SETS[run.data.name](run.data)
    images, classes = data.normalization(data.test.images[:COMPARED]), data.test.num_classes
    net = build(replace(run.student, checkpoint=str(target.student)), classes)
    channels, height, width = images.shape[1:]
    description = Description(
        name=run.student.name,
        num_classes=classes,
        input_size=(channels, height, width),
        mean=data.normalization.mean,
        std=data.normalization.std,
        classes=data.test.classes,
        stem=run.student.stem,
        published_bn=run.student.published_bn,
    )
    return net.eval().requires_grad_(False), description, images


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` to write into; it becomes ``out`` if all goes well, and goes away if not."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already; choose another folder")
    draft = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        if out.exists():
            out.rmdir()
        draft.replace(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
