"""The pages that docs/generate.py writes: one per method, with its examples, and the differences table."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
import torch

from fractionate.methods import catalog
from tests.test_docs import ROOT, blocks, run_block, script

generate = script("generate")
PAGES = generate.pages()
NAMES = sorted({*catalog.METHODS, *catalog.WRAPPERS})


def page(name: str) -> str:
    return PAGES[f"methods/{name}.md"]


def test_every_name_of_the_catalog_has_a_page_and_a_note_and_nothing_else_has() -> None:
    assert set(generate.NOTES) <= set(NAMES)
    assert all(name in generate.NOTES or "Note:" in catalog.find(name).__doc__ for name in NAMES)
    others = ["methods/index.md", "methods/map.md", "differences.md"]
    assert sorted(PAGES) == sorted([f"methods/{name}.md" for name in NAMES] + others)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_says_what_a_reader_asks(name: str) -> None:
    text, about = page(name), catalog.describe(name)
    for heading in ("What to know", "Example", "Arguments", "Result", "Cost and needs"):
        assert f"\n## {heading}\n" in text
    assert about.formula.replace("``", "") in text
    assert all(f"`{argument}`" in text for argument in about.defaults)
    assert all(f"| `{component}` |" in text for component in about.components)
    assert re.search(r"backward passes per step: \d", text)
    assert generate.NOTES.get(name, "").strip() in text


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of_the_page_run(name: str) -> None:
    torch.manual_seed(0)
    names: dict[str, object] = {}
    found = list(blocks(page(name)))
    assert found
    for line, code in found:
        run_block(code, Path(f"{name}.md"), line, names)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_has_no_leftovers_of_the_docstring(name: str) -> None:
    text = re.sub(r"```.*?```", "", page(name), flags=re.DOTALL)
    assert re.findall(r"``|:func:|:class:|:meth:", text) == []
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    here = ROOT / "docs" / "methods"
    written = ("../not-offered.md", "../differences.md", "../studies.md", "../results.md")
    assert [x for x in links if f"methods/{x}" not in PAGES and x not in written] == []
    assert all((here / x).exists() or x.removeprefix("../") in PAGES for x in written)


def test_the_page_of_topkd_names_every_constant_that_is_a_reconstruction() -> None:
    text, defaults = page("topkd"), catalog.describe("topkd").defaults
    known = {"k", "lam_con", "lam_tdl", "warmup", "label_smoothing", "hard", "ce_weight", "center", "scaling"}
    assert "Reconstruction" in text
    for name in set(defaults) - known:
        assert f"`{name}` {defaults[name]:g}" in text, name
    for plug_in in ("with_scaled_teacher", "with_contrast", "with_top_cosine", "grouped"):
        assert "reconstruction" in page(plug_in)


@pytest.mark.parametrize("name", NAMES)
def test_the_formula_of_the_page_is_typeset_and_loses_no_name(name: str) -> None:
    formula, text = catalog.describe(name).formula, page(name)
    pieces = re.findall(r"\$([^$]+)\$", text)
    assert pieces
    assert all(piece.count("{") == piece.count("}") for piece in pieces)
    start = text.index(pieces[0])
    typeset = text[start : text.index("<details>")].replace("\\_", "_")
    assert [word for word in re.findall(r"[A-Za-z]{2,}", formula) if word not in typeset] == []
    convert = pytest.importorskip("latex2mathml.converter", reason="MathML needs the extra 'docs'").convert
    for piece in pieces:
        assert "\\" not in convert(piece), piece


def test_names_that_mean_other_methods_elsewhere_are_told_apart() -> None:
    assert "jekim5418/TopKD" in page("topkd")
    assert "wonchulSon/DGKD" in page("dgkd")


def test_what_is_not_offered_is_no_method_and_has_a_reason() -> None:
    text = (ROOT / "docs" / "not-offered.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([^|]+) \| [^|]* \| ([^|]+) \|$", text, re.MULTILINE))
    for name in ("MoKD", "KDExplainer", "Residual KD", "TIE-KD for depth maps", "AEKT", "CIST", "PLD"):
        assert len(rows[name]) > 20
        assert name.lower() not in NAMES


def test_the_differences_page_holds_every_row_of_its_table() -> None:
    with (ROOT / "docs" / "differences.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    text = PAGES["differences.md"]
    table = text.split("## Run both sides")[0]  # below it the rows stand once more, with commands
    assert len(re.findall(r"^\| [A-Z]\d+ \|", table, re.MULTILINE)) == len(rows)
    for row in rows:
        assert f"| {row['id']} | {row['topic']} |" in text
        for node in row["test"].split():
            assert generate.theorem(node) in text


def test_pages_of_names_that_are_gone_are_removed(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "gone.md").write_text("old")
    generate.write(tmp_path)
    assert sorted(f.name for f in (tmp_path / "methods").iterdir()) == sorted(
        [*(f"{n}.md" for n in NAMES), "index.md", "map.md"]
    )
