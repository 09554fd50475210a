"""The doctor finds what would otherwise be found after an hour, and says what to do."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from fractionate.config.data import Data
from fractionate.config.method import MethodSpec
from fractionate.config.optimizers import Optimizer
from fractionate.config.run import Monitors, Network, Run
from fractionate.data import PHOTO_NORMALIZATION
from fractionate.models import create
from fractionate.probe import doctor as room
from fractionate.probe.cost import graph_bytes, kept_bytes
from fractionate.probe.doctor import Finding, doctor
from fractionate.probe.sample import Thinned
from fractionate.runs.checkpoint import save_weights
from fractionate.train.build import prepare
from tests.train.runs import teacher_file, tiny


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return tiny("dkd+deepkd", teacher=Network("convnet_8_16", checkpoint=teacher_file(tmp_path)))


def findings(run: Run, out: Path) -> dict[str, Finding]:
    return {f.what: f for f in doctor(run, Console(quiet=True), out=out)}


def test_a_run_in_good_health_has_only_good_findings(run: Run, tmp_path: Path) -> None:
    text = StringIO()
    found = doctor(run, Console(file=text, width=160), out=tmp_path / "runs")
    names = [
        "data",
        "classes",
        "normalisation",
        "networks",
        "disk",
        "teacher",
        "batches",
        "one step",
        "losses",
        "memory",
    ]
    assert [f.what for f in found] == names
    assert [f for f in found if not f.ok] == []
    assert text.getvalue().count(" ok ") == len(names)
    assert "problem" not in text.getvalue()
    assert not (tmp_path / "runs").exists()


def test_every_stream_takes_its_step(run: Run, tmp_path: Path) -> None:
    watched = replace(run, monitors=Monitors(norms=True))
    step = findings(watched, tmp_path)["one step"]
    assert all(f"{stream} |g| " in step.found for stream in ("task", "target", "nontarget"))


def test_labels_alone_need_no_teacher(tmp_path: Path) -> None:
    assert "teacher" not in findings(tiny("ce"), tmp_path)


@pytest.mark.parametrize(
    ("change", "what", "found"),
    [
        (
            {"data": Data(labels_per_class=2, batch_size=30)},
            "batches",
            "data.batch_size is 30, but an epoch shows only 20",
        ),
        ({"method": MethodSpec("dist"), "accumulate": 2}, "batches", "a batch cannot go through in parts"),
        ({"data": Data(labels_per_class=1000)}, "data", "labels_per_class must lie in"),
        ({"student": Network("convnet_8_61")}, "networks", "unknown model 'convnet_8_61'"),
        ({"teacher": Network("convnet_8_16", "nowhere.pth")}, "networks", "no checkpoint at nowhere.pth"),
        ({"optimizer": Optimizer(lr=1e30)}, "one step", ""),
    ],
)
def test_a_problem_is_found_and_what_depends_on_it_is_left_out(
    change: dict[str, object], what: str, found: str, run: Run, tmp_path: Path
) -> None:
    seen = findings(replace(run, **change), tmp_path)
    assert not seen[what].ok
    assert found in seen[what].found


def test_no_room_and_no_permission_are_problems(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    full = findings(run, tmp_path)["disk"]
    assert (full.ok, full.advice) == (False, "make room, or choose another folder")
    monkeypatch.setattr(room.os, "access", lambda *_: False)
    assert "cannot be written to" in findings(run, tmp_path)["disk"].found


def test_too_little_memory_is_a_problem(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_bytes", lambda _: 1000)
    memory = findings(run, tmp_path)["memory"]
    assert (memory.ok, memory.advice) == (False, "lower data.batch_size, or free some memory")


def test_memory_grows_with_the_batch_and_the_streams(run: Run) -> None:
    small, large = (prepare(replace(run, data=Data(labels_per_class=4, batch_size=b))) for b in (10, 40))
    assert graph_bytes(large) == pytest.approx(4 * graph_bytes(small), rel=0.1)
    alone = prepare(replace(run, method=tiny("ce").method))
    weights = sum(4 * p.numel() for p in small.student.parameters())
    assert kept_bytes(small) - kept_bytes(alone) == 2 * weights


def test_images_that_are_not_normalised_are_seen(run: Run, tmp_path: Path) -> None:
    train = prepare(run).train

    class Raw:
        num_classes, classes, count, batch_size, variants = 10, (), train.count, train.batch_size, None

        def __len__(self) -> int:
            return len(train)

        def batches(self, epoch: int, start: int = 0) -> object:
            return (replace(b, images=b.images * 60 + 120) for b in train.batches(epoch, start))

    with pytest.raises(ValueError, match="expected about 0 and 1; look at the images"):
        room._normalization(Raw())


def test_dark_images_under_the_numbers_of_others_are_no_fault(run: Run) -> None:
    """As street scenes are, normalised as ImageNet is; measured on themselves they would lie around 0."""
    train = prepare(run).train

    class Dark:
        num_classes, classes, count, batch_size, variants = 10, (), train.count, train.batch_size, None
        normalization: object = PHOTO_NORMALIZATION

        def __len__(self) -> int:
            return len(train)

        def batches(self, epoch: int, start: int = 0) -> object:
            return (replace(b, images=b.images * 0.8 - 1.25) for b in train.batches(epoch, start))

    assert "mean -1." in room._normalization(Dark())
    Dark.normalization = None
    with pytest.raises(ValueError, match="expected about 0 and 1"):
        room._normalization(Dark())


def test_the_teacher_is_tried_on_images_of_every_class(run: Run) -> None:
    test = prepare(run).test
    thin = torch.cat([b.target for b in Thinned(test, 7).batches(1)])
    whole = torch.cat([b.target for b in test.batches(1)])
    assert torch.equal(thin, whole[::7])


def test_a_broken_student_is_named(run: Run, tmp_path: Path) -> None:
    net = create("convnet_4_8", num_classes=10)
    with torch.no_grad():
        next(net.parameters()).fill_(float("inf"))
    save_weights(net, tmp_path / "inf.safetensors")
    broken = replace(run, student=Network("convnet_4_8", checkpoint=str(tmp_path / "inf.safetensors")))
    assert "the student's weights are broken" in findings(broken, tmp_path)["networks"].found
