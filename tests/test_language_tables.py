"""The measured tables of the page on language models are those of their CSVs, and a method shows its chosen weight."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks.byte_text import parts
from benchmarks.text import CE_WEIGHTS, LABELS, METHODS, SEEDS, Row, Study, entries, read

DOCS = Path(__file__).parent.parent / "docs"
sys.path.append(str(DOCS))
import language_tables  # noqa: E402

ROW = Row("teacher", 1.0, 0, 9, 100, 1.5, None, 1.4, None, 1.0, "abc", "0", "2", "3", "x86_64")


def test_the_page_shows_the_rows_at_hand() -> None:
    text = language_tables.PAGE.read_text(encoding="utf-8")
    assert text == language_tables.page(text), "run: python docs/language_tables.py"


def test_the_weight_with_the_smaller_validation_loss_is_shown_whatever_the_test_says() -> None:
    rows = [ROW, *(replace(ROW, method=LABELS, seed=s, test_loss=2.0 + s, test_agreement=9.0) for s in SEEDS)]
    for weight, validation, test in zip(CE_WEIGHTS, (1.9, 1.8), (1.0, 1.75), strict=True):
        made = replace(ROW, method="kd", ce_weight=weight, validation_loss=validation, test_loss=test)
        rows += [replace(made, seed=0, test_agreement=50.0)]
    lines = list(language_tables.study(rows))
    (kd,) = (line for line in lines if "`kd`" in line)
    assert f"| {CE_WEIGHTS[1]:g} | 1 | 1.800 | **1.750** | -0.250 |".replace("-", "\N{MINUS SIGN}") in kd
    assert any("Not finished: kd" in line for line in lines)


def test_a_study_goes_on_where_it_was_and_changes_no_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    windows = torch.randint(97, 122, (40, 129), generator=torch.Generator().manual_seed(0))
    small = Study(tmp_path / "a.csv", tmp_path / "w.safetensors", 8, 4, (1, 1), ((8, 1), (4, 1)))
    given = {"train": windows, "validation": windows[:4], "test": windows[4:8]}
    small.run(given, "abc", until=0.0)
    assert [row.method for row in read(small.csv)] == ["teacher"]
    small.run(given, "abc")
    text = small.csv.read_text()
    assert len(read(small.csv)) == 1 + len(SEEDS) + len(METHODS) * (len(CE_WEIGHTS) + len(SEEDS) - 1)
    small.run(given, "abc")
    assert small.csv.read_text() == text
    assert "the time is used up" in capsys.readouterr().out
    assert len(list(entries(read(small.csv)))) == len(read(small.csv)) - 1
    with pytest.raises(ValueError, match="another text"):
        small.run(given, "abd")


def test_parts_share_no_module_and_tests_are_left_out(tmp_path: Path) -> None:
    for i in range(40):
        (tmp_path / f"m{i}.py").write_text(f'"""{f"module {i:02d} " * 80}"""\n')
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "secret.py").write_text(f'"""{"secret " * 80}"""\n')
    found, digest = parts(tmp_path)
    words = {part: {bytes(w.to(torch.uint8).tolist())[:-1] for w in x} for part, x in found.items()}
    assert all(words.values())
    assert not words["train"] & (words["validation"] | words["test"])
    assert b"secret" not in b"".join(b"".join(x) for x in words.values())
    assert parts(tmp_path)[1] == digest
