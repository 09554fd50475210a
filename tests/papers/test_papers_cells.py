"""Every cell of the table of published hyper-parameters is in the run that the package makes of its line."""

import csv
import hashlib

import pytest

from fractionate.papers.recipes import paper, papers
from fractionate.papers.rows import COLUMNS, number, read
from tests.papers.cells import TABLE, Case, complete, table
from tests.papers.columns import CHECKS

# Some methods warn when they are built: kd under DeepKD's published code, dgkd beyond its proven range.
pytestmark = pytest.mark.filterwarnings("ignore:deepkd", "ignore:dgkd")

CIFAR = [cells for cells in table() if cells["dataset"] == "cifar100"]
COMPLETE = [cells for cells in CIFAR if complete(cells)]
# Of the tables as they were collected. The other tests compare the package with its own copy, so they would follow a
# value that is changed there by accident; a new digest says that it was not.
DIGESTS = {
    "recipes.csv": "07307288c179c503e0d82cd0787854fe4cdbe08ae8f8e17ef43b2b46b3889190",
    "published.csv": "0c8fe82f99c07320667de588b7104a2c0b9fa3377e98b30af8ef4f9c86d64e57",
}
METHODS = sorted({cells["method"] for cells in CIFAR})


@pytest.mark.parametrize("method", METHODS)
def test_every_cell_of_a_complete_cifar_row_is_in_its_run(method: str) -> None:
    for cells in (c for c in COMPLETE if c["method"] == method):
        recipe = paper(cells["id"])
        assert recipe.runnable, f"{recipe.id}: {recipe.obstacle or recipe.needs}"
        case = Case(cells, recipe, recipe.run())
        for column, cell in cells.items():
            if cell:
                assert column in CHECKS, f"{recipe.id}: nothing looks at column {column!r} = {cell!r}"
                assert CHECKS[column](case, cell), f"{recipe.id}: column {column!r} = {cell!r} is not in {case.run}"


@pytest.mark.parametrize("name", DIGESTS)
def test_no_value_of_a_shipped_table_has_changed(name: str) -> None:
    assert hashlib.sha256(TABLE.with_name(name).read_bytes()).hexdigest() == DIGESTS[name]


def test_every_shipped_result_is_shown_with_a_recipe() -> None:
    with TABLE.with_name("published.csv").open(encoding="utf-8", newline="") as file:
        shipped = {tuple(cells.values()) for cells in csv.DictReader(file)}
    assert shipped == {tuple(vars(number).values()) for recipe in papers().values() for number in recipe.numbers}


def test_the_runnable_recipes_are_the_complete_rows() -> None:
    small = [r for r in papers().values() if r.row.dataset == "cifar100"]
    assert {r.id for r in small if r.runnable and not r.derived} == {c["id"] for c in COMPLETE}


def test_a_changed_cell_is_noticed() -> None:
    cells = next(c for c in COMPLETE if c["id"] == "cifar100/dkd+deepkd/wrn_40_2__wrn_16_2/paper/paper")
    recipe = paper(cells["id"])
    case = Case(cells, recipe, recipe.run())
    numeric = [c for c, cell in cells.items() if cell.replace(".", "").lstrip("-").isdigit()]
    assert len(numeric) > 20
    assert [column for column in numeric if CHECKS[column](case, str(number(cells[column]) + 1))] == []


def test_no_argument_of_a_run_is_invented() -> None:
    """What is in no column comes from the source's word for its form, or is the published code's behaviour."""
    said = {"temperature", "ce_weight", "kd_weight", "alpha", "beta", "w0", "w1", "w2", "k", "m1", "m2"}
    said |= {"wv_weight", "cv_weight"}
    renamed = {"warmup", "ratio", "gamma", "tau_weak", "tau_strong", "l", "weight", "start_epoch", "temperatures"}
    from_variant = {"version", "mode", "eta", "alpha_temperature", "form"}
    as_published = {"detach", "views"}
    one_each = {(c["method"], c["variant"]): c["id"] for c in COMPLETE}.values()
    found = {name for id in one_each for name in paper(id).run().method.args}
    assert found <= said | renamed | from_variant | as_published


def test_a_cell_of_the_wrong_type_is_explained() -> None:
    cells = ["one" if column in ("id", "epochs") else "" for column in COLUMNS]
    with pytest.raises(ValueError, match=r"recipe 'one', column 'epochs': expected int \| None, got 'one'"):
        read(cells)
