"""The mutation run finds what tests do not hold, in a tree of its own, and goes on where it was stopped."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
from benchmarks import changes as module
from benchmarks import mutations
from benchmarks.changes import alters, applied, changes

ROOT = Path(__file__).parent.parent
CODE = '''"""A room."""


def grade(points: int) -> str:
    """Pass or fail; no test looks at exactly half."""
    return "pass" if points > 50 else "fail"
'''
TEST = """from fractionate.toy import grade

def test_grades():
    assert [grade(n) for n in (10, 90)] == ["fail", "pass"]
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in {
        "src/fractionate/__init__.py": "",
        "src/fractionate/toy.py": CODE,
        "tests/test_toy.py": TEST,
        "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '-q --import-mode=importlib --doctest-modules'\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_example_runs() -> None:
    assert doctest.testmod(module) == (0, 1)


@pytest.mark.parametrize(
    ("code", "kind", "becomes"),
    [
        ("a <= b", "operator", "a < b"),
        ("a is not b", "operator", "a is b"),
        ("a in b", "operator", "a not in b"),
        ("(a + # of it\n b)", "operator", "(a - # of it\n b)"),
        ("a += b", "operator", "a -= b"),
        ("a or b", "operator", "a and b"),
        ("é(1)", "constant", "é(2)"),
        ("f(True)", "constant", "f(False)"),
        ("0.0", "constant", "1"),
        ("not a", "not", "a"),
        ("-a", "sign", "a"),
        ("f(a, *b)", "", ""),
        ("f(a, a)", "", ""),
        ("f(a, b, c)", "arguments", "f(b, a, c)"),
        ("raise a", "raise", "pass"),
        ("assert a > 1", "", ""),
        ("zip(a, strict=True)", "", ""),
        ("a: 1 | 2", "", ""),
        ("f'{a + 1}'", "", ""),
        ("if TYPE_CHECKING:\n  1", "", ""),
        ("a ** b", "", ""),
    ],
)
def test_a_change_is_small_and_changes_the_meaning(code: str, kind: str, becomes: str) -> None:
    found = [c for c in changes(code.encode(), "x.py") if alters(code.encode(), c)]
    assert [(c.kind, applied(code.encode(), c).decode()) for c in found] == ([(kind, becomes)] if kind else [])


def test_what_no_test_holds_is_found_and_nothing_is_tried_twice(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # starts in half a second
    table = tmp_path / "out.csv"
    words = ["--root", str(tree), "--rooms", "toy", "--csv", str(table), "--count"]
    mutations.main([*words, "1"])
    first = mutations.read(table)
    mutations.main([*words, "99"])
    found = mutations.read(table)
    assert found[:1] == first
    assert {o.text: o.outcome for o in found} == {">=": "not noticed", "100": "noticed"}
    assert len(found) == 2
    printed = capsys.readouterr().out
    assert 'toy.py:6 operator\n- return "pass" if points > 50 else "fail"\n+ return "pass" if points >= 50' in printed
    assert (tree / "src" / "fractionate" / "toy.py").read_text() == CODE


def test_what_was_not_noticed_is_tried_once_more_after_a_new_test_wherever_its_line_is_now(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    words = ["--root", str(tree), "--rooms", "toy", "--csv", str(tmp_path / "out.csv")]
    mutations.main(words)
    toy, test = tree / "src" / "fractionate" / "toy.py", tree / "tests" / "test_toy.py"
    toy.write_text(CODE.replace("\n\n\ndef", "\n\n# Of the points\n\n\ndef"))
    test.write_text(f"{TEST}    assert grade(50) == 'fail'\n")
    mutations.main([*words, "--open"])
    found = mutations.read(tmp_path / "out.csv")
    assert [(o.line, o.text, o.outcome) for o in found[2:]] == [(8, ">=", "noticed")]
    assert len(mutations.latest(found)) == 2
    assert mutations.unnoticed(found) == []


def test_a_change_that_never_ends_is_noticed(tree: Path) -> None:
    (tree / "tests" / "test_toy.py").write_text("while True: pass\n")
    assert mutations.run(tree, ["tests/test_toy.py"], limit=1.0)[0] == "noticed: took too long"


def test_every_room_has_tests() -> None:
    without = [room for room in mutations.rooms(ROOT) if len(mutations.belonging(ROOT, room)) < 2]
    assert without == ["__main__"]  # two lines, tried as a program


def test_a_larger_count_draws_the_same_changes_and_more() -> None:
    few, more = (mutations.drawn(ROOT, "optim", count, seed=3) for count in (4, 9))
    assert more[:4] == few
    assert few != mutations.drawn(ROOT, "optim", 4, seed=4)
