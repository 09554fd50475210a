"""Boards show the same columns as metrics.jsonl, and say what is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fractionate.config.data import Data
from fractionate.config.method import MethodSpec
from fractionate.config.run import Network, Run
from fractionate.studies.display import boards
from fractionate.train.build import prepare
from fractionate.train.loop import fit

RUN = Run(student=Network("convnet_4_8"), method=MethodSpec("ce"), data=Data(labels_per_class=2), epochs=2)


def test_tensorboard_reads_every_column_of_every_epoch(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with boards(("tensorboard",), RUN, tmp_path) as write:
        records = list(fit(prepare(RUN)))
        for record in records:
            write(record)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for record in records:
        for name, value in record.columns().items():
            if name != "epoch" and value is not None:
                shown = next(e.value for e in events.Scalars(name) if e.step == record.epoch)
                assert shown == pytest.approx(value, rel=1e-6)


def test_wandb_gets_config_and_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}
    run = SimpleNamespace(log=lambda columns, step: seen.update({str(step): columns}), finish=lambda: None)
    fake = SimpleNamespace(init=lambda **given: seen.update(given) or run)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with boards(("wandb",), RUN, tmp_path) as write:
        record = next(fit(prepare(RUN)))
        write(record)
    assert seen["config"]["student"]["name"] == "convnet_4_8"  # type: ignore[index]
    assert seen["1"]["test_top1"] == record.test.top1  # type: ignore[index]


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_board_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tensorboard"), boards(("tensorbord",), RUN, tmp_path):  # type: ignore[arg-type]
        pass
