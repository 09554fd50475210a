"""The command line under torchrun: one folder, one voice, and an end for all when one process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from fractionate.cli import main
from fractionate.config.run import Network
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from tests.train.runs import teacher_file, tiny

pytestmark = pytest.mark.slow
LIMIT = 240.0  # seconds; a shared machine may need most of them to import torch four times
CRASH = Path(__file__).with_name("crash.py")
FILES = ["config.yaml", "last.ckpt", "metrics.jsonl", "student.safetensors", "summary.json"]


def start(
    words: Sequence[str | Path], *options: str, program: Sequence[str | Path] = ("-m", "fractionate")
) -> subprocess.Popen[str]:
    """torchrun with two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        [*command, *program, *words], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate(timeout=LIMIT)[0]
    finally:
        process.kill()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A run of two streams with a teacher, for as long as is wanted."""
    run = tiny("dkd+deepkd", teacher=Network("convnet_8_16", checkpoint=teacher_file(tmp_path)), save_every=1)
    run_in_folder(run, tmp_path / "config-only")
    return tmp_path / "config-only" / "config.yaml"


def train(config: Path, folder: Path, *more: str) -> list[str | Path]:
    return ["train", "--config", config, "--out", folder, *more]


def lines(output: str) -> list[str]:
    """What the program itself has said."""
    return [line for line in output.splitlines() if line.startswith("fractionate:")]


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + LIMIT
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_lost_process_ends_the_others_and_a_restart_finishes_the_run(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    program = [CRASH, "6"]
    output = finish(start(train(config, folder), "--max-restarts", "1", program=program))
    run = RunFolder(folder)
    assert run.finished, output
    assert sorted(p.name for p in folder.iterdir()) == FILES
    assert [row["epoch"] for row in run.metrics()] == [1, 2, 3]
    assert run.summary()["processes"] == 2
    assert any("another process of this run has ended" in line and "--resume goes on" in line for line in lines(output))


def test_a_killed_process_is_noticed_and_one_process_goes_on(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    process = start(train(config, folder, "epochs=100000"))
    wait_for(folder / "previous.ckpt", process)
    victim = next(pid for pid in children(process.pid) if b"RANK=1" in environment_of(pid))
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    output = finish(process)
    assert time.monotonic() - killed < 60, output
    assert process.returncode != 0
    epochs = len(RunFolder(folder).metrics())
    assert main([str(w) for w in train(config, folder, "--resume", f"epochs={epochs + 1}")]) == 0, capsys.readouterr()
    assert RunFolder(folder).finished


def test_sigterm_to_torchrun_saves_once_and_says_so_once(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(train(config, folder, "epochs=100000", "parallel.sync=update"))
    wait_for(folder / "previous.ckpt", process)
    process.send_signal(signal.SIGTERM)
    output = finish(process)
    warned, *ended = lines(output)
    assert "no more than guessing" in warned, output  # a network of random weights; in two processes, said by one
    assert [line.split(":")[1].split()[0] for line in ended] == ["stopping", "asked"], output
    assert (folder / "last.ckpt").is_file()
    assert not list(folder.glob(".*.tmp"))


def test_a_refusal_is_said_once_and_writes_nothing(config: Path, tmp_path: Path) -> None:
    taken = config.parent
    before = {p: p.stat().st_mtime_ns for p in taken.iterdir()}
    process = start(train(config, taken))
    output = finish(process)
    assert len(lines(output)) == 1, output
    assert "holds a finished run" in lines(output)[0]
    assert {p: p.stat().st_mtime_ns for p in taken.iterdir()} == before
    assert process.returncode != 0


def test_only_train_divides_its_work(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["methods"]) == 2
    assert "only train divides its work" in capsys.readouterr().err


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def environment_of(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted as Linux lists them")
def test_a_group_that_was_destroyed_leaves_no_thread_behind_that_could_abort_the_process(tmp_path: Path) -> None:
    program = f"""
import os, torch, torch.distributed as dist
import fractionate.world
from fractionate import AllReduce, StreamSGD, stream_grads
dist.init_process_group("gloo", init_method="file://{tmp_path}/meet", rank=0, world_size=1)
during = len(os.listdir("/proc/self/task"))
net = torch.nn.Linear(2, 1)
optimizer = StreamSGD(net.parameters(), lr=0.1)  # with the first one comes all of torch's compiler
stream_grads({{"loss": net(torch.ones(3, 2)).sum()}}, net, reduce=AllReduce())
dist.destroy_process_group()
print(during - len(os.listdir("/proc/self/task")))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(ended.stdout) > 0
