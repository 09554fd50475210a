"""The page about the recipes counts what the package holds."""

from tests.test_docs import ROOT, script


def test_the_counts_of_the_page_are_the_package_s() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert page == script("recipes_table").with_counts(page), "run: python docs/recipes_table.py"
