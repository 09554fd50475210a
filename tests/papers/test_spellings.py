"""The command line reads the names that papers and their tables use."""

import pytest

from fractionate.config.method import MethodSpec
from fractionate.papers.recipes import papers
from tests.papers.cells import table

# Some methods warn when they are built: kd under DeepKD's published code, dgkd beyond its proven range.
pytestmark = pytest.mark.filterwarnings("ignore:deepkd", "ignore:dgkd")

METHODS = sorted({cells["method"] for cells in table() if cells["dataset"] == "cifar100"})


@pytest.mark.parametrize("method", METHODS)
def test_the_command_line_understands_the_table_s_names(method: str) -> None:
    if "crd" in method:
        with pytest.raises(ValueError, match="unknown wrapper 'crd'"):
            MethodSpec.parse(method)
        return
    recipe = next(r for r in papers().values() if r.method == method and not r.obstacle)
    run = recipe.run([recipe.example(need).replace("'", "") for need in recipe.needs])
    meant = run.method.title.replace("kd+ctkd", "ctkd") if method == "ctkd" else run.method.title
    assert MethodSpec.parse(method).title == meant


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("ls", "kd(kd_weight=1)+lskd"),
        ("lskd", "kd(kd_weight=1)+lskd"),
        ("kd(temperature=3)+ls(weight=12)", "kd(kd_weight=1, temperature=3)+lskd(weight=12)"),
        ("kd+lskd", "kd+lskd"),
        ("mlkd(kd_weight=0.9)+ls", "mlkd(kd_weight=0.9)+lskd"),
        ("ctkd(t_end=10)+ls", "kd(kd_weight=1)+ctkd(t_end=10)+lskd"),
    ],
)
def test_published_spellings(text: str, meaning: str) -> None:
    assert str(MethodSpec.parse(text)) == meaning


def test_a_spelling_for_two_methods_takes_no_options() -> None:
    with pytest.raises(ValueError, match=r"sdd_kd stands for kd\+sdd: write kd\(...\)\+sdd\(...\)"):
        MethodSpec.parse("sdd_kd(scales=[1, 2])")
