"""Tiny runs on the digits for the tests of the training room: a second or less each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fractionate.config.data import Data
from fractionate.config.method import MethodSpec
from fractionate.config.optimizers import LearningRate, Optimizer
from fractionate.config.run import Network, Run
from fractionate.models import create
from fractionate.runs.checkpoint import save_weights


def tiny(method: str | MethodSpec = "dkd", **changes: Any) -> Run:
    """A run of three epochs of four steps."""
    spec = MethodSpec.parse(method) if isinstance(method, str) else method
    run = Run(
        student=Network("convnet_4_8"),
        teacher=Network("convnet_8_16") if spec.distils else None,
        method=spec,
        data=Data(labels_per_class=2, batch_size=5, shift=1),
        optimizer=Optimizer(lr=0.01),
        learning_rate=LearningRate("cosine"),
        epochs=3,
        device="cpu",
        threads=1,
    )
    return replace(run, **changes)


def teacher_file(folder: Path) -> str:
    """Weights of a (random) teacher, so that every process sees the same one."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        save_weights(create("convnet_8_16", num_classes=10), folder / "teacher.safetensors")
    return str(folder / "teacher.safetensors")
