"""What `fractionate recipes` prints: the list, and every recipe in full."""

import io

import pytest
from rich.console import Console

from fractionate.commands.recipes import print_recipes, recipe_run, show_recipe
from fractionate.config.files import from_yaml
from fractionate.papers.recipes import paper, papers, search
from fractionate.papers.rows import _by_run, numbers_of, rows
from tests.papers.cells import table

# Some methods warn when they are built: kd under DeepKD's published code, dgkd beyond its proven range.
pytestmark = pytest.mark.filterwarnings("ignore:deepkd", "ignore:dgkd")

TABLE = table()
DKD = "cifar100/dkd/resnet32x4__resnet8x4/mdistiller"


def console() -> Console:
    return Console(file=io.StringIO(), width=80)


def shown(id: str) -> str:
    page = console()
    show_recipe(id, page)
    return page.file.getvalue()


def listed(*words: str) -> list[str]:
    page = console()
    print_recipes(words, page)
    return page.file.getvalue().splitlines()


@pytest.mark.slow
def test_all_rows_load_and_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fractionate.commands.recipes.to_yaml", repr)  # 500 times YAML is slow; other tests read it
    assert list(rows()) == [cells["id"] for cells in TABLE]
    assert len(rows()) == 797
    for cells in TABLE:
        page = shown(cells["id"])
        assert page.startswith(cells["id"])
        assert ("fractionate train --recipe" in page) != ("Not runnable yet: " in page)
        for cell in cells.values():
            assert cell in page


@pytest.mark.parametrize(
    ("id", "why"),
    [
        ("stl10/linear-probe/wrn_16_2/distillers", "fractionate linear-probe RUN --on stl10 has these settings"),
        ("tiny_imagenet/kd/resnet18__mobilenet_v2/", "does not say what its source's 64 x 64 pipeline does"),
        (
            "cifar100/kd+ls/resnet56_cos__deit_tiny/lskd/transformer-student",
            "no network here is the table's 'deit_tiny'",
        ),
        ("cifar100/wttm+crd/", "CRD compares features"),
        ("coco2017/dkd+reviewkd/", "ReviewKD compares features"),
    ],
)
def test_what_cannot_run_says_why(id: str, why: str) -> None:
    recipe = search([id])[0]
    assert "not runnable yet" in recipe.status
    assert why in shown(recipe.id)
    with pytest.raises(ValueError, match=f"is not runnable yet: .*{why}"):
        recipe_run(recipe.id)


def test_the_published_result_is_the_source_s_own() -> None:
    assert paper(DKD).expected.value == "76.32"
    of_another = paper("cifar100/dkd/resnet32x4__resnet8x4/gdkd")
    assert of_another.expected is None
    assert "(76.32)" in " ".join(listed(of_another.id))
    assert "its settings may differ" in shown(of_another.id)
    for recipe in papers().values():
        if recipe.expected:
            assert recipe.expected.source == recipe.row.source
            assert "quoted" not in recipe.expected.remark


def test_every_published_number_that_is_shipped_is_shown_somewhere() -> None:
    shown_ones = {id(number) for row in rows().values() for number in numbers_of(row)}
    assert {id(number) for numbers in _by_run().values() for number in numbers} == shown_ones
    assert len(shown_ones) > 300


def test_the_page_shows_the_run_as_a_config_that_can_be_read_back() -> None:
    page = shown(DKD)
    run = "\n".join(line.removeprefix("  ") for line in page.partition("The run\n")[2].splitlines()[:-2])
    assert from_yaml(run) == recipe_run(DKD)
    assert page.splitlines()[-1] == f"fractionate train --recipe {DKD}"


def test_what_building_a_run_warns_of_is_on_its_page() -> None:
    assert "kd_weight set to 1" in shown("cifar100/kd+deepkd/resnet56__resnet20/deepkd/published-code")


def test_the_list_is_filtered_by_every_word_and_counted() -> None:
    *_, last = listed("deepkd", "RESNET56", "paper")
    found = [r.id for r in search(["deepkd", "RESNET56", "paper"])]
    assert last == f"{len(found)} recipes, {len(found)} of them can be trained as they are"
    assert found == [id for id in papers() if "deepkd" in id and "resnet56" in id and "paper" in id]
    assert listed()[-1].startswith(f"{len(papers())} recipes")


def test_a_list_without_a_recipe_says_which_word_none_holds() -> None:
    with pytest.raises(ValueError, match=r"no recipe holds 'dkkd'; words are parts of an id"):
        listed("resnet56", "dkkd")
    with pytest.raises(ValueError, match="no recipe holds all of imagenet, wrn_40_2"):
        listed("imagenet", "wrn_40_2")


def test_ids_are_printed_whole_however_narrow_the_terminal() -> None:
    lines = listed("crld")
    assert all(any(line.startswith(r.id + " ") for line in lines) for r in search(["crld"]))
