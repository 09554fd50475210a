"""Parts in which AdamW passes over tensors on a CPU: every number once, none larger than the cache it is to stay in."""

from __future__ import annotations

import itertools

import pytest
import torch

from fractionate.optim import arithmetic
from fractionate.optim.arithmetic import _parts


@pytest.mark.parametrize("sizes", [(3, 4, 2, 5, 1), (25,), (1, 25, 2), (10, 10), (0, 3), (9, 9, 1, 1)])
def test_parts_hold_every_number_once_and_no_more_than_fit(
    sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arithmetic, "PART", 10)
    numbers = torch.arange(float(sum(sizes)))
    rows = [list(x.split(sizes)) for x in (numbers, -numbers)]
    parts = list(_parts(rows))
    for k, expected in enumerate((numbers, -numbers)):
        assert torch.equal(torch.cat([x.flatten() for part in parts for x in part[k]]), expected)
    taken = [sum(x.numel() for x in part[0]) for part in parts]
    assert max(taken) <= 10
    assert all(a + b > 10 for a, b in itertools.pairwise(taken))  # and small ones are put together
