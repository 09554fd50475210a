"""Every row of the contract table through every check."""

from __future__ import annotations

import pytest

from fractionate.methods import catalog
from fractionate.testing import CHECKS
from tests.methods.contract_rows import METHODS, TABLE, WRAPPERS


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("name", TABLE)
def test_the_method_keeps_its_contract(name: str, check) -> None:
    check(TABLE[name].make(), TABLE[name].contract)


def test_the_table_has_one_row_for_every_name_of_the_catalog() -> None:
    assert list(METHODS) == list(catalog.METHODS)
    assert sorted({*METHODS, *WRAPPERS}) == sorted({*catalog.METHODS, *catalog.WRAPPERS})
