"""Whether a step fits into the machine's memory, found before anything is allocated for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..config.data import Data
from ..config.run import Run
from ..models import copy_of, switched
from ..pictures.heads import memory

FLOAT = 4  # bytes
CLOSE = 64  # times the images of a step: a network that keeps more of them for its gradients is rare
GIB = 2**30


def check_images_fit(data: Data, device: torch.device) -> None:
    """Refuse images of which the batch of one step, as numbers, is larger than the memory.

    Raises:
        ValueError: with what it would take and what there is.
    """
    needed, there = _images(data), available(device)
    if there is not None and needed > there:
        raise ValueError(_told(data, needed, there, "for its images alone"))


def check_step_fits(run: Run, student: nn.Module, device: torch.device) -> None:
    """Refuse a step for which a student keeps more than the memory holds.

    It is counted on tensors without contents, and halved, for some of the layers' answers share their memory; once more
    where the networks may compute in 16 bits. A network
    that cannot be run so is let through, and every one where the images are small beside the memory.

    Raises:
        ValueError: with what it would take and what there is.
    """
    data, there = run.data, available(device)
    if there is None or CLOSE * _images(data) <= there:
        return
    kept = _kept(student, _sides(data))
    halves = 2 if run.precision == "float32" else 4
    needed = _images(data) + (0 if kept is None else kept // halves * (data.batch_size // run.accumulate))
    if needed > there:
        raise ValueError(_told(data, needed, there, f"for its images and what {run.student.name} keeps of them"))


def available(device: torch.device) -> int | None:
    """Bytes of memory of the machine, or of its GPU; ``None`` where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return memory() if device.type == "cpu" else None


def _sides(data: Data) -> tuple[int, int]:
    """Height and width of the images as the config gives them; 0 where the data decide."""
    height, width = data.crop or (data.size or 0, data.size or 0)
    return height, width


def _images(data: Data) -> int:
    height, width = _sides(data)
    return data.batch_size * 3 * height * width * FLOAT


def _kept(net: nn.Module, sides: tuple[int, int]) -> int | None:
    """Bytes of all layers' answers to one image; ``None`` where they cannot be counted without running them."""
    total = 0

    def count(layer: nn.Module, given: Any, answer: Any) -> None:
        nonlocal total
        total += answer.numel() * answer.element_size() if isinstance(answer, Tensor) else 0

    try:
        empty = switched(copy_of(net).to("meta"), False)
        for layer in empty.modules():
            if not list(layer.children()):
                layer.register_forward_hook(count)
        with torch.no_grad():
            empty(torch.empty(1, 3, *sides, device="meta"))
    except Exception:  # of a network that reads values, or that cannot be copied
        return None
    return total


def _told(data: Data, needed: int, there: int, what: str) -> str:
    height, width = _sides(data)
    field = "data.crop" if data.crop else "data.size"
    fits = data.batch_size * there // needed
    fewer = f", or fewer in a step (data.batch_size, at most {fits} by this)" if fits else ""
    return (
        f"a step of {data.batch_size} images of {height} x {width} pixels takes at least {needed / GIB:,.1f} GiB "
        f"{what}, and there are {there / GIB:,.1f} GiB of memory: choose smaller images ({field}){fewer}"
    )
