"""A session on a lent GPU, rehearsed: the very commands at toy size, under a clock that plays its fifteen minutes."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks import carried, gpu_parts, gpu_session, pieces, session, teachers
from benchmarks.cifar100_table import PAIRS, TOGETHER, Entry
from benchmarks.published import lines
from benchmarks.session import Clock, Command
from safetensors.torch import load_file

from fractionate.config.data import Data
from fractionate.config.files import differences
from fractionate.config.method import MethodSpec
from fractionate.config.run import Network
from fractionate.data.cifar import read_arrays
from fractionate.papers.draft import lasting
from fractionate.recipes.cifar100 import student
from fractionate.recipes.teachers import short, teacher_run
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from fractionate.runs.stop import Stop, Stopped
from fractionate.runs.taught import training_of
from fractionate.train.networks import build
from tests.train.runs import tiny

ENTRIES = [Entry(*PAIRS[0], id.format(pair="__".join(PAIRS[0]))) for id in TOGETHER]


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CIFAR-100 and its two pieces."""
    folder = tmp_path_factory.mktemp("cut")
    pieces.noise(folder / "data", (20, 2))
    pieces.split(folder / "data", folder, 2)
    return folder


def test_pieces_together_give_every_pixel_and_label_again_and_one_says_what_it_lacks(cut: Path, tmp_path: Path) -> None:
    both = [cut / "piece-2", cut / "piece-1"]
    assert not pieces.join(tmp_path, both[1:])
    assert pieces.missing(both[1:]) == ["train images 1,000 to 2,000", "test images 0 to 200"]
    assert pieces.join(tmp_path, both)
    for name in (*pieces.SPLITS, "meta"):
        before, after = (read_arrays(place / pieces.FOLDER / name) for place in (cut / "data", tmp_path))
        assert (before.pop("data", torch.zeros(1).numpy()) == after.pop("data", torch.zeros(1).numpy())).all()
        assert before == after


def test_pieces_of_the_real_images_fit_a_transfer_and_come_back_to_the_last_bit(
    shared_data: Path, tmp_path: Path
) -> None:
    zips = [f for split in pieces.SPLITS for f in sorted(shared_data.glob(f"cifar100-{split}*.zip"))]
    if not zips:
        pytest.skip("no sheets of CIFAR-100 in FRACTIONATE_DATA")
    pixels, facts = pieces._tiles(zips[-1])
    assert zips[-1].name == "cifar100-test.zip"
    assert facts["n"] == len(pixels) == 10_000
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    assert digest == "83c56492b2c11211ad1bb2dbd4f2eef4170a0441e41a41f3039c3144b1f5a511"
    again = pieces._sheet(pixels[:1000])
    assert len(again) < 1.03 * zips[-1].stat().st_size / 10


@pytest.mark.slow
def test_fifteen_minutes_are_kept_and_nothing_is_lost_on_the_way_to_another_machine(
    cut: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, back = tmp_path / "out", tmp_path / "back"
    words = ["--toy", "--device", "cpu", "--apart", "--out", str(out), "--pack", str(back)]

    def play(part: str, *more: str) -> str:
        code = gpu_session.main([part, *words, *more], speed=2.0)  # a busy machine may stop a command in its time
        said = capsys.readouterr().out
        assert code == int("stopped after" in said), said
        seconds = float(said.splitlines()[-1].split(": ")[1].split(" s")[0])
        assert seconds <= 60 * gpu_session.MINUTES[part]
        files = [f for f in back.iterdir() if f.is_file()]
        assert len(files) <= carried.FILES
        assert max(f.stat().st_size for f in files) <= carried.EACH
        return said

    said = play("first", "--piece", str(cut / "piece-1"))
    assert {f"{name}.log" for name in ("tests-gpu", "gpu-losses", "pace")} <= {f.name for f in out.iterdir()}, said
    assert gpu_session.main(["second", *words]) == 2
    assert "send the other pieces first" in capsys.readouterr().err
    for _ in range(4):  # a busy machine may need another session
        if "students-short-1: ok" in (said := play("second", "--piece", str(cut / "piece-2"))):
            break
        place = back.rename(tmp_path / "sent")
        shutil.rmtree(out)  # the machine goes back, and another one comes
        play("first", "--piece", str(cut / "piece-1"), "--from", str(place))
        shutil.rmtree(place)
    assert {f.name for f in back.iterdir()} == {"evidence.tar.gz", "resnet20-short.safetensors"}
    half = load_file(back / "resnet20-short.safetensors")
    assert {v.dtype for v in half.values()} == {torch.float16, torch.int64}
    (study,) = out.glob("cifar100-*--short-teacher--2-epochs")
    rows = [RunFolder(f.parent).summary() for f in sorted(study.rglob("summary.json"))]
    assert [row["method"] for row in rows] == ["labels alone", "kd"]
    note = {"epochs": 2, "schedule": "cosine", "batch_size": 50, "seed": 0, "dtype": "float16"}
    assert note.items() <= rows[1]["teacher_training"].items()
    assert "it was trained for 2 epochs (cosine), weights kept in float16" in (out / "students-short-1.log").read_text()
    page = list(lines(study))
    assert "trained for 2 epochs (cosine), weights kept in float16." in page[0]

    before = sorted(f.stat().st_mtime_ns for f in out.rglob("summary.json"))
    assert "students-short-1: done before" in play("second")
    assert sorted(f.stat().st_mtime_ns for f in out.rglob("summary.json")) == before


def interrupted(folder: Path) -> RunFolder:
    """A run whose time was up in its middle."""
    with pytest.raises(Stopped), Stop() as stop:
        run_in_folder(tiny(epochs=3), folder, stop=stop, on_record=lambda record: stop.ask("budget"))
    return RunFolder(folder)


def test_an_unfinished_run_goes_on_from_what_was_packed_and_ends_as_it_would_have(tmp_path: Path) -> None:
    out, back, there = tmp_path / "out", tmp_path / "back", tmp_path / "there"
    run = interrupted(out / "study" / "seed-0").path
    (out / "some.log").write_text("words\n")
    said = carried.pack(out, back, [run, out / "nowhere"])
    assert any("study/seed-0: its state" in line for line in said)
    assert carried.unpack(back, there) == ["study/seed-0"]
    assert (there / "some.log").read_text() == "words\n"
    whole = run_in_folder(tiny(epochs=3), tmp_path / "whole")
    again = run_in_folder(tiny(epochs=3), there / "study" / "seed-0", resume=True)
    assert again["last_loss"] == whole["last_loss"]
    assert len((there / "study" / "seed-0" / "metrics.jsonl").read_text().splitlines()) == 3


def test_what_comes_back_has_room_for_the_state_that_is_worth_most_and_says_what_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, back = tmp_path / "out", tmp_path / "back"
    for name, size in (("a", 50_000), ("b", 200_000), ("c", 30_000)):
        (out / name).mkdir(parents=True)
        (out / name / "last.ckpt").write_bytes(bytes(size))
    (out / "teachers").mkdir()
    (out / "teachers" / "large.safetensors").write_bytes(bytes(70_000))
    monkeypatch.setattr(carried, "EACH", 40_000)
    monkeypatch.setattr(carried, "TOGETHER", 150_000)
    said = carried.pack(out, back, [out / name for name in "abc"])
    files = {f.name: f.stat().st_size for f in back.iterdir()}
    assert max(files.values()) <= 40_000
    assert sum(files.values()) <= 150_000
    assert [line.split(":")[0] for line in said if "left out" in line] == ["large.safetensors", "b"]
    assert carried.unpack(back, tmp_path / "there") == ["a", "c"]
    (back / "state.tar.0").unlink()
    with pytest.raises(ValueError, match="lacks a volume"):
        carried.unpack(back, tmp_path / "elsewhere")


def test_a_command_that_fails_stops_no_other_and_one_that_is_slow_is_ended_in_time(tmp_path: Path) -> None:
    part = [
        Command("bad", ("-c", "raise SystemExit(3)")),
        Command("later", ("-c", "raise SystemExit(75)")),
        Command("slow", ("-c", "import time; time.sleep(60)"), most=25),
        Command("good", ("-c", "import sys; print(5)")),
    ]
    clock, packed = Clock(600, speed=10), []
    assert session.run(part, tmp_path, clock, lambda: packed.append(clock.left)) == ["bad", "slow"]
    assert sorted(f.name for f in tmp_path.glob("*.done")) == ["good.done"]
    assert (tmp_path / "good.log").read_text().splitlines()[1:] == ["5"]
    assert len(packed) == 4
    assert session.run(part, tmp_path, Clock(session.PACKING + session.LEAST - 1)) == []  # no time left


def test_what_a_command_has_started_ends_with_it(tmp_path: Path) -> None:
    place = str(tmp_path / "grandchild")
    grandchild = f"import time; time.sleep(5); open({place!r}, 'w').close()"
    words = ("-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])")
    assert session.run([Command("parent", words, most=80)], tmp_path, Clock(600, speed=40)) == ["parent"]
    time.sleep(5.5)
    assert not Path(place).exists()


def test_a_budget_ends_before_its_command_is_stopped(tmp_path: Path) -> None:
    words = ("-c", f"print('{session.BUDGET}')")
    session.run([Command("told", words)], tmp_path, Clock(100))
    told = float((tmp_path / "told.log").read_text().splitlines()[-1])
    assert 50 < told <= 100 - session.PACKING - session.GRACE


def test_a_machine_without_pydantic_takes_it_from_wheels_or_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert carried.site_of(tmp_path, tmp_path) == ""
    monkeypatch.setattr(carried, "NEEDED", ("no_such_package_of_ours",))
    with pytest.raises(ValueError, match="has no no_such_package_of_ours"):
        carried.site_of(tmp_path, tmp_path)
    (tmp_path / "no_such_package_of_ours").mkdir()
    (tmp_path / "no_such_package_of_ours" / "__init__.py").write_text("")
    shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path, "no_such_package_of_ours")
    (tmp_path / "a.zip").rename(tmp_path / "a.whl")
    monkeypatch.setattr("sys.path", [])
    assert carried.site_of(tmp_path, tmp_path / "out") == str(tmp_path / "out" / "site")


@pytest.mark.filterwarnings("ignore:deepkd")
@pytest.mark.parametrize("epochs", [240, 60])
def test_students_in_lockstep_are_the_published_recipes_runs(epochs: int) -> None:
    assert len({e.folder for e in ENTRIES}) == len(ENTRIES) == 8
    for entry in ENTRIES:
        run = lasting(entry.run(()), epochs)
        asked = student(MethodSpec.parse(str(run.method)), Network("resnet32x4"), epochs=epochs)
        assert {d for d in differences(run, asked) if not d.startswith("teacher.")} == set(), entry.id


@pytest.mark.filterwarnings("ignore:deepkd")
def test_the_first_student_and_the_last_may_share_their_batches() -> None:
    data = {replace(entry.run(()).data) for entry in ENTRIES}
    assert data == {Data("cifar100", shift=4, flip=True, batch_size=64)}


def test_a_short_teacher_differs_from_the_published_one_in_its_length_and_rate_alone() -> None:
    assert set(differences(short("resnet32x4"), teacher_run("resnet32x4"))) == {
        "epochs",
        *(f"learning_rate.{name}" for name in ("schedule", "milestones", "warmup_epochs", "per")),
    }


def test_a_kept_teacher_is_read_back_and_says_how_it_was_trained(tmp_path: Path) -> None:
    facts = run_in_folder(tiny(epochs=1), tmp_path / "teacher-small-short")
    assert training_of(tmp_path / "teacher-small-short" / "student.safetensors") == {
        "epochs": 1,
        "schedule": "cosine",
        "batch_size": tiny().data.batch_size,
        "seed": 0,
        "last_top1": facts["last_top1"],
        "dtype": "float32",
    }
    (file,) = teachers.keep_teachers(tmp_path, tmp_path / "kept", names=["small-short"])
    note = training_of(file)
    assert note is not None
    assert note["dtype"] == "float16"
    assert note["last_top1"] == facts["last_top1"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = build(Network(tiny().student.name, str(file)), 10)
    assert all(p.dtype == torch.float32 for p in net.parameters())
    kept = json.loads((tmp_path / "kept" / "teachers.json").read_text())["small-short"]
    assert (kept["network"], kept["schedule"]) == (tiny().student.name, "cosine")


@pytest.mark.parametrize(
    ("seconds", "pace", "epochs", "count"),
    [(400, {8: 1.0}, 240, 8), (100, {8: 1.0}, 80, 8), (24, {8: 2.0, 4: 0.8}, 24, 4), (60, {}, 60, 8)],
)
def test_all_students_are_shortened_alike_and_fewer_only_where_none_fits(
    seconds: float, pace: dict[int, float], epochs: int, count: int
) -> None:
    assert gpu_parts.fitting(seconds, pace) == (epochs, count)


def test_the_files_with_gpu_tests_are_found() -> None:
    assert {"tests/losses/test_triton.py", "tests/train/test_captured.py"} <= set(gpu_parts.marked())
