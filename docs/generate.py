"""Write the pages that are made of the package's own tables: python docs/generate.py (docs/conf.py runs it).

docs/methods/*.md come from the catalog and its docstrings (older notes lie in docs/methods/notes.toml);
docs/differences.md from docs/differences.csv; docs/numerics.md from the cases that docs/numerics.py computes.
"""

import csv
import inspect
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

from docstrings import Parts, markdown, page_of, parts, source  # noqa: E402

import fractionate as fr  # noqa: E402
from fractionate.methods import Method, catalog, deepkd, dot, point_of  # noqa: E402
from fractionate.methods.map import AXES, PARTITIONS  # noqa: E402
from fractionate.papers.audit import TWINS, UNSAID  # noqa: E402
from fractionate.report.study import read_study  # noqa: E402
from fractionate.report.words import gap  # noqa: E402

NAMES = [*dict.fromkeys([*catalog.METHODS, *catalog.WRAPPERS])]
NOTES = tomllib.loads((DOCS / "methods" / "notes.toml").read_text(encoding="utf-8"))
RECORDS = DOCS.parent / "benchmarks" / "results" / "studies"
TRAINERS = ("dot", "deepkd", "reweighted")  # wrappers that decide about streams


def pages() -> dict[str, str]:
    """Path inside docs/ -> text, of every generated page."""
    methods = {f"methods/{name}.md": method_page(name) for name in NAMES}
    return {**methods, "methods/index.md": index(), "methods/map.md": map_page(), "differences.md": differences()}


def write(folder: Path = DOCS) -> None:
    """The pages as files; those of names that are gone are removed."""
    from numerics import page as numerics

    (folder / "methods").mkdir(exist_ok=True)
    wanted = {**pages(), "numerics.md": numerics()}
    for old in (folder / "methods").glob("*.md"):
        if f"methods/{old.name}" not in wanted:
            old.unlink()
    for path, text in wanted.items():
        file = folder / path
        if not file.exists() or file.read_text(encoding="utf-8") != text:  # unchanged pages are not built again
            file.write_text(text, encoding="utf-8")


# -- one page per method ---------------------------------------------------------------------


def method_page(name: str) -> str:
    """The page of a method or wrapper."""
    about = catalog.describe(name)
    doc = parts(catalog.find(name), about.formula)
    raises = [f"**{each}:** {markdown(doc.sections[each])}" for each in ("Raises", "Warns") if each in doc.sections]
    blocks = [
        f"# {name}",
        f"{markdown(doc.title)}.",
        *doc.head,
        f"**Source:** {source(doc.sections['Source'])} Symbols: [notation](index.md#notation).",
        "## What to know",
        note(name, doc),
        point(name),
        measured() if name == "deepkd" else "",
        "## Example",
        f"```python\n{inspect.cleandoc(doc.sections['Example'])}\n```",
        "## Arguments",
        arguments_table(name, doc),
        *raises,
        "## Result",
        f"{markdown(doc.sections['Returns'])}",
        components_table(name),
        "## Cost and needs",
        cost(name),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def note(name: str, doc: Parts) -> str:
    """When the method fails and what to know: from the notes, or the ``Note:`` of its docstring."""
    if name in NOTES:
        return NOTES[name].strip()
    return "\n\n".join(markdown(paragraph) for paragraph in re.split(r"\n\s*\n", doc.sections["Note"]))


def point(name: str) -> str:
    """Where the method lies on the map."""
    axes = [f"{AXES[axis]} {_code(value)}" for axis, value in vars(point_of(name)).items() if value]
    return f"On the [map](map.md): {'; '.join(axes)}." if axes else ""


def measured() -> str:
    """What the kept studies say of DeepKD by the paper's rule, against its base and its controls."""
    rows = []
    for file in sorted(RECORDS.glob("*.json")):
        study = read_study(file)
        methods = {arm.name: arm.method for arm in study.arms}
        for one in study.answers:
            core, _, around = methods.get(one.left, "").partition("+")
            if around == "deepkd" and methods.get(one.right, "").partition("+")[0] == core:
                name, seeds = study.raw["name"], str(len(one.difference.values))
                found = gap(one.difference, one.digits)
                rows.append([f"[{name}](../studies.md#{name})", one.left, one.right, found, seeds])
    head = "Differences of the headline in points, paired by seed, with their 95 % interval, out of the records."
    return f"## Measured\n\n{head}\n\n{table(['study', 'this', 'against', 'difference', 'seeds'], rows)}"


def _code(value: str) -> str:
    return f"`{value}`" if re.search(r"[_\[\]|*()]", value) else value


def arguments_table(name: str, doc: Parts) -> str:
    """Every argument with its default and meaning."""
    parameters = inspect.signature(catalog.find(name)).parameters
    rows = []
    for names, meaning in doc.arguments:
        defaults = [_default(parameters[each]) for each in names]
        shown = defaults[:1] if len(set(defaults)) == 1 else defaults
        rows.append([", ".join(f"`{each}`" for each in names), ", ".join(shown), markdown(meaning, cell=True)])
    return table(["argument", "default", "meaning"], rows)


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return "required"
    value = parameter.default
    return f"`{value.origin}`" if isinstance(value, Method) else f"`{value!r}`"


def components_table(name: str) -> str:
    """The components of a method with role and weight; nothing for a wrapper."""
    if name not in catalog.METHODS:
        return ""
    points = [fr.Progress(epoch=epoch, epochs=240) for epoch in (1, 20, 240)]
    rows = [
        [f"`{part}`", data.role or "none", *(f"{data.weight(at):.3g}" for at in points)]
        for part, data in catalog.METHODS[name]().parts.items()
    ]
    return table(["component", "role", "weight in epoch 1", "in epoch 20", "in epoch 240 of 240"], rows)


def cost(name: str) -> str:
    """Passes per step, and what the rows must bring."""
    method = example_of(name)
    if name in TRAINERS:
        passes = ", ".join(f"{n} over `{inner.origin}`" for inner, n in _over(name).items())
        if name == "deepkd":
            passes += f', {deepkd(method, rule="published-code").backward_passes} with `rule="published-code"`'
    else:
        over = "" if name in catalog.METHODS else f" over `{method.origin.inner}`"
        passes = f"{method.backward_passes}{over}; {dot(method).backward_passes} under `dot`; {_under_deepkd(method)}"
    lines = [
        f"backward passes per step: {passes}",
        f"forward passes of the student: {'2, one per view' if method.views == 2 else '1'}",
        f"the rows must bring: {', '.join(needs(name)) or 'logits, and labels for the cross-entropy'}",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _over(name: str) -> dict[Method, int]:
    """Backward passes of a trainer over two methods."""
    inner = [dot(fr.methods.kd())] if name == "reweighted" else [fr.methods.kd(), fr.methods.dkd()]
    return {method: catalog.WRAPPERS[name](method).backward_passes for method in inner}


def _under_deepkd(method: Method) -> str:
    try:
        paper, published = deepkd(method), deepkd(method, rule="published-code")
    except ValueError:
        return "refused by `deepkd` (a component has no role)"
    return f"{paper.backward_passes} under `deepkd` ({published.backward_passes} by its published rule)"


def example_of(name: str) -> Method:
    """The method with its defaults; a wrapper over kd, deepkd over dkd."""
    if name in catalog.METHODS:
        return catalog.METHODS[name]()
    return catalog.WRAPPERS[name](fr.methods.dkd() if name == "deepkd" else fr.methods.kd())


def needs(name: str) -> tuple[str, ...]:
    """What the rows must bring: hard labels, two views, regions, the whole batch."""
    method = example_of(name)
    said = {
        "hard labels": method.needs_labels,
        "two views": method.views == 2,
        "regions": bool(method.regions),
        "further teachers": name in ("mixture_of_teachers", "per_teacher"),
        "`Logits.extra`": name == "with_extra",
        "the whole batch": not method.row_wise,
        "its own parameters in the optimizer": method.module is not None,
    }
    return tuple(need for need, holds in said.items() if holds)


# -- tables ----------------------------------------------------------------------------------


INDEX = """\
# Methods

Every function of `fr.methods`, read from the package's own table; `fractionate methods` prints it. [](map.md)
shows them as points on a few axes. Each page says when
a method fails and what its name collides with. What was looked at and left out stands in [](../not-offered.md), where
paper and published code differ in [](../differences.md).

{methods}

## Around a method

A wrapper takes a method and returns one; they nest.

{wrappers}

## Notation

| symbol | meaning |
| --- | --- |
| CE, KL(p \\|\\| q) | cross-entropy on raw logits; sum p log(p / q), the teacher first |
| z^S, z^T | logits of student and teacher; the teacher receives no gradient |
| p^S, p^T | softmax(z / T) of both, T the temperature; KL terms at T carry T^2 |
| y, c or C | label and number of classes |
| between, within[g] | KL of the masses of a partition's groups, and KL inside group g ([](../concepts.md)) |
| b_g, a | the teacher's mass of a group, and its probability of the label |
| W(e) | warm-up min(e / warmup, 1) in epoch e, from 1; distillation only |
| V, m, lr, lambda, theta | momentum buffer and coefficient, learning rate, weight decay, weights |

```{{toctree}}
:hidden:

map
{names}
```
"""


def index() -> str:
    """All methods, then all wrappers, with links."""
    head = ["name", "what it is", "components besides `task`", "needs", "source"]
    wrappers = [name for name in catalog.WRAPPERS if name not in catalog.METHODS]
    return INDEX.format(
        methods=table(head, [_index_row(name) for name in catalog.METHODS]),
        wrappers=table(head, [_index_row(name) for name in wrappers]),
        names="\n".join(NAMES),
    )


def _index_row(name: str) -> list[str]:
    about = catalog.describe(name)
    components = ", ".join(f"`{c}`" for c in about.components if c != "task") or "those of the method"
    title = markdown(about.title.rstrip("."), cell=True)
    return [page_of(name), title, components, ", ".join(needs(name)) or "–", source(_first(about.source), cell=True)]


def _first(text: str) -> str:
    """The source without its remarks."""
    for mark in (";", ":", " ("):
        text = text.split(mark, 1)[0]
    return text.strip(" .")


MAP = """\
# The map

A method is a point in a small space: which groups of classes, which divergence, what weighs the groups and the rows,
which relation beside it, on which logits, in which gradient streams. `fractionate methods --map` prints this page. A
combine rule other than the sum of the streams is chosen beside the method, not by it.

{table}

Groups read as `component = weight reading`: `between` is the divergence of the group masses, `within[g]` that inside
group g, `mass[g]` the mass of the group. `fr.methods.at(...)` builds a method from such words, for example:

```python
import torch, fractionate as fr

point = fr.methods.point_of("dkd")
print(point.partition, "|", point.direction, "|", point.groups)
built = fr.methods.at(point, temperature=4.0)
words = ("by_top(k=3)", "reverse", "between = 1 between, top = 2 mass[0] within[0]")
reverse = fr.methods.at(*words, temperature=1.0)
lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
assert torch.equal(built.loss(lg), fr.methods.dkd().loss(lg))
print(reverse.components(lg)["top"].shape)
```

## Partitions

{partitions}
"""


def map_page() -> str:
    """Every method and wrapper on the axes, and what the partitions are."""
    head = ["name", *AXES.values()]
    rows = [[page_of(name), *(_cell(value) for value in vars(point_of(name)).values())] for name in NAMES]
    said = [[f"`{name}`", markdown(_title(function), cell=True)] for name, function in PARTITIONS.items()]
    return MAP.format(table=table(head, rows), partitions=table(["name", "groups"], said))


def _cell(value: str) -> str:
    return _code(value).replace("|", "\\|")


def _title(function: Callable[..., object]) -> str:
    return inspect.cleandoc(function.__doc__ or "").split("\n", 1)[0].rstrip(".")


def differences() -> str:
    """What paper, published code and package do, row by row, each with its test."""
    with (DOCS / "differences.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    blocks = [
        "# Differences from the published code",
        "Where paper and published code disagree, or where following the code would give NaN, a silent fallback or\n"
        "something else than the text describes. For DeepKD, GDKD and TopKD the paper's side is known second-hand.\n"
        "The last column says what the tests of this package prove; *later* marks what has not been measured yet. The\n"
        "file of this table, `docs/differences.csv`, names the tests, and they read it.",
    ]
    for group in dict.fromkeys(row["group"] for row in found):
        rows = [
            [row["id"], row["topic"], row["paper"] or "–", row["published_code"] or "–", row["fractionate"], _test(row)]
            for row in found
            if row["group"] == group
        ]
        cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
        blocks += [
            f"## {group}",
            table(["", "topic", "paper", "published code", "fractionate", "proved by the tests"], cells),
        ]
    return "\n\n".join([*blocks, *side_by_side()]) + "\n"


def side_by_side() -> list[str]:
    """How to run both sides of a disagreement, and of which rows nobody can."""
    command = "`fractionate compare cifar100-small --methods {} --as-described --as-published`"
    rows = [
        [", ".join(twin.rows), twin.differs, f"`{twin.described}`", f"`{twin.published}`", command.format(twin.name)]
        for twin in TWINS
    ]
    return [
        "## Run both sides",
        "Each row is one experiment: the same teacher, images and seeds, and two methods that differ in one\n"
        "disagreement. Either option alone runs one side; a method or a wrapper names all of its rows, such as\n"
        "`--methods deepkd`. The tests train both sides of every row and find different weights.",
        table(["row", "what differs", "as described", "as published", "command"], rows),
        "Of these rows there are no two sides to run here:",
        table(["row", "why"], [[row, why] for row, why in UNSAID.items()]),
    ]


def _test(row: dict[str, str]) -> str:
    return "; ".join(theorem(node) for node in row["test"].split()) or f"*{row['status']}*"


def theorem(node: str) -> str:
    """What a test states, read off its name."""
    words = node.rsplit("::test_", 1)[-1].replace("_", " ")
    return words.replace(" s ", "\u2019s ")


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    write()
