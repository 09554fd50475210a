"""What a picture needs before it is read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fractionate.data import folder
from fractionate.pictures.survey import survey


@pytest.mark.parametrize("read", [lambda root: folder(root, "train"), survey])
def test_where_pillow_is_missing_the_command_that_brings_it_is_named(
    read: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match="pip install pillow"):
        read(tmp_path)
