"""The run folder: config.yaml, metrics.jsonl, last.ckpt, student.safetensors, and summary.json when all is done."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import math
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from .checkpoint import restore, save_checkpoint, save_weights, write_atomically
from .config import Run
from .configfile import read_config, to_yaml
from .evaluate import Evaluation
from .fit import Record
from .prepare import Training, merging

CONFIG, METRICS, CHECKPOINT = "config.yaml", "metrics.jsonl", "last.ckpt"
STUDENT, SUMMARY = "student.safetensors", "summary.json"
FILES = (
    SUMMARY,
    CONFIG,
    METRICS,
    CHECKPOINT,
    STUDENT,
)  # the summary first: deleting starts by making the run unfinished


@dataclass(frozen=True)
class RunFolder:
    """One run on disk. It counts as finished when ``summary.json`` is there, which is written last."""

    path: Path

    @property
    def finished(self) -> bool:
        """Whether the run is complete."""
        return (self.path / SUMMARY).is_file()

    @property
    def student(self) -> Path:
        """The trained weights."""
        return self.path / STUDENT

    def start(self, run: Run, *, overwrite: bool = False) -> None:
        """Make the folder and write the config.

        Raises:
            ValueError: a run is already there and ``overwrite`` is off.
        """
        there = [name for name in FILES if (self.path / name).exists()]
        if there and not overwrite:
            state = "a finished run" if self.finished else "an unfinished run"
            raise ValueError(f"{self.path} holds {state}; choose another folder, or replace it (--overwrite)")
        for name in there:
            (self.path / name).unlink()
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / CONFIG, to_yaml(run))

    def resume(self, training: Training) -> bool:
        """Go on from ``last.ckpt`` if it is there, under the config of ``training``.

        Metrics of later epochs are forgotten.

        Returns:
            Whether there was anything to go on from.

        Raises:
            ValueError: the checkpoint has more epochs than the config asks for, or cannot be read.
        """
        checkpoint = self.path / CHECKPOINT
        if not checkpoint.is_file():
            return False
        restore(training, checkpoint)
        if training.epoch > training.run.epochs:
            raise ValueError(f"{checkpoint} is at epoch {training.epoch}, the config ends at {training.run.epochs}")
        write_atomically(self.path / CONFIG, to_yaml(training.run))
        kept = [row for row in self.metrics() if row["epoch"] <= training.epoch]
        write_atomically(self.path / METRICS, "".join(_line(row) for row in kept))
        return True

    def append(self, record: Record) -> None:
        """Add one epoch to the metrics."""
        with (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(_line(record.columns()))

    def save(self, training: Training) -> None:
        """Write ``last.ckpt``."""
        save_checkpoint(training, self.path / CHECKPOINT)

    def finish(self, training: Training, test: Evaluation, command: Sequence[str] = ()) -> dict[str, Any]:
        """Write the weights, then the summary.

        Args:
            training: at its last epoch.
            test: metrics of that epoch.
            command: how the program was called.

        Returns:
            The summary.
        """
        save_weights(training.student, self.student)
        facts = summarize(training, self.metrics(), test, command)
        write_atomically(self.path / SUMMARY, json.dumps(_finite(facts), indent=1, allow_nan=False) + "\n")
        return facts

    def config(self) -> Run:
        """The run's config."""
        return read_config(self.path / CONFIG)

    def summary(self) -> dict[str, Any]:
        """The summary of a finished run.

        Raises:
            ValueError: the run is not finished, or there is none.
        """
        if not self.finished:
            raise ValueError(f"{self.path} holds no finished run (no {SUMMARY})")
        return json.loads((self.path / SUMMARY).read_text(encoding="utf-8"))

    def metrics(self) -> list[dict[str, Any]]:
        """One dict per epoch."""
        text = (self.path / METRICS).read_text(encoding="utf-8") if (self.path / METRICS).is_file() else ""
        whole = text[: text.rfind("\n") + 1]  # an interrupted run may end in the middle of a line
        return [json.loads(line) for line in whole.splitlines()]


def summarize(
    training: Training, metrics: Sequence[dict[str, Any]], test: Evaluation, command: Sequence[str] = ()
) -> dict[str, Any]:
    """What ``summary.json`` says; the last epoch is the headline, the best one stands beside it.

    ``backward_passes`` are those per step that the method needs; watching a run takes more.
    """
    run, best = training.run, max(metrics, key=lambda row: row["test_top1"])
    method = run.method.build()
    return {
        "name": f"{run.data.name}/{run.method.title}/seed-{run.seed}",
        "method": run.method.title,
        "dataset": _dataset(run),
        "student": run.student.name,
        "teacher": run.teacher.name if run.teacher else None,
        "seed": run.seed,
        "epochs": run.epochs,
        "last_top1": test.top1,
        "best_top1": best["test_top1"],
        "best_epoch": best["epoch"],
        "last_top5": test.top5,
        "last_loss": test.loss,
        "agreement": test.agreement,
        "ece": test.calibration.ece,
        "calibration": asdict(test.calibration),
        "params": sum(p.numel() for p in training.student.parameters()),
        "teacher_params": training.teacher_params,
        "teacher_top1": training.teacher_test.top1 if training.teacher_test else None,
        "streams": {s.name: list(s.components) for s in method.streams},
        "backward_passes": len(method.momenta(run.optimizer.momentum, merging(run, method))),
        "seconds": sum(row["seconds"] for row in metrics),
        "device": _device(training),
        "watched": training.watch is not None,
        "command": list(command),
        "git": _git(),
        "versions": _versions(),
    }


def _dataset(run: Run) -> str:
    few = run.data.labels_per_class
    name = run.data.name if few is None else f"{run.data.name}, {few} labels per class"
    return name if run.data.evaluate_on == "test" else f"{name} ({run.data.evaluate_on} part)"


def _device(training: Training) -> str:
    device = next(training.student.parameters()).device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})"


@functools.cache
def _git() -> dict[str, Any] | None:
    """Commit of the package's own source, and whether it was changed since; ``None`` for an installed package."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
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


def _line(row: dict[str, Any]) -> str:
    return json.dumps(_finite(row), allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """JSON has no inf and no NaN: they become null."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
