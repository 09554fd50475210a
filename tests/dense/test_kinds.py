"""A folder is taken for the data set that it is, not for the one whose name or folders it happens to have."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fractionate.cli import main
from fractionate.config import Data
from fractionate.data.dense.classes import CAMVID
from fractionate.data.dense.kinds import described, recognised
from fractionate.data.dense.layouts import listed
from fractionate.data.dense.pairs import ready
from fractionate.train.scenes import described as told
from tests.dense import trees


def like_ade(root: Path, labels: range = range(3)) -> Path:
    """One's own pairs in folders named as those of ADE20K."""
    for part, count in (("training", 4), ("validation", 2)):
        for i in range(count):
            image, mask = trees.pair(i, labels=labels, void=None)
            trees.save(root / "images" / part / f"{i}.png", image)
            trees.save(root / "annotations" / part / f"{i}.png", mask)
    return root


@pytest.mark.parametrize("named", [True, False])
def test_own_pairs_in_the_folders_of_ade20k_keep_their_classes(named: bool, tmp_path: Path) -> None:
    root = like_ade(tmp_path / "mine")
    if named:
        (root / "classes.txt").write_text("ground\ntree\nroof\n")
    assert recognised(root) == "masks"
    found = listed("masks", root, "train")
    assert found.classes == (("ground", "tree", "roof") if named else ("0", "1", "2"))
    assert {int(v) for i in range(len(found)) for v in found[i][1].unique()} == {0, 1, 2}


@pytest.mark.parametrize("mark", ["name", "list", "labels", "names of all classes"])
def test_ade20k_is_known_by_its_name_its_list_or_its_many_labels(mark: str, tmp_path: Path) -> None:
    root = like_ade(tmp_path / ("ADEChallengeData2016" if mark == "name" else "scenes"))
    if mark == "list":
        (root / "objectInfo150.txt").write_text("Idx\tName\n1\twall\n")
    if mark == "labels":
        trees.save(root / "annotations" / "training" / "0.png", np.full((20, 28), 150, np.uint8))
    if mark == "names of all classes":
        (root / "classes.txt").write_text("\n".join(f"c{i}" for i in range(150)))
    assert recognised(root) == "ade20k"


def test_own_classes_count_more_than_camvid_in_the_name(tmp_path: Path) -> None:
    root = trees.camvid(tmp_path / "my_camvid")
    assert recognised(root) == "camvid"
    (root / "classes.txt").write_text("\n".join(["SignSymbol" if n == "sign_symbol" else n.title() for n in CAMVID]))
    assert recognised(root) == "camvid"
    (root / "classes.txt").write_text("\n".join(f"k{i}" for i in range(12)))
    assert recognised(root) == "masks"
    assert listed("masks", root, "train").num_classes == 12


@pytest.mark.parametrize("painted", [False, True])
def test_own_classes_beside_the_folders_of_voc_are_taken(painted: bool, tmp_path: Path) -> None:
    root = trees.voc(tmp_path / "voc")
    assert listed("voc", root, "train").num_classes == 21
    colours = np.array([[128, 0, 0], [0, 128, 0], [0, 0, 128]], np.uint8)
    for file in root.rglob("SegmentationClass/*.png"):
        _, mask = trees.pair(len(file.stem), labels=range(3), void=None)
        trees.save(file, colours[mask] if painted else mask)
    if painted:
        (root / "label_colors.txt").write_text("".join(f"{r} {g} {b} k{i}\n" for i, (r, g, b) in enumerate(colours)))
    else:
        (root / "classes.txt").write_text("k0\nk1\nk2\n")
    found = listed("voc", root, "train")
    assert found.classes == ("k0", "k1", "k2")
    assert set(ready(found, "these")[0][1].unique().tolist()) == {0, 1, 2}


def test_what_a_folder_is_taken_for_is_said_with_what_lies_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = trees.camvid(tmp_path / "camvid")
    said = "camvid: taken as CamVid: 11 classes (sky, building, pole, road, ...), 6 images with masks to train on, "
    assert described("camvid", root, "test")[0].endswith(
        f"{said}3 to measure on; data.name=masks takes it as a set of your own"
    )
    (first,) = told(Data("camvid", str(root), evaluate_on="validation"))
    assert "6 images with masks to train on, 2 to measure on" in first
    assert "write data.name=ade20k" in described("masks", like_ade(tmp_path / "mine"), "test")[0]
    nets = ["--teacher", "tests.dense.nets:tiny", "--student", "tests.dense.nets:plain"]
    small = ["data.crop=[16, 16]", "data.batch_size=3", "data.multiple=4", "threads=1", "device=cpu", "--epochs", "1"]
    words = ["train", "segmentation", "--data", root, *nets, "--method", "ce", *small, "--out", tmp_path / "runs"]
    assert main([str(w) for w in words]) == 0
    assert said in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize(("part", "count"), [("test", 2), ("validation", 4)])
def test_a_part_for_which_there_are_too_few_pairs_is_told_as_that(part: str, count: int, tmp_path: Path) -> None:
    for i in range(count):
        image, mask = trees.pair(i, labels=range(3), void=None)
        trees.save(tmp_path / "few" / "images" / f"{i}.png", image)
        trees.save(tmp_path / "few" / "masks" / f"{i}.png", mask)
    with pytest.raises(ValueError, match=f"too few to cut a {part} part out of them; add"):
        listed("masks", tmp_path / "few", part)  # type: ignore[arg-type]


def test_names_in_another_encoding_are_read_or_the_file_and_the_line_are_named(tmp_path: Path) -> None:
    root = trees.camvid(tmp_path / "set", void=None)
    (root / "classes.txt").write_bytes("\n".join(f"stra\u00dfe {i}" for i in range(11)).encode("utf-16"))
    assert listed("masks", root, "train").classes[0] == "stra\u00dfe 0"
    (root / "classes.txt").write_bytes("road\nstra\u00dfe\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"set/classes\.txt, line 2: it is not written in UTF-8; save it as UTF-8"):
        listed("masks", root, "train")
    shutil.copy(root / "classes.txt", root / "classes.json")
    with pytest.raises(ValueError, match=r"classes\.json, line 2"):
        listed("masks", root, "train")
    (root / "classes.json").write_text(json.dumps([f"k{i}" for i in range(11)]))
    assert listed("masks", root, "train").classes[0] == "k0"
