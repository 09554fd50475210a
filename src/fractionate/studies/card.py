"""The model card: what an exported network is, how good it is, how it was made, how to load it."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .. import __version__
from ..methods.catalog import METHODS, WRAPPERS, describe
from ..models import Description
from ..train import Run
from .formats import ONNX, PROGRAM, Format, Written

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
        f"# {facts['student']} on {facts['dataset']}, trained by {facts['method']}",
        _opening(facts, run),
        "## Accuracy",
        _table(_accuracy(facts, run)),
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
    words = f"A classifier of {facts['params']:,} parameters, trained for {_epochs(facts['epochs'])}"
    if run.method.distils and facts["teacher"]:
        return f"{words} as the student of {facts['teacher']}{_teacher(facts)}."
    return f"{words} on labels alone."


def _teacher(facts: Mapping[str, Any]) -> str:
    known = [f"{facts['teacher_params']:,} parameters"] if facts["teacher_params"] else []
    known += [f"{facts['teacher_top1']:.2f} % top-1"] if facts["teacher_top1"] is not None else []
    return f" ({', '.join(known)})" if known else ""


def _accuracy(facts: Mapping[str, Any], run: Run) -> list[tuple[str, str]]:
    part = run.data.evaluate_on
    rows = [
        (f"top-1 on the {part} images, last epoch", f"{facts['last_top1']:.2f} %"),
        (f"top-5 on the {part} images, last epoch", f"{facts['last_top5']:.2f} %"),
        (
            f"top-1, best epoch ({facts['best_epoch']}), chosen by these very images: not an honest estimate",
            f"{facts['best_top1']:.2f} %",
        ),
        ("expected calibration error", f"{100 * facts['ece']:.2f} %"),
    ]
    if facts["agreement"] is not None:
        rows.append(("same answer as the teacher", f"{facts['agreement']:.2f} %"))
    return rows


def _input(d: Description) -> str:
    channels, height, width = d.input_size
    mean, std = (", ".join(f"{v:.6g}" for v in x) for x in (d.mean, d.std))
    classes = f"Logits of {d.num_classes} classes come out"
    shown = ", ".join(d.classes[:20]) + (", ... (all in `config.json`)" if len(d.classes) > 20 else "")
    return (
        f"Images with {channels} channel{'s' if channels > 1 else ''}, {height} x {width} pixels in training, as "
        f"(x / 255 - mean) / std with mean = ({mean}) and std = ({std}).\n"
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
    git = facts.get("git")
    source = f", commit {git['commit'][:12]}{' (changed)' if git['changed'] else ''}" if git else ""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    rows = [("method", f"{facts['method']}: {_titles(run)}"), ("data", facts["dataset"])]
    rows += [("command", f"`{shlex.join(facts['command'])}`")] if facts["command"] else []
    return [
        *rows,
        ("trained with", f"{versions}{source}, on {facts['device']}, in {facts['seconds']:.0f} s"),
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
