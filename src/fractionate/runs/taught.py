"""How a teacher was trained, as far as its weights' file says it: students note that beside their numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._files import expanded
from .._headlines import headline_of
from ..config.files import from_yaml
from ..config.run import Run

NOTE = "fractionate-training"  # key of a safetensors file's metadata
CONFIG = "config.yaml"
Training = dict[str, Any]


def training_of(weights: str | Path) -> Training | None:
    """How the weights of a file were trained: ``epochs``, ``schedule``, last score, and the ``dtype`` they are kept in.

    Known are weights in their run folder, and files that carry a note of it (kept teachers); ``None`` of all others.

    Args:
        weights: a ``.safetensors`` file.

    Example:
        >>> training_of("nowhere.safetensors") is None
        True
    """
    path = expanded(weights)
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            note = (file.metadata() or {}).get(NOTE)
            types = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError):
        return None
    found = _read(note) if note else _beside(path.parent)
    dtype = "float16" if "F16" in types else "bfloat16" if "BF16" in types else "float32"
    return {**found, "dtype": dtype} if found else None


def _read(note: str) -> Training | None:
    try:
        found = json.loads(note)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _beside(folder: Path) -> Training | None:
    """From the run folder that the weights lie in."""
    try:
        run = from_yaml((folder / CONFIG).read_text(encoding="utf-8"))
        facts = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    key = f"last_{headline_of(facts)}"
    return {
        "epochs": run.epochs,
        "schedule": run.learning_rate.schedule,
        "batch_size": run.data.batch_size,
        "seed": run.seed,
        key: facts.get(key),
    }


def taught_by(run: Run) -> Training | None:
    """The same of the teacher of a run."""
    weights = run.teacher.checkpoint if run.teacher else None
    return training_of(weights) if weights else None


def in_words(training: Mapping[str, Any] | None) -> str:
    """A few words for people; empty where nothing is known.

    Example:
        >>> in_words({"epochs": 60, "schedule": "cosine", "dtype": "float16"})
        'trained for 60 epochs (cosine), weights kept in float16'
    """
    if not training:
        return ""
    kept = training.get("dtype", "float32")
    half = "" if kept == "float32" else f", weights kept in {kept}"
    return f"trained for {training.get('epochs')} epochs ({training.get('schedule')}){half}"
