"""What the page on many processes shows works on two of them, and can be typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing

from fractionate.cli import _parse

PAGE = Path(__file__).parent.parent.parent / "docs" / "distributed.md"
BEGIN = re.compile(r"^dist\.init_process_group\(.*$", re.MULTILINE)
BATCH = "batch_size=16"


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def own_loops(rank: int, size: int, folder: Path) -> None:
    """Both loops of the page, one after the other; the weights at the end go to a file."""
    dist.init_process_group("gloo", f"file://{folder}/meet-{size}", rank=rank, world_size=size)
    first, second, *_ = fenced("python")
    assert BEGIN.search(first)
    assert BATCH in first
    names: dict[str, object] = {}
    each = f"batch_size={32 // size}"
    for block in (BEGIN.sub("", first).replace(BATCH, each), second):
        exec(block, names)
    torch.save([p.detach() for p in names["student"].parameters()], folder / f"{size}-{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_the_loops_of_the_page_reach_the_same_weights_on_one_and_on_two_processes(tmp_path: Path) -> None:
    own_loops(0, 1, tmp_path)
    multiprocessing.spawn(own_loops, (2, tmp_path), nprocs=2)
    alone, *both = [weights(tmp_path / name) for name in ("1-0.pt", "2-0.pt", "2-1.pt")]
    assert all(torch.equal(a, b) for a, b in zip(*both, strict=True))
    for a, b in zip(alone, both[0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def weights(path: Path) -> list[Tensor]:
    return torch.load(path)


def test_the_commands_of_the_page_can_be_read() -> None:
    commands = re.findall(r"torchrun .*-m (fractionate .*)", "".join(fenced("bash")).replace("\\\n", ""))
    assert len(commands) == 3
    for command in commands:
        assert _parse(shlex.split(command)[1:]) is not None
