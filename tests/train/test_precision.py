"""precision=auto: what the hardware says decides, alike in every process, and the choice is written down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from benchmarks import precision
from safetensors.torch import save_file

from fractionate.models import create
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from fractionate.studies.display import display
from fractionate.studies.jobs import Job
from fractionate.train import device
from tests.train.runs import tiny

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    device.fast_precision.cache_clear()
    yield
    device.fast_precision.cache_clear()


def processor(monkeypatch: pytest.MonkeyPatch, folder: Path, flags: str | None) -> None:
    if flags is not None:
        (folder / "cpuinfo").write_text(f"model name : some\nflags : {flags}\n")
    monkeypatch.setattr(device, "CPUINFO", folder / "cpuinfo")


@pytest.mark.parametrize(
    ("flags", "chosen", "why"),
    [
        ("fpu avx512_bf16 sse", "bfloat16", "avx512_bf16"),
        ("fpu amx_bf16 avx512_bf16", "bfloat16", "amx_bf16"),
        ("fpu avx2 avx512f", "float32", "no unit"),
        ("fpu xavx512_bf16x", "float32", "no unit"),
        (None, "float32", "does not say"),
    ],
)
def test_bfloat16_is_taken_where_the_processor_has_a_unit_for_it(
    flags: str | None, chosen: str, why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    processor(monkeypatch, tmp_path, flags)
    found = device.fast_precision(CPU)
    assert found[0] == chosen
    assert why in found[1]


@pytest.mark.parametrize(("flags", "chosen"), [("amx_bf16", "bfloat16"), ("avx2", "float32")])
def test_a_run_writes_down_what_was_chosen_and_is_that_run(
    flags: str, chosen: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    processor(monkeypatch, tmp_path, flags)
    facts = run_in_folder(tiny(epochs=1, precision="auto"), tmp_path / "auto")
    assert RunFolder(tmp_path / "auto").config().precision == chosen
    same = run_in_folder(tiny(epochs=1, precision=chosen), tmp_path / "named")
    assert facts["last_loss"] == same["last_loss"]
    again = run_in_folder(tiny(epochs=1, precision="auto"), tmp_path / "auto", resume=True)
    assert again["last_loss"] == facts["last_loss"]


def test_it_is_said_once_per_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    processor(monkeypatch, tmp_path, "amx_bf16")
    said: list[str] = []

    class Console:
        is_terminal = False

        def print(self, text: str, **style: object) -> None:
            said.append(text)

    jobs = [Job("one", tiny(precision="auto"), tmp_path), Job("two", tiny(precision="auto"), tmp_path)]
    with display(Console(), jobs):  # type: ignore[arg-type]
        assert said == ["precision=auto: bfloat16, because this processor has a unit for it (amx_bf16)"]


def test_the_accuracy_check_resumes_and_gives_a_paired_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "teacher.safetensors"
    save_file(create("convnet_8_16", num_classes=10).state_dict(), weights)
    words = ["--teacher", "convnet_8_16", "--student", "convnet_4_8", "--weights", str(weights), "--seeds", "2"]
    words += ["--out", str(tmp_path), "data={name: digits, labels_per_class: 2, batch_size: 10}", "epochs=1"]
    assert precision.main([*words, "--minutes", "0"]) == 75
    assert "dkd: no pair is finished" in capsys.readouterr().out
    assert precision.main(words) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert "2 of 2 pairs; difference " in said
    assert said.endswith("points, 95 %")
    configs = [RunFolder(f.parent).config() for f in sorted(tmp_path.rglob("seed-0/config.yaml"))]
    assert [run.precision for run in configs] == ["bfloat16", "float32"]
