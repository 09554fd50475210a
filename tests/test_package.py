"""The package as strangers get it: what importing it loads, and what its wheel holds."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "fractionate"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# Prints what `import fractionate` and its public names load beyond what `import torch` already did.
LOADED_BY_THE_IMPORT = """
import json, sys
import torch
before = set(sys.modules)
import fractionate
for name in fractionate.__all__:
    getattr(fractionate, name)
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps(sorted(new - set(sys.stdlib_module_names))))
"""

# Hides every optional package, then trains one step with a loss and an optimizer of the core.
ONE_STEP_WITH_TORCH_ALONE = """
import sys

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            return None
        return self.finder.find_spec(name, path, target)

sys.meta_path = [Hiding(finder) for finder in sys.meta_path]
import warnings
warnings.simplefilter("ignore")  # torch remarks that numpy is missing
import torch
import fractionate as fr
net = torch.nn.Linear(8, 5)
method = fr.methods.deepkd(fr.methods.dkd())
optimizer = fr.StreamSGD(net.parameters(), lr=0.1, momentum=method.momenta(0.9))
rows = fr.Logits(net(torch.randn(4, 8)), torch.randn(4, 5), torch.tensor([0, 1, 2, 3]))
optimizer.step(fr.stream_grads(method.stream_losses(rows, fr.Progress()), net))
assert not {hidden!r} & set(sys.modules)
"""


# Loads every room in a process that has loaded no other, and prints those that cannot be the first.
EVERY_ROOM_FIRST = """
import os, sys
import torch
for room in {rooms!r}:
    pid = os.fork()
    if pid == 0:
        try:
            __import__("fractionate." + room)
        except BaseException as error:
            print(room, error, flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
"""


def in_fresh_interpreter(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(SOURCE.parent)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def optional_packages() -> set[str]:
    """Import names of everything that the extras ask for."""
    imported_as = {"pyyaml": "yaml", "scikit-learn": "sklearn"}
    extras = PROJECT["optional-dependencies"]
    wanted = [*extras["train"], *extras["models"], "jaxtyping", "beartype"]
    names = [re.match(r"[\w-]+", each)[0].lower() for each in wanted]
    return {imported_as.get(name, name) for name in names}


def test_importing_the_package_and_using_its_names_loads_nothing_but_torch() -> None:
    assert json.loads(in_fresh_interpreter(LOADED_BY_THE_IMPORT)) == ["fractionate"]


def test_importing_the_package_alone_does_not_even_load_torch() -> None:
    in_fresh_interpreter("import sys, fractionate; dir(fractionate); assert 'torch' not in sys.modules")


def names_for_type_checkers() -> dict[str, str]:
    """The public names as the package's `if TYPE_CHECKING:` imports them, each with the module it comes from."""
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {a.name: f"fractionate.{line.module or ''}".rstrip(".") for line in block.body for a in line.names}


def test_a_name_is_at_run_time_what_type_checkers_take_it_for() -> None:
    package, declared = import_module("fractionate"), names_for_type_checkers()
    assert sorted(declared) == sorted(package.__all__)
    assert set(package.__all__) <= set(dir(package))
    for name, home in declared.items():
        room = f"{home}.{name}"
        expected = import_module(room) if home == "fractionate" else getattr(import_module(home), name)
        assert getattr(package, name) is expected


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(AttributeError, match="splitkl"):
        _ = import_module("fractionate").splitkl


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_every_room_may_be_loaded_first() -> None:
    rooms = sorted(each.stem for each in SOURCE.iterdir() if each.suffix == ".py" or (each / "__init__.py").exists())
    assert in_fresh_interpreter(EVERY_ROOM_FIRST.format(rooms=[r for r in rooms if r[:2] != "__"])) == ""


def test_the_core_trains_a_step_while_every_optional_package_is_hidden() -> None:
    hidden = optional_packages()
    assert {"numpy", "sklearn", "yaml", "tyro", "rich", "pydantic", "jinja2"} <= hidden
    in_fresh_interpreter(ONE_STEP_WITH_TORCH_ALONE.format(hidden=hidden))


def test_torch_is_the_only_dependency() -> None:
    assert [re.match(r"\w+", each)[0] for each in PROJECT["dependencies"]] == ["torch"]


def test_every_bound_says_why() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    bounds = [line for line in text.splitlines() if re.match(r'\s+"[\w-]+>=', line)]
    assert len(bounds) > 20
    assert [line for line in bounds if "#" not in line] == []


def test_every_folder_with_code_is_a_package() -> None:
    folders = {file.parent for file in SOURCE.rglob("*.py")}
    assert [str(f.relative_to(SOURCE)) for f in folders if not (f / "__init__.py").exists()] == []


def test_every_public_name_exists_and_is_listed_once() -> None:
    package = import_module("fractionate")
    assert [name for name in package.__all__ if not hasattr(package, name)] == []
    assert len(set(package.__all__)) == len(package.__all__)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this checkout, built without isolation or network."""
    pytest.importorskip("hatchling", reason="building the wheel needs hatchling (extra: test)")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=300,
    )
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def metadata(wheel: zipfile.ZipFile, name: str) -> str:
    return wheel.read(f"fractionate-{PROJECT['version']}.dist-info/{name}").decode()


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    here = {
        file.relative_to(SOURCE.parent).as_posix()
        for file in SOURCE.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert shipped == here
    assert "fractionate/py.typed" in shipped


def test_the_wheel_carries_licence_and_command(wheel: zipfile.ZipFile) -> None:
    assert "MIT License" in metadata(wheel, "licenses/LICENSE")
    assert "fractionate = fractionate.cli:main" in metadata(wheel, "entry_points.txt")


def test_the_version_is_the_same_everywhere() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (?:\[)?(\d+\.\d+\.\d+)", changes, re.MULTILINE)
    assert newest is not None
    assert newest[1] == PROJECT["version"] == import_module("fractionate").__version__
