"""Every fault of the table is answered in one line, and loses no more than the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.bench import Bench, Fault, check_lost, seen
from tests.faults.page import FAULTS, row, rows_of_the_page

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("fault", FAULTS, ids=[f.name for f in FAULTS])
@pytest.mark.usefixtures("unchecked")
def test_a_fault_is_answered_as_the_page_says(fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if fault.needs:
        pytest.importorskip(fault.needs)
    bench = Bench(tmp_path, monkeypatch)
    message = seen(fault, bench)
    check_lost(fault, bench)
    assert row(fault, message) == rows_of_the_page()[fault.name], "python -m tests.faults.page writes it anew"


def test_there_are_enough_faults_and_each_has_one_row() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names)) >= 60
    assert list(rows_of_the_page()) == names
