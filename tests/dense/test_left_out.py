"""What a reader of masks would leave out, choose or mistake without a word: said, or refused with what to do."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fractionate.data.dense import Pairs, listed, ready
from fractionate.data.dense.kinds import recognised
from fractionate.data.dense.pairs import identity
from tests.dense import trees

COLOURS = np.array([(70, 130, 180), (128, 64, 128), (0, 0, 142)], np.uint8)


def parts(root: Path, *names: str) -> Path:
    """``images/PART`` and ``masks/PART``."""
    for part in names:
        made = trees.masks(root / "made", count=4)
        for kind in ("images", "masks"):
            (root / kind).mkdir(exist_ok=True)
            (made / kind).rename(root / kind / part)
        made.rmdir()
    return root


def painted(file: Path, areas: tuple[int, int, int]) -> None:
    """A mask whose palette is its own: the largest of the areas has the first number, or as the program likes."""
    rows = np.repeat(np.arange(3), areas)
    Image.fromarray(COLOURS[np.tile(rows[:, None], (1, 28))]).quantize(3).save(file)


def quiet(root: Path) -> Pairs:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return listed("masks", root, "train")


@pytest.mark.parametrize("named", [False, True])
def test_palettes_that_number_colours_anew_in_every_file_are_refused(named: bool, tmp_path: Path) -> None:
    root = trees.masks(tmp_path, count=8)
    if named:
        (root / "classes.txt").write_text("sky\nroad\ncar\n")
    for i in range(8):
        painted(root / "masks" / f"{i}.png", (10, 6, 4) if i % 2 else (0, 12, 8))
    said = r"palettes of their own, in which \d is the colour .*label_colors\.txt.*masks of mode L"
    with pytest.raises(ValueError, match=said) as caught:
        listed("masks", root, "train")
    assert "\n" not in str(caught.value)
    (root / "label_colors.txt").write_text("70 130 180 sky\n128 64 128 road\n0 0 142 car\n")
    assert set(quiet(root)[0][1].unique().tolist()) <= {0, 1, 2}


def test_palettes_of_a_layout_without_names_are_looked_at_before_training(tmp_path: Path) -> None:
    root = trees.masks(tmp_path, count=2)
    files = [(root / "images" / f"{i}.png", root / "masks" / f"{i}.png") for i in range(2)]
    for i, areas in enumerate([(10, 6, 4), (0, 12, 8)]):
        painted(files[i][1], areas)
    with pytest.raises(ValueError, match="palettes of their own"):
        ready(Pairs(tuple(files), ("a", "b", "c"), identity(3)), "the images")


def test_palettes_that_differ_in_numbers_without_a_pixel_are_no_contradiction(tmp_path: Path) -> None:
    root = trees.masks(tmp_path)
    for i, file in enumerate(sorted((root / "masks").iterdir())):
        with Image.open(file) as image:
            mask = Image.fromarray(np.where(np.asarray(image) == 255, 0, np.asarray(image)).astype(np.uint8))
        mask.putpalette([*COLOURS.flatten().tolist(), *[i] * 30])
        mask.save(file)
    assert quiet(root).classes == ("0", "1", "2")


def test_images_that_cannot_be_read_here_are_counted(tmp_path: Path) -> None:
    root = trees.masks(tmp_path)
    for i in range(10, 13):
        shutil.copy(root / "masks" / "0.png", root / "masks" / f"{i}.png")
        (root / "images" / f"{i}.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (root / "images" / "notes.txt").write_text("no picture")
    with pytest.warns(UserWarning, match=r"3 files .* left out: 3 \.heic \(pip install pillow-heif\)"):
        assert len(listed("masks", root, "train")) == 8


def test_images_in_folders_inside_are_counted_and_one_is_named(tmp_path: Path) -> None:
    root = trees.masks(tmp_path)
    trees.save(root / "images" / "more" / "12.png", trees.pair(12)[0])
    with pytest.warns(UserWarning, match=r"1 image lies in more and is left out, for example more/12\.png; to use"):
        listed("masks", root, "train")


@pytest.mark.parametrize("above", [False, True])
def test_folders_of_unknown_parts_are_counted_and_named(above: bool, tmp_path: Path) -> None:
    if above:
        for part in ("train", "val", "train_extra"):
            trees.masks(tmp_path / part, count=4)
    else:
        parts(tmp_path, "train", "val", "train_extra")
    with pytest.warns(UserWarning, match=r"4 images lie in train_extra and are left out.*parts train, val and test"):
        assert len(listed("masks", tmp_path, "train")) == 4


def test_images_beside_the_parts_are_counted(tmp_path: Path) -> None:
    root = parts(tmp_path, "train", "val")
    trees.save(root / "images" / "12.png", trees.pair(12)[0])
    with pytest.warns(UserWarning, match="1 image lies beside the folders of the parts and is left out"):
        listed("masks", root, "train")


def test_cityscapes_says_nothing_of_its_documented_images_without_masks(tmp_path: Path) -> None:
    root = trees.cityscapes(tmp_path)
    trees.save(root / "leftImg8bit" / "train_extra" / "ulm" / "ulm_0_leftImg8bit.png", trees.pair(1, 32, 64)[0])
    trees.save(root / "leftImg8bit" / "train" / "@eaDir" / "x_leftImg8bit.png", trees.pair(1, 32, 64)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(listed("cityscapes", root, "train")) == 2


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("images", r"images/3\.jpg and images/3\.png are two images for one mask; keep one"),
        ("masks", r"masks/3\.png and masks/3\.tif are two masks for one image; keep one"),
    ],
)
def test_two_files_for_one_are_refused(kind: str, said: str, tmp_path: Path) -> None:
    root = trees.masks(tmp_path)
    with Image.open(root / kind / "3.png") as image:
        image.save(root / kind / f"3.{'jpg' if kind == 'images' else 'tif'}")
    with pytest.raises(ValueError, match=said):
        listed("masks", root, "train")


@pytest.mark.parametrize("names", [("train", "val", "valid"), ("train", "Train")])
def test_two_folders_for_one_part_are_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    root = parts(tmp_path, *names)
    with pytest.raises(ValueError, match=r"holds (val/ and valid|Train/ and train)/, which stand for the same"):
        listed("masks", root, "train")


def test_an_empty_folder_of_another_name_is_no_second_one(tmp_path: Path) -> None:
    root = trees.masks(tmp_path)
    (root / "masks").rename(root / "labels")
    (root / "masks").mkdir()
    assert len(quiet(root)) == 8


@pytest.mark.parametrize("file", ["classes.txt", "classes.json", "label_colors.txt"])
def test_one_name_for_two_classes_is_refused(file: str, tmp_path: Path) -> None:
    root = trees.masks(tmp_path)
    rows = {"classes.json": '["sky", "road", "road"]', "label_colors.txt": "0 0 0 sky\n1 1 1 road\n2 2 2 road\n"}
    (root / file).write_text(rows.get(file, "sky\nroad\nroad\n"))
    with pytest.raises(ValueError, match=rf"{file} names the class 'road' twice"):
        listed("masks", root, "train")


@pytest.mark.parametrize("between", [",", ", ", ";", "\t", "  "])
@pytest.mark.parametrize("heading", ["", "r,g,b,name\n", "# red green blue name\n"])
def test_a_table_of_colours_may_have_commas_and_a_heading(between: str, heading: str, tmp_path: Path) -> None:
    root = trees.masks(tmp_path)
    rows = [("0", "0", "0", "clear sky"), ("1", "1", "1", "road"), ("2", "2", "2", "car"), ("9", "0", "9", "void")]
    (root / "label_colors.txt").write_text(heading + "\n".join(between.join(row) for row in rows) + "\n\n")
    pairs = quiet(root)
    assert pairs.classes == ("clear sky", "road", "car")
    assert pairs.colours == {(0, 0, 0): 0, (1, 1, 1): 1, (2, 2, 2): 2, (9, 0, 9): 255}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2 2 car", "is no line 'RED GREEN BLUE NAME'"),
        ("car 2 2 2", "is no line"),
        ("2 2 2", "is no line"),
        ("2 2 256 car", "is no line"),
        ("#020202 car", "is no line"),
        ("1 1 1 car", "has the colour of another line"),
    ],
)
def test_a_line_of_colours_that_cannot_be_read_is_refused_with_its_number(line: str, said: str, tmp_path: Path) -> None:
    root = trees.masks(tmp_path)
    (root / "label_colors.txt").write_text(f"0 0 0 sky\n1 1 1 road\n{line}\n")
    with pytest.raises(ValueError, match=rf"label_colors\.txt, line 3: '{line}' {said}.*'128 64 128 road'"):
        listed("masks", root, "train")


def test_notes_and_empty_files_of_names_make_no_class(tmp_path: Path) -> None:
    root = trees.masks(tmp_path)
    (root / "classes.txt").write_text("# classes of the site\nsky\nroad\ncar\n")
    assert quiet(root).classes == ("sky", "road", "car")
    (root / "classes.txt").write_text("\n")
    with pytest.raises(ValueError, match="names no class"):
        listed("masks", root, "train")


def test_masks_without_an_image_are_counted(tmp_path: Path) -> None:
    root = trees.masks(tmp_path, count=4)
    (root / "images" / "3.png").unlink()
    with pytest.warns(UserWarning, match=r"masks: 1 mask has no image of the same name and is left out, for .*3\.png"):
        assert len(listed("masks", root, "train")) == 2  # of three, one is tested on
    (root / "images" / "2.png").unlink()
    with pytest.warns(UserWarning, match=r"2 masks have no image .* are left out"):
        listed("masks", root, "train")


@pytest.mark.parametrize("also", [(), ("__MACOSX/mine/._0.png", ".hidden/0.png")])
def test_a_zip_file_of_one_folder_is_read_as_that_folder(also: tuple[str, ...], tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    trees.masks(outer / "mine", count=4)
    for other in also:
        (outer / other).parent.mkdir(parents=True)
        (outer / other).touch()
    archive = trees.zipped(outer, tmp_path / "mine.zip")
    assert recognised(archive) == "masks"
    inside, beside = quiet(archive), quiet(outer / "mine")
    assert [mask.tolist() for _, mask in inside] == [mask.tolist() for _, mask in beside]
    assert len(inside) == 3


@pytest.mark.parametrize("lines", ["crack\n", "crack\nvoid\n"])
def test_one_class_is_refused_before_training_with_what_to_name(lines: str, tmp_path: Path) -> None:
    root = trees.masks(tmp_path, count=4, classes=1)
    (root / "classes.txt").write_text(lines)
    with pytest.raises(ValueError, match=r"classes\.txt names the class 'crack' alone, and two are the least"):
        listed("masks", root, "train")


def test_a_zip_file_named_after_a_set_is_that_set_whatever_the_folder_in_it_is_called(tmp_path: Path) -> None:
    trees.camvid(tmp_path / "outer" / "data")
    archive = trees.zipped(tmp_path / "outer", tmp_path / "CamVid-small.zip")
    assert recognised(archive) == "camvid"
    assert [len(listed("camvid", archive, part)) for part in ("train", "test")] == [6, 3]
