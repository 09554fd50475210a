"""The table measured again: at toy size it trains, stops in time, goes on, and leaves rows for the page."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks import cifar100_table

from fractionate.train import RunFolder

sys.path.append(str(Path(__file__).parent.parent / "docs"))
import results

PAIR = (("resnet56", "resnet20"),)


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    folder, random = tmp_path / "data" / "cifar-100-python", np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name in ("train", "test"):
        content = {"data": random.integers(0, 256, (100, 3072), dtype=np.uint8), "fine_labels": list(range(100))}
        (folder / name).write_bytes(pickle.dumps(content, 4))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"c{i}" for i in range(100)]}, 4))
    return folder.parent


@pytest.mark.filterwarnings("ignore:deepkd")  # the published code ignores weights, and says so
def test_every_pair_is_compared_with_labels_alone_and_by_published_recipes() -> None:
    entries = list(cifar100_table.plan())
    assert [e.id for e in entries].count(cifar100_table.LABELS) == len(cifar100_table.PAIRS)
    assert {(e.teacher, e.student) for e in entries} == set(cifar100_table.PAIRS)
    for entry in entries:
        run = entry.run(())
        assert run.student.name == entry.student
        assert run.epochs >= 240
    first = [e.folder for e in entries if e.study == "cifar100-resnet32x4__resnet8x4"]
    assert len(set(first)) == len(first) >= 12


@pytest.mark.slow
def test_no_minutes_train_nothing_and_a_few_more_finish(
    cifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cifar100_table, "METHODS", cifar100_table.METHODS[:2])
    words = [
        "--toy",
        "--seeds",
        "1",
        "--data",
        str(cifar),
        "--out",
        str(tmp_path / "runs"),
        "--rows",
        str(tmp_path / "rows"),
    ]
    cifar100_table.main([*words, "--minutes", "0"], PAIR)
    assert "the time budget is used up" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "rows").exists()
    cifar100_table.main([*words, "--minutes", "5"], PAIR)
    rows = sorted(f.parent for f in (tmp_path / "rows").rglob("summary.json"))
    assert [row.relative_to(tmp_path / "rows").as_posix() for row in rows] == [
        "cifar100-resnet56__resnet20/kd--mdistiller/seed-0",
        "cifar100-resnet56__resnet20/labels/seed-0",
    ]
    assert RunFolder(rows[0]).summary()["teacher"] == "resnet56"
    assert "| `kd` | 1 | " in results.page(tmp_path / "rows")
