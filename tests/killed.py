"""A run that is killed with -9 inside an epoch, and goes on to the same last bit as one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import fractionate as fr
from fractionate.config import Run, to_yaml
from fractionate.runs import run_in_folder

SCRIPT = """
import os, signal, sys
from fractionate.config import read_config
from fractionate.runs import run_in_folder
steps = []
def on_step(epochs, speed):
    steps.append(epochs)
    if len(steps) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
run_in_folder(read_config(sys.argv[1]), sys.argv[2], save_steps=1, on_step=on_step)
"""


def killed_and_whole(run: Run, folder: Path, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train a run twice, one of them killed after a step and resumed; the weights must be equal.

    Args:
        run: the config.
        folder: of both runs.
        step: after which it is killed.

    Returns:
        The summaries of the one that went on, and of the one that was never stopped.
    """
    (folder / "run.yaml").write_text(to_yaml(run))
    whole = run_in_folder(run, folder / "whole")
    words = [sys.executable, "-c", SCRIPT, str(folder / "run.yaml"), str(folder / "killed"), str(step)]
    here = Path(fr.__file__).parents[2]
    path = os.pathsep.join([str(here / "src"), str(here), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": path}, timeout=300, cwd=here)
    assert done.returncode == -signal.SIGKILL
    assert not (folder / "killed" / "summary.json").exists()
    again = run_in_folder(run, folder / "killed", resume=True)
    both = [(folder / name / "student.safetensors").read_bytes() for name in ("whole", "killed")]
    assert both[0] == both[1]
    return again, whole
