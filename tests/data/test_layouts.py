"""Official layouts of public sets: every picture has the label that its pixels tell, in the published order."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fractionate.config.data import Data
from fractionate.data import Labelled, layout_of, photo_set, stl10, stl10_unlabelled
from fractionate.data import images as reader
from fractionate.train.sources import SETS, sources
from tests.data import photo_trees as trees

PARTS = ("train", "train-without-validation", "validation", "test")
PLACES: dict[str, tuple[str, Callable[[Path], None], str]] = {  # set: folder, generator, torchvision's class
    "imagenet": ("imagenet", trees.imagenet_tree, ""),
    "tiny-imagenet": ("tiny-imagenet-200", trees.tiny_tree, ""),
    "cub200": ("CUB_200_2011", trees.cub_tree, ""),
    "dtd": ("dtd/dtd", trees.dtd_tree, "DTD"),
    "food101": ("food-101", trees.food_tree, "Food101"),
}


def counts(images: Labelled) -> list[int]:
    return torch.bincount(images.target, minlength=images.num_classes).tolist()


@pytest.mark.parametrize("name", PLACES)
def test_every_picture_has_the_label_that_its_pixels_tell_in_every_part(name: str, tmp_path: Path) -> None:
    place, tree, _ = PLACES[name]
    tree(tmp_path / place)
    parts = {part: photo_set(name, tmp_path, part, 8) for part in PARTS}
    for part, images in parts.items():
        assert trees.labels_seen(images.images) == images.target.tolist(), part
        assert images.classes == tuple(sorted(images.classes))
        assert min(counts(images)) > 0
    files = layout_of(name, tmp_path / place).parts  # the folder itself will do
    assert [len(files[part].paths) for part in PARTS] == [len(images) for images in parts.values()]
    whole = set(files["train"].paths) | (set(files["validation"].paths) if name == "dtd" else set())
    assert set(files["validation"].paths) | set(files["train-without-validation"].paths) == whole
    assert not set(files["validation"].paths) & set(files["train-without-validation"].paths)
    assert not set(files["test"].paths) & whole


@pytest.mark.parametrize("name", [name for name, (_, _, theirs) in PLACES.items() if theirs])
def test_parts_and_classes_are_those_of_torchvision(name: str, tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    place, tree, theirs = PLACES[name]
    tree(tmp_path / place)
    found = layout_of(name, tmp_path)
    for part, split in (("train", "train"), ("test", "test"), ("validation", "val")):
        if name == "food101" and split == "val":
            continue
        twin = getattr(datasets, theirs)(tmp_path, split=split)
        assert tuple(twin.classes) == found.classes
        ours = found.parts[part]
        assert sorted(zip(ours.paths, ours.labels, strict=True)) == sorted(
            zip(map(Path, twin._image_files), twin._labels, strict=True)
        )


def test_the_numbers_of_the_devkit_are_not_those_of_the_classes(tmp_path: Path) -> None:
    """Read as class numbers they would be reversed, which no shape and no count would tell."""
    trees.imagenet_tree(tmp_path)
    test = photo_set("imagenet", tmp_path, "test", 8)
    numbers = (tmp_path / "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt").read_text().split()
    assert test.target.tolist() == [3 - int(n) for n in numbers] == [1, 2, 0, 1, 2, 0]
    assert trees.labels_seen(test.images) == test.target.tolist()


def test_a_foldered_and_a_flat_val_hold_the_same(tmp_path: Path) -> None:
    trees.imagenet_tree(tmp_path / "flat")
    trees.imagenet_tree(tmp_path / "sorted", val_by_class=True)
    flat, foldered = (layout_of("imagenet", tmp_path / place).parts["test"] for place in ("flat", "sorted"))
    assert {p.name: y for p, y in zip(flat.paths, flat.labels, strict=True)} == {
        p.name: y for p, y in zip(foldered.paths, foldered.labels, strict=True)
    }


@pytest.mark.parametrize("given", [".", "ILSVRC/Data/CLS-LOC"])
def test_kaggle_tree_is_read_by_its_solution_file(given: str, tmp_path: Path) -> None:
    trees.imagenet_tree(tmp_path / "ILSVRC/Data/CLS-LOC")
    shutil.rmtree(tmp_path / "ILSVRC/Data/CLS-LOC/ILSVRC2012_devkit_t12")
    trees.solution(tmp_path / "LOC_val_solution.csv", [1, 2, 0, 1, 2, 0])
    root = tmp_path / given
    if given != ".":
        shutil.move(tmp_path / "LOC_val_solution.csv", tmp_path / "ILSVRC/LOC_val_solution.csv")
    test = photo_set("imagenet", root, "test", 8)
    assert trees.labels_seen(test.images) == test.target.tolist() == [1, 2, 0, 1, 2, 0]


def test_images_of_classes_that_are_not_trained_on_are_left_out_and_counted(tmp_path: Path) -> None:
    trees.imagenet_tree(tmp_path)
    shutil.rmtree(tmp_path / "train" / "n01443537")
    with pytest.warns(UserWarning, match=r"2 of 6 images are left out, of 1 classes .*n01443537"):
        found = layout_of("imagenet", tmp_path)
    assert found.classes == ("n01440764", "n01484850")
    assert found.parts["test"].labels == [1, 0, 1, 0]


@pytest.mark.parametrize("form", ["annotations", "images", "plain"])
def test_all_three_forms_of_tiny_imagenets_val_are_read(form: str, tmp_path: Path) -> None:
    trees.tiny_tree(tmp_path, form)
    if form == "plain":
        (tmp_path / "val" / "images").mkdir()  # what a script that moves the files leaves
    test = photo_set("tiny-imagenet", tmp_path, "test")
    assert test.images.shape == (6, 3, 64, 64)
    assert trees.labels_seen(test.images) == test.target.tolist()
    assert counts(test) == [2, 2, 2]
    assert test.classes == tuple(sorted(trees.WNIDS)) != trees.WNIDS  # not the order of wnids.txt


def test_birds_are_divided_by_the_official_list(tmp_path: Path) -> None:
    trees.cub_tree(tmp_path)
    found = layout_of("cub200", tmp_path)
    assert {path.name for path in found.parts["test"].paths} == {"bird_10.jpg", "bird_11.jpg"}
    assert found.classes[0] == "001.Black_footed_Albatross"
    assert [len(found.parts[part].paths) for part in PARTS] == [30, 27, 3, 6]


def test_stl10_is_stored_column_by_column(tmp_path: Path) -> None:
    trees.stl_files(tmp_path / "stl10_binary", train=90)
    for part in ("train", "test"):
        images = stl10(tmp_path, part)
        for i in range(len(images)):
            assert images.images[i, :, i].min() == 255
            assert images.images[i].sum() == 3 * 96 * 255
        assert images.target.tolist() == [i % 10 for i in range(len(images))]
        assert images.classes == trees.STL_CLASSES
    assert [len(stl10(tmp_path, part)) for part in PARTS] == [90, 80, 10, 20]


def test_stl10_is_what_torchvision_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    trees.stl_files(tmp_path / "stl10_binary")
    monkeypatch.setattr(datasets.STL10, "_check_integrity", lambda self: True)
    for part in ("train", "test"):
        twin, images = datasets.STL10(tmp_path, split=part), stl10(tmp_path, part)
        assert np.array_equal(twin.data, images.images.numpy())
        assert twin.labels.tolist() == images.target.tolist()
        assert tuple(twin.classes) == images.classes
    twin = datasets.STL10(tmp_path, split="unlabeled")
    assert np.array_equal(twin.data, stl10_unlabelled(tmp_path).numpy())


def test_unlabelled_images_are_not_touched_unless_asked_for(tmp_path: Path) -> None:
    trees.stl_files(tmp_path)
    (tmp_path / "unlabeled_X.bin").unlink()
    assert len(stl10(tmp_path, "train")) == 40
    with pytest.raises(ValueError, match=r"no STL-10: expected unlabeled_X\.bin"):
        stl10_unlabelled(tmp_path)


def test_stl10_at_another_size_is_what_pillow_makes_of_it(tmp_path: Path) -> None:
    from PIL import Image

    trees.stl_files(tmp_path)
    large, small = stl10(tmp_path, "test").images, stl10(tmp_path, "test", 32).images
    for i in (0, 7):
        twin = Image.fromarray(large[i].permute(1, 2, 0).numpy()).resize((32, 32), Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(twin, dtype=int) - small[i].permute(1, 2, 0).numpy()).max() <= 1


def broken_stl(root: Path, file: str, data: bytes) -> None:
    trees.stl_files(root)
    (root / file).write_bytes(data)


@pytest.mark.parametrize(
    ("file", "data", "said"),
    [
        ("train_X.bin", b"x" * 1000, "1000 bytes, expected a multiple of 27648"),
        ("train_X.bin", b"x" * 27648, "train_X.bin holds 1 images, train_y.bin 40 labels"),
        ("train_y.bin", bytes(40), "labels 0..0, expected 1..10"),
        ("train_y.bin", b"", "labels 0..0, expected 1..10"),
    ],
)
def test_a_damaged_stl10_is_refused(file: str, data: bytes, said: str, tmp_path: Path) -> None:
    broken_stl(tmp_path, file, data)
    with pytest.raises(ValueError, match=said.replace(".", r"\.")):
        stl10(tmp_path)


@pytest.mark.parametrize("name", [*PLACES, "stl10"])
def test_a_wrong_folder_is_told_what_was_expected_and_what_is_there(name: str, tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    data = Data(name, root=str(tmp_path))
    with pytest.raises(ValueError, match=r"expected .* in it or in .*, found holiday") as error:
        SETS[name](data)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="no such folder"):
        SETS[name](Data(name, root=str(tmp_path / "nowhere")))


def test_a_flat_val_without_its_truth_says_what_to_put_there(tmp_path: Path) -> None:
    trees.imagenet_tree(tmp_path / "in" / "here")
    shutil.rmtree(tmp_path / "in" / "here" / "ILSVRC2012_devkit_t12")
    with pytest.raises(ValueError, match=r"val is flat.*devkit.*LOC_val_solution\.csv"):
        layout_of("imagenet", tmp_path / "in" / "here")


def test_archives_that_were_not_unpacked_are_named(tmp_path: Path) -> None:
    trees.imagenet_tree(tmp_path)
    shutil.rmtree(tmp_path / "train")
    trees.write(tmp_path / "train" / "n01440764.tar", ["x"])
    with pytest.raises(ValueError, match=r"1 archives such as n01440764\.tar"):
        layout_of("imagenet", tmp_path)


def test_folders_that_are_no_wordnet_numbers_are_no_imagenet(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in ("cat", "dog"):
            trees.picture(tmp_path / part / name / "1.jpg", 0)
    for name in ("imagenet", "tiny-imagenet"):
        with pytest.raises(ValueError, match=r"found 'cat'; for other images take data\.name=folder"):
            layout_of(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "file", "line", "said"),
    [
        ("cub200", "image_class_labels.txt", "1 9", "'9', which is none of its kind"),
        ("cub200", "train_test_split.txt", "1 2", "'2', which is none of its kind"),
        ("cub200", "images.txt", "99 nowhere.jpg", "do not number the same images"),
        ("cub200", "classes.txt", "7 birds", "without gaps"),
        ("dtd", "labels/test1.txt", "paisley/paisley_0001.jpg", "names the class 'paisley'"),
        ("dtd", "labels/test1.txt", "banded/banded_0099.jpg", "1 of 7 pictures that test1.txt lists are missing"),
        ("food101", "meta/test.txt", "beignets/../../x", "pictures that test.txt lists are missing"),
        ("tiny-imagenet", "val/val_annotations.txt", "val_0.JPEG dog", "expected FILE<TAB>WNID"),
        ("imagenet", "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", "4", "names '4'"),
        ("imagenet", "val/ILSVRC2012_val_00000099.JPEG", "", "image 99, and the truth beside it"),
    ],
)
def test_a_list_that_does_not_fit_is_named(name: str, file: str, line: str, said: str, tmp_path: Path) -> None:
    PLACES[name][1](tmp_path)
    with open(tmp_path / file, "a", encoding="utf-8") as opened:
        opened.write(f"{line}\n")
    with pytest.raises(ValueError, match=said.replace(".", r"\.")):
        layout_of(name, tmp_path)


@pytest.mark.parametrize("name", [*PLACES, "stl10"])
def test_the_resident_source_trains_on_every_set(name: str, tmp_path: Path) -> None:
    tree = trees.stl_files if name == "stl10" else PLACES[name][1]
    tree(tmp_path)
    train, test = sources(
        Data(name, root=str(tmp_path), size=16, batch_size=4, shift=1, flip=True), 0, torch.device("cpu")
    )
    batch = next(iter(train.batches(1)))
    assert batch.images.shape == (4, 3, 16, 16)
    assert len(train.classes) == train.num_classes == test.num_classes
    assert abs(float(batch.images.mean())) < 3


def test_photos_that_do_not_fit_into_memory_are_refused_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.imagenet_tree(tmp_path)
    monkeypatch.setattr(reader, "memory", lambda: 1_000_000)
    with pytest.raises(ValueError, match=r"224 x 224 pixels need .*data\.workers=N"):
        SETS["imagenet"](Data("imagenet", root=str(tmp_path)))


def test_options_of_photos_are_refused_elsewhere() -> None:
    Data("stl10", size=32)
    Data("imagenet", size=64, cache=True, skip_broken=True)
    for bad in ({"name": "stl10", "cache": True}, {"name": "mnist", "size": 64}):
        with pytest.raises(ValueError, match=r"belongs to data\.name=folder"):
            Data(**bad)


def test_a_subset_in_folders_is_read_as_the_whole_is(tmp_path: Path) -> None:
    """A few classes as ``train/WNID/*`` and ``val/WNID/*``, without any list."""
    for label, wnid in enumerate(sorted(trees.WNIDS)[:2]):
        for part, count in (("train", 4), ("val", 2)):
            for i in range(count):
                trees.picture(tmp_path / part / wnid / f"{i}.JPEG", label, size=(64, 64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train, test = (photo_set("tiny-imagenet", tmp_path, part) for part in ("train", "test"))
    assert trees.labels_seen(train.images) == train.target.tolist()
    assert trees.labels_seen(test.images) == test.target.tolist()
