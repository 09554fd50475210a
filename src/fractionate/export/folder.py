"""The student of a finished run as a folder that others can use, with its model card."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .. import __version__
from .._choices import choose
from .._headlines import HEADLINES, headline, headline_of
from .._terminal import one_line, printable
from ..config.ranges import BOXED, DENSE
from ..config.run import Run
from ..data import Normalization
from ..methods.catalog import METHODS, WRAPPERS, describe
from ..models import Description, Preprocessing, switched
from ..models.preprocessing import Shown
from ..report.summary import summary_of
from ..runs.folder import CONFIG, SUMMARY, RunFolder
from ..runs.origin import code_problem, student_problem
from ..train.networks import build
from ..train.pixels import said_by
from ..train.sources import evaluation_source
from .formats import FORMATS, ONNX, PROGRAM, Format, Written, check_packages

if TYPE_CHECKING:
    from rich.console import Console

LOADED: dict[Format, str] = {
    "safetensors": """import fractionate as fr

exported = fr.models.load_exported("FOLDER")
logits = exported(images)  # uint8 [n, ch, h, w]; exported.net takes normalised images""",
    "onnx": f"""import onnxruntime

session = onnxruntime.InferenceSession("FOLDER/{ONNX}")
(logits,) = session.run(["logits"], {{"images": images}})  # normalised float32 [n, ch, h, w]""",
    "torch-export": f"""import torch

net = torch.export.load("FOLDER/{PROGRAM}").module()
logits = net(images)  # normalised float32 [n, ch, h, w]""",
}
TIMM = """import timm

net = timm.create_model("local-dir:FOLDER", pretrained=True).eval()"""


def card(facts: Mapping[str, Any], run: Run, description: Description, written: Sequence[Written]) -> str:
    """The card as Markdown; every number is read from the run.

    Args:
        facts: the run's ``summary.json``.
        run: its config.
        description: of the network.
        written: the formats that lie beside it.
    """
    parts = [
        f"# {_words(facts, 'student')} on {_words(facts, 'dataset')}, trained by {_words(facts, 'method')}",
        _opening(facts, run),
        "## How good it is",
        _table(_scores(facts, run)),
        f"These are numbers of one run (1 seed: {facts['seed']}); they do not say how much they vary between seeds.",
        "## What goes in",
        _input(description),
        "## Files",
        "\n".join(_file(w) for w in written),
        *_loading(description, written),
        "## How it was made",
        _table(_making(facts, run)),
        _again(run),
    ]
    return "\n\n".join(parts) + "\n"


def _opening(facts: Mapping[str, Any], run: Run) -> str:
    size = f"A network of {facts['params']:,} parameters" if facts.get("params") else "A network"
    words = f"{size}, trained for {_epochs(run.epochs)}"
    if run.method.distils and facts.get("teacher"):
        return f"{words} as the student of {_words(facts, 'teacher')}{_teacher(facts)}."
    return f"{words} on labels alone."


def _words(facts: Mapping[str, Any], key: str) -> str:
    """A text of the summary on one line, without markup."""
    return one_line(facts.get(key) or "?").replace("<", "&lt;")


def _teacher(facts: Mapping[str, Any]) -> str:
    known = [f"{facts['teacher_params']:,} parameters"] if facts.get("teacher_params") else []
    metric = headline(headline_of(facts))
    score = facts.get(f"teacher_{metric.key}")
    known += [f"{metric.value(score)} {metric.label}"] if score is not None else []
    return f" ({', '.join(known)})" if known else ""


def _scores(facts: Mapping[str, Any], run: Run) -> list[tuple[str, str]]:
    """The headline first, then the other metrics that have a name, then what else was recorded."""
    part, first = run.data.evaluate_on, headline(headline_of(facts))
    others = [
        metric
        for key, metric in HEADLINES.items()
        if key != first.key and isinstance(facts.get(f"last_{key}"), int | float)
    ]
    rows = [
        (f"{metric.label} on the {part} images, last epoch", metric.value(facts[f"last_{metric.key}"]))
        for metric in (first, *others)
    ]
    if (best := facts.get(f"best_{first.key}")) is not None:
        chosen = f"best epoch ({facts.get('best_epoch')}), chosen by these very images: not an honest estimate"
        rows.append((f"{first.label}, {chosen}", first.value(best)))
    if facts.get("ece") is not None:
        rows.append(("expected calibration error", f"{100 * facts['ece']:.2f} %"))
    if facts.get("agreement") is not None:
        rows.append(("same answer as the teacher", f"{facts['agreement']:.2f} %"))
    return rows


def _input(d: Description) -> str:
    channels, height, width = d.input_size
    mean, std = (", ".join(f"{v:.6g}" for v in x) for x in (d.mean, d.std))
    resized = (
        f" Images of another size are resized to that ({d.interpolation}, antialiased)." if d.interpolation else ""
    )
    classes = f"Logits of {d.num_classes} classes come out"
    shown = ", ".join(map(one_line, d.classes[:20])) + (", ... (all in `config.json`)" if len(d.classes) > 20 else "")
    return (
        f"Images with {channels} channel{'s' if channels > 1 else ''}, {height} x {width} pixels in training, as "
        f"(x / 255 - mean) / std with mean = ({mean}) and std = ({std}).{resized}\n"
        f"{classes}{f': {shown}' if shown else ''}."
    )


def _file(written: Written) -> str:
    same = "the same logits as the trained network" if not written.difference else "logits"
    apart = f" at most {written.difference:.1e} from the trained network's" if written.difference else ""
    return (
        f"- `{written.file}` ({written.format}): {written.note}. "
        f"Read back, it gives {same}{apart} on {written.images} images."
    )


def _loading(description: Description, written: Sequence[Written]) -> list[str]:
    code = [LOADED[w.format] for w in written]
    if description.timm_name and any(w.format == "safetensors" for w in written):
        code.append(TIMM)
    return ["## How to load it", *(f"```python\n{block}\n```" for block in code)]


def _making(facts: Mapping[str, Any], run: Run) -> list[tuple[str, str]]:
    told = summary_of(Path(SUMMARY), facts)
    versions = ", ".join(f"{name} {version}" for name, version in told.versions.items()) or "unknown versions"
    made = [versions] + [f"commit {told.git}"] * bool(told.git) + [f"on {told.device}"] * bool(told.device)
    made += [] if told.seconds is None else [f"in {told.seconds:.0f} s"]
    rows = [("method", f"{_words(facts, 'method')}: {_titles(run)}"), ("data", _words(facts, "dataset"))]
    rows += [("command", f"`{told.command}`")] if told.command else []
    return [
        *rows,
        ("trained with", ", ".join(made)),
        ("exported with", f"python {platform.python_version()}, fractionate {__version__}, torch {torch.__version__}"),
    ]


def _epochs(count: int) -> str:
    return f"{count} epoch" if count == 1 else f"{count} epochs"


def _again(run: Run) -> str:
    needed = ["the data"] + ["the teacher's weights"] * bool(run.teacher and run.teacher.checkpoint)
    return (
        "`training.yaml` is the whole configuration: `fractionate train --config training.yaml --out NEW` repeats it, "
        f"with {' and '.join(needed)} where it says."
    )


def _titles(run: Run) -> str:
    names = [run.method.name, *(wrapper.name for wrapper in run.method.wrappers)]
    found = [describe(name) for name in names if name in METHODS or name in WRAPPERS]
    return " ".join(f"{d.title.rstrip('.')} ({d.source.rstrip('.')})." for d in found) or "labels alone"


def _table(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(
        ["| | |", "|---|---|", *(f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in rows)]
    )


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
    )
    return switched(net, False).requires_grad_(False), description, images


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
