"""The pictures of the data page show what batches give."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.fixture(scope="module")
def drawn() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_data", DOCS / "draw_data.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["shift-flip", "cutout", "autoaugment", "randaugment", "mixup", "cutmix"])
def test_a_picture_shows_what_batches_give(name: str, drawn: ModuleType) -> None:
    with Image.open(DOCS / "_static" / f"augment-{name}.png") as kept:
        assert kept.convert("RGB").tobytes() == drawn.ROWS[name]().tobytes(), "run: python docs/draw_data.py"


def test_the_page_shows_every_picture(drawn: ModuleType) -> None:
    page = (DOCS / "data.md").read_text(encoding="utf-8")
    assert all(f"_static/augment-{name}.png" in page for name in drawn.ROWS)
