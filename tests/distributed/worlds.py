"""Start a few processes, let each compute every case, and read what they found; once per session of tests."""

from __future__ import annotations

import fcntl
from pathlib import Path

import torch
import torch.distributed as dist
from torch import multiprocessing

from tests.distributed import problem

Found = dict[str, dict[str, torch.Tensor]]


def compute() -> Found:
    """Every case in this process, which may be one of several."""
    found = {case: problem.outcome(case) for case in problem.CASES}
    found["without reduction"] = problem.outcome_without_reduction()
    return found


def _process(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet-{size}", rank=rank, world_size=size)
    torch.save(compute(), Path(folder) / f"{size}-{rank}.pt")
    dist.destroy_process_group()


def world(size: int, folder: Path) -> list[Found]:
    """What each of ``size`` processes found; computed by whoever comes first."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"{size}-{rank}.pt" for rank in range(size)]
    with (folder / f"lock-{size}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all(file.exists() for file in files):
            if size == 1:
                torch.save(compute(), files[0])
            else:
                multiprocessing.spawn(_process, (size, str(folder)), nprocs=size)
    return [torch.load(file) for file in files]
