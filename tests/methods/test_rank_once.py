"""Sorting the classes is the dear part of a partition: one per view and batch, whatever the number of temperatures."""

from __future__ import annotations

import pytest

import fractionate as fr
from fractionate import Method
from fractionate.losses import partitions
from tests import cases

M = fr.methods
RANKINGS = {
    "mlkd+deepkd: 5 temperatures, 2 views": (M.deepkd(M.mlkd(), keep=3), 2),
    "mlkd+deepkd: 5 temperatures, 1 view": (M.deepkd(M.mlkd(form="one_view"), keep=3), 1),
    "mlkd, standardised": (M.deepkd(M.lskd(M.mlkd()), keep=3), 2),
    "crld+deepkd: 4 pairs of views": (M.deepkd(M.crld(), keep=3), 2),
    "deepkd: 3 groups, merged to 2": (M.deepkd(M.dkd(), keep=3), 1),
    "gdkd3": (M.gdkd3(), 1),
    "mlkd": (M.mlkd(), 0),
}


@pytest.mark.parametrize(("method", "expected"), RANKINGS.values(), ids=RANKINGS)
def test_every_view_is_ranked_once(method: Method, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rank, made = partitions.top_classes, []

    def counted(*arguments: object, **options: object) -> object:
        made.append(arguments)
        return rank(*arguments, **options)

    monkeypatch.setattr(partitions, "top_classes", counted)
    method.components(cases.easy(), fr.Progress(epoch=200))
    assert len(made) == expected
