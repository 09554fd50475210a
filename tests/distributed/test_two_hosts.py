"""Two launchers on this machine that find each other over the loopback, as those of two hosts do."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
RUN = ("digits", "epochs=2", "data.passes=1", "--method", "dkd+deepkd", "--teacher-epochs", "1")
TIMED = {"seconds", "images_per_s"}
TIMEOUT = 300


def launcher(folder: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """torchrun, started in a folder of its own."""
    folder.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "fractionate", "train", *RUN]
    return subprocess.Popen(
        [*command, "--out", str(out)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "FRACTIONATE_CACHE": f"{folder}-cache"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(launchers: Sequence[subprocess.Popen[str]]) -> list[str]:
    """What each of them printed; all must succeed."""
    try:
        printed = [each.communicate(timeout=TIMEOUT) for each in launchers]
    finally:
        for each in launchers:
            each.kill()
    assert [each.returncode for each in launchers] == [0] * len(launchers), "\n".join(err for _, err in printed)
    return [out for out, _ in printed]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def epochs(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMED} for line in lines]


def test_two_hosts_leave_one_run_folder_with_the_numbers_of_one_host(tmp_path: Path) -> None:
    meet = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--rdzv-id", "run"]
    each = ["--nnodes", "2", "--nproc-per-node", "1", "--local-addr", "127.0.0.1", *meet]
    hosts = [launcher(tmp_path / name, tmp_path / "two", *each) for name in ("first", "second")]
    only = launcher(tmp_path / "only", tmp_path / "one", "--standalone", "--nproc-per-node", "2")
    *printed, _ = said([*hosts, only])

    assert sorted(bool(words) for words in printed) == [False, True]  # one process speaks for all
    for run in ("teacher", "dkd+deepkd/seed-0"):
        two, one = tmp_path / "two" / run, tmp_path / "one" / run
        assert sorted(f.name for f in two.iterdir()) == [
            "config.yaml", "last.ckpt", "metrics.jsonl", "student.safetensors", "summary.json"
        ]  # fmt: skip
        assert epochs(two) == epochs(one)
        assert (two / "student.safetensors").read_bytes() == (one / "student.safetensors").read_bytes()
    assert [row["epoch"] for row in epochs(tmp_path / "two" / "dkd+deepkd/seed-0")] == [1, 2]
    assert [list((tmp_path / host).iterdir()) for host in ("first", "second", "only")] == [[], [], []]
