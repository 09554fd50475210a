"""Shape checks on, randomness fixed, one thread: what every test starts from."""

from __future__ import annotations

import importlib.util
import os
import pickle
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent.parent))  # `benchmarks` is no part of what is installed

# Before the first import of fractionate: annotations such as Float[Tensor, "n c"] are enforced at
# every call of the package. `unchecked` switches that off where a test looks at the package's own
# error messages. The checking wrappers cannot be compiled, so tests marked `compiled` run in a
# process without them (tests/test_compiled.py starts it).
SHAPE_CHECKS = os.environ.get("FRACTIONATE_SHAPE_CHECKS", "on") != "off"
if SHAPE_CHECKS:
    from tests import shapes  # imported only here: it needs beartype

    jaxtyping.install_import_hook("fractionate", f"{shapes.__name__}.checked")

import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

# A shell starts its background jobs with Ctrl-C ignored; the tests of Ctrl-C need it as a terminal gives it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("fractionate", derandomize=True, max_examples=25, deadline=None, database=None)
settings.load_profile("fractionate")
torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "compiled: needs a process without the shape checks")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave ``compiled`` tests to the process without shape checks; slow tests first, so that no worker ends alone."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if not SHAPE_CHECKS:
        return
    elsewhere = [item for item in items if item.get_closest_marker("compiled")]
    if elsewhere:
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if item not in elsewhere]


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the shape checks, as a user without jaxtyping runs the package."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets, named by the environment variable FRACTIONATE_DATA."""
    folder = os.environ.get("FRACTIONATE_DATA")
    if not folder:
        pytest.skip("needs real data: set FRACTIONATE_DATA to the folder that holds it")
    if not Path(folder).is_dir():
        pytest.fail(f"FRACTIONATE_DATA={folder} is not a folder")
    return Path(folder)


@pytest.fixture(scope="session")
def real_test_images(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The test images of CIFAR-100, written in the official layout and read back."""
    from fractionate.data import cifar

    script, zipped = shared_data / "unpack_cifar100.py", shared_data / "cifar100-test.zip"
    if not script.is_file() or not zipped.is_file():
        pytest.skip("needs cifar100-test.zip and unpack_cifar100.py in FRACTIONATE_DATA")
    spec = importlib.util.spec_from_file_location("unpack_cifar100", script)
    unpack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unpack)
    pixels, fine, _, meta = unpack.read_split([zipped])
    root = tmp_path_factory.mktemp("cifar100")
    folder = root / "cifar-100-python"
    folder.mkdir()
    data = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).reshape(len(pixels), 3072)
    (folder / "test").write_bytes(pickle.dumps({"data": data, "fine_labels": fine.tolist()}, 4))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": meta["fine_names"]}, 4))
    return cifar("cifar100", root, "test", download=False)
