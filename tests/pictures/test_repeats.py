"""Pictures to measure on that are to train on as well are counted, whatever their names, on disk and in zip files."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from fractionate.config import Data
from fractionate.pictures import repeats
from fractionate.pictures.plan import Networks, planned
from fractionate.pictures.repeats import told_repeated
from fractionate.probe.doctor import examine
from fractionate.recipes import find
from fractionate.train.scenes import described
from tests.dense import trees as masks
from tests.detection import trees as boxes


def written(root: Path, contents: dict[str, bytes]) -> list[Path]:
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return [root / name for name in contents]


def test_contents_count_and_names_and_sizes_do_not(tmp_path: Path) -> None:
    train = written(tmp_path, {"train/a.png": b"one", "train/b.png": b"two", "train/c.png": b"three"})
    test = written(tmp_path, {"val/a.png": b"not", "val/x.png": b"two", "val/y.png": b"longer"})
    assert told_repeated(train, test) == (
        "1 of 3 pictures to measure on is to train on as well (val/x.png is train/b.png): what is remembered counts as "
        "recognised there; keep a picture in one part"
    )
    assert "2 of 4 pictures to measure on are" in told_repeated(train, [*test, train[0]])
    assert told_repeated(train, [test[0], test[2]]) == told_repeated(train, []) == told_repeated([], test) == ""


def test_files_in_a_zip_file_are_compared_with_each_other_and_with_those_on_disk(tmp_path: Path) -> None:
    train = written(tmp_path, {"train/a.png": b"one", "train/b.png": b"two"})
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("val/q.png", b"one")
        archive.writestr("val/r.png", b"six")
    inside = [zipfile.Path(tmp_path / "x.zip") / "val" / name for name in ("q.png", "r.png")]
    assert "1 of 2 pictures to measure on is to train on as well (x.zip/val/q.png is train/a.png)" in told_repeated(
        train, inside
    )
    assert "2 of 2 pictures" in told_repeated(inside, inside)


def test_a_file_that_went_away_is_no_repeat_and_no_error(tmp_path: Path) -> None:
    assert told_repeated([tmp_path / "gone.png"], [tmp_path / "lost.png"]) == ""
    (train,) = written(tmp_path, {"a.png": b"one"})
    assert told_repeated([train, tmp_path / "gone.png"], [tmp_path / "lost.png"]) == ""


def test_of_many_some_are_looked_at_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = written(tmp_path, {f"train/{i}.png": bytes([i]) for i in range(20)})
    monkeypatch.setattr(repeats, "LOOKED", 8)
    assert "7 of 7 pictures to measure on that were looked at are to train" in told_repeated(train, train)
    monkeypatch.setattr(repeats, "READ", 19)  # all have one size
    assert told_repeated(train, train) == ""
    monkeypatch.setattr(repeats, "READ", 20)
    assert told_repeated(train, train)
    monkeypatch.setattr(repeats, "MANY", 19)
    assert told_repeated(train, train) == ""


def test_a_plan_of_photos_says_it(tmp_path: Path) -> None:
    from PIL import Image

    for part, first in (("train", 0), ("test", 3)):
        for label, kind in enumerate(("cat", "dog")):
            (tmp_path / part / kind).mkdir(parents=True)
            for i in range(first, first + 4):
                Image.new("RGB", (40, 40), (i, 100 * label, 9)).save(tmp_path / part / kind / f"{part}{i}.png")
    lines = planned(tmp_path, Networks(None, "resnet8")).lines
    assert (
        sum(
            "2 of 8 pictures to measure on are to train on as well (test/cat/test3.png is train/cat/train3.png)" in x
            for x in lines
        )
        == 1
    )
    for kind in ("cat", "dog"):
        (tmp_path / "test" / kind / "test3.png").unlink()
    assert not any("as well" in line for line in planned(tmp_path, Networks(None, "resnet8")).lines)


def test_a_folder_of_masks_and_one_of_boxes_say_it(tmp_path: Path) -> None:
    camvid = masks.camvid(tmp_path / "camvid")
    assert len(described(Data("camvid", root=str(camvid)))) == 1
    some = sorted((camvid / "images" / "train").iterdir())[0]
    other = sorted((camvid / "images" / "test").iterdir())[0]
    other.write_bytes(some.read_bytes())
    first, second = described(Data("camvid", root=str(camvid)))
    assert "to measure on" in first
    assert f"1 of 3 pictures to measure on is to train on as well (test/{other.name} is train/{some.name})" in second
    coco = boxes.coco(tmp_path / "coco")
    assert len(described(Data("coco", root=str(coco)))) == 1
    shown = sorted((coco / "val2017").iterdir())[0]
    shown.write_bytes((sorted((coco / "train2017").iterdir())[0]).read_bytes())
    assert "1 of 4 pictures to measure on is to train on as well" in described(Data("coco", root=str(coco)))[1]


def test_the_doctor_calls_it_a_problem(tmp_path: Path) -> None:
    root = masks.camvid(tmp_path / "camvid")
    sorted((root / "images" / "test").iterdir())[0].write_bytes(
        sorted((root / "images" / "train").iterdir())[0].read_bytes()
    )
    run = replace(find("camvid-small").teacher(), data=replace(find("camvid-small").teacher().data, root=str(root)))
    findings = {f.what: f for f in examine(run, tmp_path)}
    assert not findings["parts"].ok
    assert findings["parts"].found.startswith("1 of 3 pictures to measure on is to train on as well")
    assert findings["parts"].advice == "keep a picture in one part"
