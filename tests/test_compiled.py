"""Tests marked ``compiled`` run here, in a process whose functions carry no shape checks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_compiled_equals_eager_without_shape_checks() -> None:
    command = [sys.executable, "-m", "pytest", "tests", "-q", "-m", "compiled", "-p", "no:cacheprovider"]
    run = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"FRACTIONATE_SHAPE_CHECKS": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
