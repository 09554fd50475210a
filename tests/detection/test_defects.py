"""Where the published code of detectors is followed though it surprises: the row T8 of docs/differences.csv."""

from __future__ import annotations

import pytest
import torch

import fractionate as fr


@pytest.mark.parametrize("bins", [3, 8, 17])
def test_the_last_bin_is_never_a_label_however_far_a_side_is(bins: int) -> None:
    z, t = torch.randn(2, 3, 4 * bins, generator=torch.Generator().manual_seed(bins)).unbind()
    far = torch.tensor([0.0, bins - 1.05, bins - 1.0, 1e6]).expand(3, 4)
    lg = fr.rows.sides(z, t, far)
    assert lg.target is not None
    assert lg.target.view(3, 4)[0].tolist() == [0, bins - 2, bins - 2, bins - 2]
    whole = fr.rows.sides(z, t, far.clamp(max=bins - 1.1))  # as far as the published code lets them be
    loss, other = (fr.methods.dkd(temperature=1, warmup=1).loss(x) for x in (lg, whole))
    assert torch.equal(loss, other)
