"""Networks that end their run, each in its own way, once the file of the variable UNLUCKY_AFTER is there."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from fractionate.models import create


class Deaf(Exception):
    """An error that does not come back from pickle."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class Unlucky(nn.Module):
    """A small network that ends after a few steps."""

    def __init__(self, num_classes: int, end: Callable[[], None], *, backward: bool = False) -> None:
        super().__init__()
        self.net, self.end, self.steps = create("convnet_4_8", num_classes=num_classes), end, 0
        self.backward = backward  # what forward raises is said in other words

    def forward(self, x: Tensor) -> Tensor:
        self.steps += self.training
        if self.steps == 8:
            limit = time.monotonic() + 60
            while not Path(os.environ["UNLUCKY_AFTER"]).exists() and time.monotonic() < limit:
                time.sleep(0.05)
            if not self.backward:
                self.end()
        logits: Tensor = self.net(x)
        if self.backward and self.steps == 8:
            logits.register_hook(lambda gradient: self.end())
        return logits


def killed(num_classes: int) -> nn.Module:
    """As by ``kill -9``, or by a system without memory."""
    return Unlucky(num_classes, lambda: os.kill(os.getpid(), signal.SIGKILL))


def ended(num_classes: int) -> nn.Module:
    """Without a word."""
    return Unlucky(num_classes, lambda: os._exit(3))


def memory(num_classes: int) -> nn.Module:
    """No memory for Python."""

    def end() -> None:
        raise MemoryError

    return Unlucky(num_classes, end)


def deaf(num_classes: int) -> nn.Module:
    """With an error that no other process can build again."""

    def end() -> None:
        raise Deaf(1, 2)

    return Unlucky(num_classes, end, backward=True)


def counted(num_classes: int) -> nn.Module:
    """One that works, and notes how many threads its process has."""
    with Path(os.environ["UNLUCKY_AFTER"]).open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()} {torch.get_num_threads()}\n")
    return create("convnet_4_8", num_classes=num_classes)
