"""Files that are whole or not there; the full state of a training run."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .configfile import to_plain
from .prepare import Training


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write next to ``path``, force to disk, rename: a reader sees the old file or the new one, never a part.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atomically(Path(folder) / "a.txt", "whole")
        ...     [f.name for f in Path(folder).iterdir()]
        ['a.txt']
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_weights(net: nn.Module, path: Path) -> None:
    """The state dict as safetensors."""
    from safetensors.torch import save

    write_atomically(path, save({k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}))


def save_checkpoint(training: Training, path: Path) -> None:
    """Everything needed to go on: weights, stream buffers, position, random state. Not the teacher.

    Batches need no state: a source gives the same ones for the same epoch.
    """
    state = {
        "student": training.student.state_dict(),
        "method": training.method.module.state_dict() if training.method.module else {},
        "optimizer": training.optimizer.state_dict(),
        "epoch": training.epoch,
        "step": training.step,
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "config": to_plain(training.run),
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def restore(training: Training, path: Path) -> None:
    """Go on where a checkpoint stands; hyper-parameters are those of ``training``'s config, not the saved ones.

    Raises:
        ValueError: the file cannot be read, or belongs to another network or to streams that cannot be converted.
    """
    state = _read(path)
    training.student.load_state_dict(state["student"])
    if training.method.module:
        training.method.module.load_state_dict(state["method"])
    options = [{k: v for k, v in g.items() if k != "params"} for g in training.optimizer.param_groups]
    training.optimizer.load_state_dict(state["optimizer"])
    for group, own in zip(training.optimizer.param_groups, options, strict=True):
        group.update(own, initial_lr=own["lr"])
    training.epoch, training.step = state["epoch"], state["step"]
    torch.set_rng_state(state["random"])
    if torch.cuda.is_available() and state["random_cuda"]:
        torch.cuda.set_rng_state_all(state["random_cuda"])


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds here
        raise ValueError(f"cannot go on from {path}: {str(error).splitlines()[0]}") from error
