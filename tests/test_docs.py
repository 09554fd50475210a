"""Every Python example of README.md, CONTRIBUTING.md and docs/ runs, as a reader would type it.

A page is one session: its blocks share their names. Blocks with ``>>>`` are doctests; plain blocks
are executed.
"""

import doctest
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from fractionate.cli import main
from tests.distributed.sharded import ON_CPU

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LIBRARIES = (
    "lightning",
    "accelerate",
    "transformers",
    "timm.task",
    "segmentation_models_pytorch",
    "torchvision",
)  # blocks that import one missing are left out
SHOWS_PICTURES = pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="needs torchvision")
MARKS = {"sharded.md": ON_CPU, "data.md": SHOWS_PICTURES, "dense.md": SHOWS_PICTURES}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def script(name: str) -> ModuleType:
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """Each ```python block of a page with the number of lines before it."""
    for match in FENCE.finditer(text):
        yield text.count("\n", 0, match.start(1)), match[1]


def run_block(code: str, page: Path, line: int, names: dict[str, object]) -> None:
    if ">>>" not in code:
        exec(compile("\n" * line + code, str(page), "exec"), names)
        return
    test = doctest.DocTestParser().get_doctest(code, names, page.name, str(page), line)
    said: list[str] = []
    failed, _ = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append, clear_globs=False)
    names.update(test.globs)
    assert not failed, "".join(said)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.relative_to(ROOT).as_posix(), marks=MARKS.get(page.name, ()))
        for page in PAGES
        if FENCE.search(page.read_text(encoding="utf-8"))
    ],
)
def test_the_examples_of_the_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, object] = {"__name__": "__main__"}
    missing: set[str] = set()
    for line, code in blocks(page.read_text(encoding="utf-8")):
        if absent := {name for name in LIBRARIES if imports(code, name) and not installed(name)}:
            missing |= absent
        else:
            run_block(code, page, line, names)
    if missing:
        pytest.skip(f"all other blocks ran; these loops need what is not installed: {', '.join(sorted(missing))}")


def imports(code: str, name: str) -> bool:
    return re.search(rf"^(import|from) {re.escape(name)}\b", code, re.MULTILINE) is not None


def installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # not even its package
        return False


@pytest.mark.slow
def test_the_commands_of_the_command_line_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    commands = [
        line
        for block in re.findall(r"^```bash\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
    ]
    for command in commands:
        code = main(shlex.split(command)[1:])
        assert code == 0, f"{command}: {capsys.readouterr().err}"
    assert len(commands) >= 6
    assert (tmp_path / "report.html").exists()


def test_a_wrong_example_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="Expected"):
        run_block(">>> 1 + 1\n3\n", tmp_path / "page.md", 0, {})
    with pytest.raises(ZeroDivisionError):
        run_block("1 / 0\n", tmp_path / "page.md", 0, {})


def test_readme_begins_with_the_two_commands_that_ci_runs() -> None:
    printed = subprocess.run(
        [sys.executable, ROOT / ".ci" / "readme_commands.py"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.splitlines()
    assert printed == [
        'pip install -e ".[train]" && fractionate demo',
        'pip install -e ".[test]" && pytest',
    ]


def test_the_table_of_methods_is_the_one_the_package_gives() -> None:
    """Whatever stands on the page is so; methods newer than the release may be missing until the next one."""
    tables = script("tables")
    kept, made = (text.splitlines() for text in (tables.PAGE.read_text(encoding="utf-8"), tables.page()))
    assert [line for line in kept if line not in made] == [], "run: python docs/tables.py"


def test_the_pictures_show_what_the_package_computes() -> None:
    draw = script("draw")
    for name, picture in draw.PICTURES.items():
        assert (draw.STATIC / name).read_text(encoding="utf-8") == picture(), "run: python docs/draw.py"


def test_the_plan_of_the_house_shows_every_room_above_what_it_imports() -> None:
    draw = script("draw_house")
    assert (draw.STATIC / "house.svg").read_text(encoding="utf-8") == draw.house(), "run: python docs/draw_house.py"
    package = ROOT / "src" / "fractionate"
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    rooms |= {path.stem for path in package.glob("*.py") if not path.stem.startswith("_")}
    height = {name: -storey for storey, names in enumerate(draw.STOREYS.values()) for name in names}
    assert set(height) == rooms
    for name in rooms:
        files = (package / name).rglob("*.py") if (package / name).is_dir() else [package / f"{name}.py"]
        for path in files:
            deep = len(path.relative_to(package).parts)
            for dots, found in re.findall(r"^from (\.+)(\w*)", path.read_text(encoding="utf-8"), re.MULTILINE):
                if len(dots) == deep and found in rooms:
                    assert height[found] <= height[name], f"{path} imports {found}, which stands above it"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
