"""Start a few processes, let each compute every case, and read what they found; once per session of tests."""

from __future__ import annotations

import fcntl
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing

from tests.distributed import problem
from tests.distributed.problem import Numbers


@dataclass
class Found:
    """What one of the processes found."""

    cases: dict[str, Numbers] = field(default_factory=dict)
    drifting: Numbers = field(default_factory=dict)
    resumed: dict[str, Numbers] = field(default_factory=dict)  # from a checkpoint of as many processes
    resumed_from_one: dict[str, Numbers] = field(default_factory=dict)
    unbroken: dict[str, Numbers] = field(default_factory=dict)
    refusal: str = ""
    table: Tensor | None = None
    seen: int = 0
    images: int = 0


def compute(folder: Path, size: int) -> Found:
    """Everything, in this process, which may be one of several."""
    found = Found({case: problem.outcome(case) for case in problem.CASES}, problem.outcome_without_reduction())
    for case in problem.RESUMED:
        path = checkpoint(folder, case, size)
        problem.interrupt(case, path)
        found.resumed[case] = problem.resumed(case, path)
        found.unbroken[case] = problem.outcome(case)
        if "dropout" not in case:
            found.resumed_from_one[case] = problem.resumed(case, checkpoint(folder, case, 1))
    found.refusal = problem.refused("dkd, broken")
    found.table, found.seen, found.images = problem.table_of(folder / f"tables-{size}")
    return found


def checkpoint(folder: Path, case: str, size: int) -> Path:
    """Where ``size`` processes save a case."""
    return folder / f"{case} {size}.ckpt"


def _process(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet-{size}", rank=rank, world_size=size)
    torch.save(compute(Path(folder), size), Path(folder) / f"{size}-{rank}.pt")
    dist.destroy_process_group()


def world(size: int, folder: Path) -> list[Found]:
    """What each of ``size`` processes found; computed by whoever comes first."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"{size}-{rank}.pt" for rank in range(size)]
    if size > 1:
        world(1, folder)  # its checkpoints are read
    with (folder / f"lock-{size}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all(file.exists() for file in files):
            if size == 1:
                torch.save(compute(folder, 1), files[0])
            else:
                multiprocessing.spawn(_process, (size, str(folder)), nprocs=size)
    return [torch.load(file, weights_only=False) for file in files]
