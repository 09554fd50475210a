"""What ``summary.json`` says about a finished run."""

from __future__ import annotations

import functools
import importlib.metadata
import math
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import torch

from .. import __version__
from .._headlines import headline
from ..config.run import Run
from ..methods import Method
from ..methods.effective import said, warning_of
from ..tasks import Result
from ..tasks.classification import SCHEMA
from ..train.allocation import allocation
from ..train.build import Training, method_of
from ..train.optimizer import merging
from ..train.pixels import recorded, seen_by, seen_images
from .taught import taught_by

if TYPE_CHECKING:
    from ..train.loop import Loop

DEEP = 3  # folders below one that are looked into for runs: OUT/PAIR/METHOD/seed-N


def summarize(
    loop: Loop,
    metrics: Sequence[dict[str, Any]],
    test: Result,
    command: Sequence[str] = (),
    changes: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """What ``summary.json`` says; the last epoch is the headline, the best one stands beside it.

    ``backward_passes`` are those per step that the method needs; watching a run takes more. ``changes`` are the fields
    of the config that were changed when the run was resumed, ``skipped`` the steps left out as not finite. ``graph``
    says whether steps were played as a recording, or why not, ``teacher_fused`` how many of a live teacher's
    convolutions on a GPU take along what follows them. ``effective_weights`` are those of
    :func:`fractionate.methods.effective_weights`, and ``teacher_facts`` what the teacher says about some of the
    training images without augmentation (null: not measured). ``images`` is what a network that is taught by this one
    later has to be shown, ``preprocessing`` what the student does to pixels itself (null: as the data have them), and
    ``teacher_training`` how the teacher was trained, where the file of its weights says so.
    """
    training = loop.training
    run, key = training.run, test.headline
    method = method_of(run, training.task)
    trained = method if run.combine == "none" else training.method  # in components of their own, all the same momentum
    return {
        "schema": SCHEMA,
        "headline": key,
        "name": f"{run.data.name}/{run.method.title}/seed-{run.seed}",
        "method": run.method.title,
        "dataset": _dataset(run),
        **_pixels(training),
        "student": run.student.name,
        "teacher": run.teacher.name if run.teacher else None,
        "seed": run.seed,
        "epochs": run.epochs,
        **_measured(test, _best(metrics, key)),
        "params": sum(p.numel() for p in training.student.parameters()),
        **_teacher(training, key),
        "streams": {s.name: list(s.components) for s in trained.streams},
        "effective_weights": _weights(training, method),
        "backward_passes": len(trained.momenta(run.optimizer.base, merging(run, trained))),
        "seconds": sum(row["seconds"] for row in metrics),
        "device": _device(training),
        "processes": loop.world.size,
        **({"together": loop.common.students} if loop.common else {}),  # runs that took turns
        "watched": training.watch is not None,
        "ema": run.ema,
        **({"teacher_fused": said} if (said := getattr(training.teacher, "fused", None)) else {}),  # on a GPU
        "graph": (loop.captured.reason or "recorded") if loop.captured else None,
        "skipped": loop.guard.skipped,
        **getattr(test, "facts", dict)(),
        "changes": list(changes),
        "command": list(command),
        "git": _git(),
        "versions": _versions(),
    }


def _measured(test: Result, best: Mapping[str, Any]) -> dict[str, Any]:
    """The last epoch, and where the best one was."""
    key = test.headline
    return {
        f"last_{key}": test.score,
        f"best_{key}": best[f"test_{key}"],
        "best_epoch": best["epoch"],
        **{f"last_{name}": x for name, x in test.columns().items()},
        "agreement": test.agreement,
        "ece": test.calibration.ece,
        "calibration": asdict(test.calibration),
    }


def _teacher(training: Training, key: str) -> dict[str, Any]:
    """Its size, its headline, and what it says about some of the training images."""
    return {
        "teacher_params": training.teacher_params,
        "teacher_training": taught_by(training.run),
        f"teacher_{key}": training.teacher_test.score if training.teacher_test else None,
        "teacher_facts": None if training.teacher_facts is None else asdict(training.teacher_facts),
    }


def _weights(training: Training, method: Method) -> dict[str, Any]:
    """What the streams' momenta make of the weights, and where the weight decay is."""
    found, rate = allocation(training.run, method), training.run.optimizer.lr
    return {
        "components": {
            e.component: {"stream": e.stream, "weight": e.weight, "gain": e.gain, "base": e.base}
            for e in found.components
        },
        "decay": {"in": found.decay_on, "gain": found.decay_gain, "base": found.base_decay_gain},
        "said": said(found) if found.streamed else None,
        "warning": warning_of(found, rate) if training.run.optimizer.name == "sgd" else None,
    }


def _pixels(training: Training) -> dict[str, Any]:
    """Classes, normalisation and shape of the images, and what each network does to pixels itself."""
    seen = seen_images(training.train)
    return {
        "images": seen and seen | {"shape": list(next(iter(training.test.batches(1))).images.shape[1:])},
        "preprocessing": recorded(seen_by(training.student)),
        "teacher_preprocessing": recorded(training.teacher_pixels),
    }


def _best(metrics: Sequence[dict[str, Any]], key: str) -> dict[str, Any]:
    """The line of the best epoch of those after which the student was measured."""
    sign = 1 if headline(key).higher else -1
    return max((row for row in metrics if f"test_{key}" in row), key=lambda row: sign * row[f"test_{key}"])


def _dataset(run: Run) -> str:
    few = run.data.labels_per_class
    name = run.data.name if few is None else f"{run.data.name}, {few} labels per class"
    name += "" if run.data.imbalance is None else f", imbalance {run.data.imbalance:g}"
    name += "" if run.data.unlabelled is None else " and images without labels"
    return name if run.data.evaluate_on == "test" else f"{name} ({run.data.evaluate_on} part)"


def _device(training: Training) -> str:
    device = next(training.student.parameters()).device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})"


@functools.cache
def _git() -> dict[str, Any] | None:
    """Commit of the package's own source, and whether it was changed since; ``None`` for an installed package."""
    here = Path(__file__).parents[1]

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.SubprocessError):
        return None


@functools.cache
def _versions() -> dict[str, str]:
    packages = ("numpy", "scikit-learn", "safetensors", "torchvision", "timm")
    found = {"python": platform.python_version(), "fractionate": __version__, "torch": torch.__version__}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def finite(value: Any) -> Any:
    """JSON has no inf and no NaN: they become null."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def unfinished(folder: Path) -> str:
    """What a folder without a summary is, and what to do with it, in words.

    Example:
        >>> unfinished(Path("nowhere"))
        'there is no such folder'
    """
    if not folder.exists():
        return "there is no such folder"
    if (folder / "config.yaml").is_file():
        return f"it was stopped before its end: fractionate train --resume {quote(str(folder))} goes on with it"
    if (weights := folder / "model.safetensors").is_file():
        named = f"--student NAME --checkpoint {quote(str(weights))} --data SET"
        return f"it is an exported network; its weights are named so: {named}"
    if run := _below(folder):
        return f"name one of those below it, such as {run}"
    return "give the folder that fractionate train named at its end; a folder of pictures stands behind --data"


def _below(folder: Path) -> Path | None:
    """A finished run below a folder; students lie deeper than their teachers."""
    try:
        found = (p.parent for depth in range(DEEP, 0, -1) for p in folder.glob("*/" * depth + "summary.json"))
        return next(found, None)
    except OSError:
        return None
