"""Properties that small changes of the code had slipped past: optimizers and rules that combine."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist

import fractionate as fr
from fractionate import combine
from fractionate.optim import arithmetic
from fractionate.optim.products import LEAST
from fractionate.optim.reduce import UpdateAllReduce


def test_gradients_are_dropped_by_zero_grad_as_torch_does() -> None:
    p = torch.nn.Parameter(torch.ones(2))
    for optimizer in (fr.StreamSGD([p], lr=0.1), fr.StreamAdamW([p])):
        p.grad = torch.ones(2)
        optimizer.zero_grad()
        assert p.grad is None


def test_parts_of_a_step_hold_all_numbers_once_and_no_more_than_fit_into_a_cache() -> None:
    sizes = [3, arithmetic.PART - 1, 5, 2 * arithmetic.PART + 7, 1, arithmetic.PART, 2]
    rows = [[torch.arange(n, dtype=torch.float32) for n in sizes] for _ in range(2)]
    parts = list(arithmetic._parts(rows))
    assert [sum(x.numel() for x in part[0]) for part in parts if part[0]]
    assert all(sum(x.numel() for x in part[0]) <= arithmetic.PART for part in parts)
    for k in range(2):
        assert torch.equal(torch.cat([x for part in parts for x in part[k]]), torch.cat(rows[k]))
    assert len(parts) < len(sizes) + 3


def test_gradients_in_shards_are_refused_by_aggregators_of_others() -> None:
    with patch.object(combine, "is_sharded", return_value=True), pytest.raises(ValueError, match="in shards"):
        combine.aggregated({"a": [torch.ones(1)]}, lambda matrix: matrix.mean(0))


def test_the_logarithm_of_a_loss_is_taken_from_a_hundred_millionth_on() -> None:
    assert LEAST == 1e-8


def moved(optimizer: torch.optim.Optimizer, p: torch.nn.Parameter) -> dict[str, object]:
    p.grad = torch.ones_like(p)
    optimizer.step()
    p.grad = None
    return optimizer.state_dict()


def test_states_of_other_optimizers_and_of_other_networks_are_refused_when_they_are_loaded() -> None:
    p, q = torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(3, 2))
    with pytest.raises(ValueError, match="another kind of optimizer"):
        fr.StreamSGD([p], lr=0.1).load_state_dict(moved(torch.optim.Adagrad([p]), p))
    for kind in (fr.StreamSGD, fr.StreamAdamW):
        first = kind([p], 0.1, 0.9)
        first.step({"loss": [torch.ones(2, 3)]})
        with pytest.raises(ValueError, match=r"of a parameter \[3, 2\] is \[2, 3\]"):
            kind([q], 0.1, 0.9).load_state_dict(first.state_dict())


class Arrived:
    def wait(self) -> None:
        """Nothing is on its way."""


def test_buffers_become_the_mean_over_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other processes are played: what they give makes every mean larger by 2."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        p = torch.nn.Parameter(torch.ones(2, 3))
        optimizer = fr.StreamSGD([p], lr=0.1, momentum={"a": 0.9, "b": 0.5})
        optimizer.step({"a": [torch.full((2, 3), 2.0)], "b": [torch.ones(2, 3)]})
        before = {name: x.clone() for name, x in optimizer.state[p].items()}
        monkeypatch.setattr(dist, "all_reduce", lambda flat, **_: (flat.add_(2), Arrived())[1])
        UpdateAllReduce(optimizer).average_buffers()
    finally:
        dist.destroy_process_group()
    assert len(before) == 2
    for name, x in optimizer.state[p].items():
        torch.testing.assert_close(x, before[name] + 2)
