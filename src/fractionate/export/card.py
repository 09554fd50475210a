"""The model card of an exported student, as Markdown."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from .._headlines import HEADLINES, headline, headline_of
from .._terminal import one_line
from ..config.ranges import FOLDERS
from ..config.run import Run
from ..data.boxes.source import SIDE
from ..methods.catalog import METHODS, WRAPPERS, describe
from ..models import Description
from ..report.summary import summary_of
from ..runs.folder import SUMMARY
from .formats import ONNX, PROGRAM, Format, Written

LOADED: dict[Format, str] = {
    "safetensors": """import fractionate as fr

exported = fr.models.load_exported("FOLDER")  # called on uint8 [n, ch, h, w]; exported.net takes normalised images
""",
    "onnx": f"""import onnxruntime

session = onnxruntime.InferenceSession("FOLDER/{ONNX}")
(logits,) = session.run(["logits"], {{"images": images}})  # normalised float32 [n, ch, h, w]""",
    "torch-export": f"""import torch

net = torch.export.load("FOLDER/{PROGRAM}").module()
logits = net(images)  # normalised float32 [n, ch, h, w]""",
}
CALLED = {  # what comes out, by the task
    "classification": "logits = exported(images)",
    "segmentation": "logits = exported(images)  # [n, classes, h, w]\nclasses = logits.argmax(1)",
    "detection": """found = exported(images)  # of every image: boxes [k, 4], labels [k], scores [k]
names = [[exported.description.classes[label - 1] for label in one["labels"].tolist()] for one in found]""",
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
        "## What goes in and what comes out",
        f"{_input(description, run)}\n{_output(description, run)}",
        "## Files",
        "\n".join(_file(w, run) for w in written),
        *_loading(description, run, written),
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


def _input(d: Description, run: Run) -> str:
    channels = d.input_size[0]
    mean, std = (", ".join(f"{v:.6g}" for v in x) for x in (d.mean, d.std))
    resized = (
        f" Images of another size are resized to that ({d.interpolation}, antialiased)." if d.interpolation else ""
    )
    return (
        f"Images with {channels} channel{'s' if channels > 1 else ''}, {_sizes(d, run)}, as "
        f"(x / 255 - mean) / std with mean = ({mean}) and std = ({std}).{resized}{_way(d, run)}"
    )


def _way(d: Description, run: Run) -> str:
    """How photos were brought to that size when the network was measured, the numbers being those of that."""
    data = run.data
    if data.name not in FOLDERS and d.taken_at is None:
        return ""
    loaded = data.workers is not None
    side = d.taken_at or d.input_size[1]
    shorter = int(side / data.crop_pct + 1e-6) if loaded else side
    how = data.interpolation if loaded else "bilinear"
    square = f"the shorter side of a photo was resized to {shorter} pixels ({how}, antialiased) and the middle "
    square += f"{side} x {side} cut out"
    if d.taken_at is None:
        return f" When it was measured, {square}."
    _, height, width = d.input_size
    return (
        f" When it was measured, {square} first, and that was resized to {height} x {width} ({d.interpolation}): "
        f"`load_exported(...)(images)` does both, and images for the other files, or for timm, have to be made so."
    )


def _sizes(d: Description, run: Run) -> str:
    """The pixels of images in training, and where it matters when they were measured."""
    data, (_, height, width) = run.data, d.input_size
    if run.task.name == "segmentation":
        crops = f"parts of {data.crop[0]} x {data.crop[1]} pixels" if data.crop else "whole"
        padded = f"padded to sides that are multiples of {data.multiple}" if data.multiple > 1 else "as they are"
        return f"{crops} in training and whole images when it was measured, {padded} ({height} x {width}, say)"
    if run.task.name == "detection":
        longer = data.size or SIDE
        sides = f"a longer side of {longer} pixels"
        if data.shorter:
            low, high = min(data.shorter), max(data.shorter)
            drawn = f"{low} to {high}" if low < high else str(low)
            sides = f"a shorter side of {drawn} pixels, a longer one of at most {longer}"
        return f"{sides} in training, padded at the right and at the bottom with the mean"
    return f"{height} x {width} pixels in training"


def _output(d: Description, run: Run) -> str:
    shown = ", ".join(map(one_line, d.classes[:20])) + (", ... (all in `config.json`)" if len(d.classes) > 20 else "")
    names = f": {shown}" if shown else ""
    if run.task.name == "segmentation":
        return f"A map of logits of {d.num_classes} classes comes out, [n, {d.num_classes}, h, w]{names}."
    if run.task.name == "detection":
        return (
            f"For every image come out `boxes` [k, 4] (left, top, right, bottom in its pixels), `labels` [k] and "
            f"`scores` [k]. Labels begin at 1, since 0 is the background: label l is `classes[l - 1]` of the "
            f"{d.num_classes} categories{names}."
        )
    return f"Logits of {d.num_classes} classes come out{names}."


def _file(written: Written, run: Run) -> str:
    what = "boxes, labels and scores" if run.task.name == "detection" else "logits"
    same = f"the same {what} as the trained network" if not written.difference else what
    apart = f" at most {written.difference:.1e} from the trained network's" if written.difference else ""
    return (
        f"- `{written.file}` ({written.format}): {written.note}. "
        f"Read back, it gives {same}{apart} on {written.images} images."
    )


def _loading(description: Description, run: Run, written: Sequence[Written]) -> list[str]:
    code = [LOADED[w.format] + CALLED[run.task.name] * (w.format == "safetensors") for w in written]
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
