"""Run an example in float64, alone or as one of several processes that torchrun has started, and keep what it found.

Run: torchrun --nproc-per-node 2 tests/examples/launched.py EXAMPLE FOLDER
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str) -> dict[str, Any]:
    """What ``main`` of an example gives; every process begins with other weights."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    example = importlib.import_module(name)
    if hasattr(example, "network"):
        example.network = seeded(example.network, int(os.environ.get("RANK", 0)))
    found = example.main()
    return found.state_dict() if isinstance(found, nn.Module) else found


def seeded(make: Callable[..., nn.Module], rank: int) -> Callable[..., nn.Module]:
    def made(width: int) -> nn.Module:
        torch.manual_seed(100 + rank)
        return make(width)

    return made


def launch(name: str, processes: int, folder: Path) -> list[dict[str, Any]]:
    """What each of the processes found, started as a user starts them."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [*torchrun, __file__, name, str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert f"{processes} processes" in done.stdout
    return [torch.load(folder / f"{name}-{rank}.pt") for rank in range(processes)]


if __name__ == "__main__":
    sys.path.insert(0, str(EXAMPLES))
    torch.save(run(sys.argv[1]), Path(sys.argv[2]) / f"{sys.argv[1]}-{os.environ['RANK']}.pt")
    sys.stdout.flush()
    os._exit(0)  # torch's threads now and then abort a process that leaves; all that is asked for is written
