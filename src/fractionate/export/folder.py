"""The student of a finished run as a folder that others can use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .._choices import choose
from .._terminal import printable
from ..config.ranges import BOXED, DENSE
from ..config.run import Run
from ..data import Normalization
from ..models import Description, Preprocessing, switched
from ..models.preprocessing import Shown
from ..runs.folder import CONFIG, RunFolder
from ..runs.origin import code_problem, student_problem
from ..train.networks import build
from ..train.pixels import said_by
from ..train.sources import evaluation_source
from .card import card
from .formats import FORMATS, Format, Written, check_packages

if TYPE_CHECKING:
    from rich.console import Console

COMPARED = 16  # images of the evaluation part that every format is compared on
FEW = 3  # of those with a class for every pixel


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
        ValueError: no finished run, weights that it did not write (whose numbers the card would not be), an unknown
            format, ``out`` is taken, or a format gives other logits.
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
    if problem := student_problem(facts, folder):
        raise ValueError(f"{problem}, and the numbers of its model card would not be theirs: put that file back")
    if problem := code_problem(facts, run):
        raise ValueError(f"{problem}, and the numbers of its model card would not be its own: put the code back")
    net, description, images = _network(run, target, said_by(facts))
    with _whole(out) as draft:
        written = [FORMATS[format][0](net, description, images, draft) for format in chosen]
        (draft / "README.md").write_text(printable(card(facts, run, description, written)), encoding="utf-8")
        shutil.copyfile(target.path / CONFIG, draft / "training.yaml")  # as the run wrote it
    for w in written:
        line = f"{out / w.file}: {w.format}, largest difference {w.difference:.2g} over {w.images} images"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(str(out / "README.md"), markup=False, highlight=False, soft_wrap=True)
    return written


def _network(run: Run, target: RunFolder, own: Preprocessing | None) -> tuple[nn.Module, Description, Tensor]:
    """The trained student on the CPU, its description, and some images as it takes them.

    One that was shown pixels in its own way leaves with that way as its description: its files take images of its own
    size, normalised as its library does.
    """
    images, classes, named, rule = _images(run)
    taken = _taken(run, own, images.shape[-1])
    if own is not None:
        images = Shown(own, rule.mean, rule.std).pixels(images)
    net = build(replace(run.student, checkpoint=str(target.student)), classes)
    channels, height, width = images.shape[1:]
    description = Description(
        name=run.student.name,
        num_classes=classes,
        input_size=(channels, height, width),
        mean=own.mean if own else rule.mean,
        std=own.std if own else rule.std,
        classes=named,
        stem=run.student.stem,
        published_bn=run.student.published_bn,
        interpolation=own.interpolation if own and own.size else None,
        **taken,
    )
    return switched(net, False).requires_grad_(False), description, images


def _taken(run: Run, own: Preprocessing | None, side: int) -> dict[str, Any]:
    """How the data took photos before the network saw them at a size of its own; nothing where there was one size."""
    data = run.data
    if own is None or own.size in (None, (side, side)) or data.name in (*DENSE, *BOXED):
        return {}
    if data.workers is None:
        return {"taken_at": side}
    return {"taken_at": side, "taken_pct": data.crop_pct, "taken_by": data.interpolation}


def _images(run: Run) -> tuple[Tensor, int, tuple[str, ...], Normalization]:
    """Some normalised images, the number of classes and their names, and the normalisation."""
    test = evaluation_source(run.data, torch.device("cpu"))
    most = FEW if run.data.name in (*DENSE, *BOXED) else COMPARED
    found = torch.cat([batch.images for batch, _ in zip(test.batches(1), range(most), strict=False)])[:most]
    return found.contiguous(), test.num_classes, test.classes, test.normalization


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` to write into; it becomes ``out`` if all goes well, and goes away if not."""
    draft = out.with_name(f".{out.name[:40]}.{os.getpid()}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        there = out.exists() and (not out.is_dir() or any(out.iterdir()))
        draft.mkdir(parents=True)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise OSError(f"cannot write to {out}: {why}; choose another folder") from error
    try:
        if there:
            raise ValueError(f"{out} is there already; choose another folder")
        yield draft
        if out.exists():
            out.rmdir()
        draft.replace(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
