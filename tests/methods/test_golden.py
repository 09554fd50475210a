"""Every golden loss case through the public API, value and gradient, at the golden tolerance."""

from __future__ import annotations

import pytest

from tests import golden
from tests.methods.golden_rows import ROWS

LOSSES = golden.cases("losses")


@pytest.mark.parametrize("case", [case for case in LOSSES if case.method in ROWS], ids=lambda case: case.id)
def test_the_package_reproduces_the_published_loss(case: golden.Case) -> None:
    inputs = case.inputs()
    golden.assert_matches(case, ROWS[case.method](case.hyper, inputs), inputs)


def test_every_golden_case_has_a_row() -> None:
    assert sorted({case.method for case in LOSSES} - set(ROWS)) == []
