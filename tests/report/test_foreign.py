"""Folders that somebody else wrote, consoles that lack signs, and more runs than one looks at."""

import io
import json
import time

import pytest
from rich.console import Console

from fractionate.report import RunFolderError, print_table, read_runs, write_page
from tests.report.synthetic import write_run, write_study

DEEP = "[" * 100_000 + "]" * 100_000 + "\n"
BOMB = "\n".join(["a0: &a0 [x, x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30))])
ESCAPE = "\x1b[31mred\x07\u202e[bold]x[nope]"
BAD = {
    "summary.json": [DEEP, '{"a":' * 50_000, '{"seed": ' + "1" * 9000 + "}", '{"seed": ' + "1" * 400 + "}"],
    "metrics.jsonl": [DEEP, '{"epoch": ' + "1" * 400 + "}\n", '{"epoch": 1, "a": ' + "[" * 90_000 + "\n"],
    "config.yaml": [DEEP, BOMB, "a: " * 5000, "? [1, 2]\n: x\n", "x" * 200_000, "- " * 90_000 + "x"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD.items() for text in texts])
def test_what_nests_or_unfolds_without_end_is_refused_at_once(tmp_path, name, text):
    folder = write_run(tmp_path / "run", epochs=2)
    (folder / name).write_text(text)
    started = time.process_time()
    with pytest.raises(RunFolderError, match=name):
        read_runs([folder])
    assert time.process_time() - started < 5


def test_numbers_beyond_a_float_are_no_column(tmp_path):
    folder = write_run(tmp_path / "run", epochs=2)
    (folder / "metrics.jsonl").write_text('{"epoch": 1, "test_top1": 5.0, "odd": 1' + "0" * 400 + "}\n")
    assert read_runs([folder])[0].column("odd") == {}


@pytest.mark.parametrize("field", ["method", "student", "dataset", "teacher", "command", "git"])
def test_terminal_escapes_and_markup_in_names_are_shown_not_obeyed(tmp_path, field):
    folder = write_run(tmp_path / "run", **{field: ESCAPE})
    out = io.StringIO()
    print_table([folder], Console(file=out, width=300))
    page = write_page([folder], tmp_path / "page.html").read_text("utf-8")
    for text in (out.getvalue(), page):
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
    shown = "\\x1b[31mred\\x07\\u202e[bold]x[nope]"
    assert shown in page
    assert shown in out.getvalue() or field in ("command", "git")


def test_columns_and_configs_with_escapes_are_shown_not_obeyed(tmp_path):
    folder = write_run(tmp_path / f"run{ESCAPE}", epochs=2)
    rows = [{"epoch": e, f"component/{ESCAPE}": 1.0, "test_top1": 5.0} for e in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.yaml").write_text('note: "\\x1b[31m"\n')
    page = write_page([folder], tmp_path / "page.html").read_text("utf-8")
    assert not {"\x1b", "\x07", "\u202e"} & set(page)


def test_half_a_character_in_a_name_does_not_stop_the_page(tmp_path):
    folder = write_run(tmp_path / "run", student="\ud800kd")
    assert "\\ud800kd" in write_page([folder], tmp_path / "page.html").read_text("utf-8")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "gbk", "latin-1"])
def test_a_console_of_another_encoding_shows_every_number(study, encoding):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    extra = write_run(study[0].parent / "猫−1", "kd", seed=9, epochs=2, finished=False)
    result = print_table([*study, extra], Console(file=out, width=160))
    out.flush()
    text = out.buffer.getvalue().decode(encoding)
    for row in result.rows:
        assert f"{row.last.mean:.2f}" in text
        assert f"{row.last.std:.2f}" in text
    assert max(map(len, text.splitlines())) <= 200


def test_a_hundred_methods_name_a_few_and_the_number_of_the_others(tmp_path):
    folders = [write_run(tmp_path / f"m{i}-{s}", f"m{i}", s, epochs=3) for i in range(100) for s in (0, 1)]
    page = write_page(folders, tmp_path / "page.html")
    text = page.read_text("utf-8")
    assert " more " in text[: text.index("<dl")]
    assert page.stat().st_size < 6e6


def test_a_long_run_is_drawn_with_as_many_points_as_a_screen_has(tmp_path):
    folder = write_run(tmp_path / "run", "kd", epochs=2)
    rows = [{"epoch": e, "test_top1": 50 + e % 7, "component/kd": 1 / e} for e in range(1, 20_001)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = write_page([folder, *write_study(tmp_path / "more", ("dkd",), seeds=1)], tmp_path / "page.html")
    assert page.stat().st_size < 2e5
