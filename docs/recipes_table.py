"""Write the counts of docs/recipes.md from the package's own table: python docs/recipes_table.py"""

from collections import Counter
from pathlib import Path

from fractionate.papers.recipes import PaperRecipe, papers

PAGE = Path(__file__).parent / "recipes.md"
BEGIN = "<!-- counts: written by `python docs/recipes_table.py`, checked by a test -->"
END = "<!-- end of counts -->"


def table(head: str, rows: list[str]) -> str:
    """A table in Markdown; all columns but the first hold numbers or reasons."""
    columns = head.count("|") - 1
    return "\n".join([head, "|---" * columns + "|", *rows])


def by_dataset(published: list[PaperRecipe]) -> str:
    """How many rows there are, and why some cannot be trained."""
    lines = []
    for dataset in dict.fromkeys(r.row.dataset for r in published):
        here = [r for r in published if r.row.dataset == dataset]
        able = sum(r.runnable for r in here)
        open_ones = sum(bool(r.needs) for r in here)
        lines.append(f"| {dataset} | {len(here)} | {able} | {open_ones} | {len(here) - able - open_ones} |")
    return table("| images | rows | can be trained | leave something open | only shown |", lines)


def by_method(recipes: list[PaperRecipe]) -> str:
    """CIFAR-100: what there is of every method."""
    here = [r for r in recipes if r.row.dataset == "cifar100"]
    count = Counter((r.row.method, r.derived, r.runnable) for r in here)
    lines = []
    for method in sorted({r.row.method for r in here}):
        able, other = count[method, False, True], count[method, False, False]
        ours = count[method, True, True] + count[method, True, False]
        lines.append(f"| `{method}` | {able + other} | {able} | {ours or '–'} |")
    return table("| method | rows | can be trained | clean ablations |", lines)


def reasons(published: list[PaperRecipe]) -> str:
    """What the rows of CIFAR-100 lack that cannot be trained as they are."""
    here = [r for r in published if r.row.dataset == "cifar100" and not r.runnable]
    count = Counter(r.obstacle or f"the source leaves `{', '.join(r.needs)}` open" for r in here)
    return table("| rows of CIFAR-100 | why not as they are |", [f"| {n} | {why} |" for why, n in count.most_common()])


def counts() -> str:
    """All tables."""
    recipes = list(papers().values())
    published = [r for r in recipes if not r.derived]
    total = (
        f"{len(published)} published rows, {len(recipes) - len(published)} clean ablations; "
        f"{sum(r.runnable for r in recipes)} of the {len(recipes)} can be trained as they are."
    )
    return "\n\n".join([total, by_dataset(published), reasons(published), by_method(recipes)])


def with_counts(page: str) -> str:
    """The page with the current counts between its two marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{counts()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_counts(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
