"""Folders of images: layouts, equal splits, sizes, and errors that name the file."""

import os
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from fractionate.data import Labelled, Normalization, SmallImages, folder
from fractionate.data import images as reader
from fractionate.data.images import read_image, read_images
from tests.data import pillow

PARTS = ("train", "train-without-validation", "validation", "test")


def write(where: Path, count: int = 10, size: tuple[int, int] = (8, 8), tone: int = 0) -> None:
    """Pictures of one tone each, tone + i, so that an image tells which file it was."""
    where.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", size, (tone + i,) * 3).save(where / f"{i:03}.png")


def classes_at(root: Path, count: int = 10, tone: int = 0) -> None:
    for i, name in enumerate(("cat", "dog", "emu")):
        write(root / name, count, tone=tone + 50 * i)


def tones(images: Labelled) -> set[int]:
    return set(images.images[:, 0, 0, 0].tolist())


def test_classes_alone_are_split_and_every_image_is_in_one_part(tmp_path: Path) -> None:
    classes_at(tmp_path, count=30)
    parts = {part: folder(tmp_path, part) for part in PARTS}
    assert torch.bincount(parts["test"].target).tolist() == [6] * 3
    assert torch.bincount(parts["validation"].target).tolist() == [2] * 3
    assert parts["train"].classes == ("cat", "dog", "emu")
    assert tones(parts["train"]) | tones(parts["test"]) == {c + i for c in (0, 50, 100) for i in range(30)}
    assert not tones(parts["train"]) & tones(parts["test"])
    assert tones(parts["validation"]) | tones(parts["train-without-validation"]) == tones(parts["train"])
    assert not tones(parts["validation"]) & tones(parts["train-without-validation"])
    for images in parts.values():
        assert torch.equal(images.images[:, 0, 0, 0] // 50, images.target)


def test_a_split_is_the_same_wherever_the_folder_lies(tmp_path: Path) -> None:
    for place in ("here", "there"):
        classes_at(tmp_path / place)
    assert tones(folder(tmp_path / "here", "test")) == tones(folder(tmp_path / "there", "test"))


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test"])
def test_a_folder_beside_train_is_the_test_part_whatever_its_name(name: str, tmp_path: Path) -> None:
    classes_at(tmp_path / "train", 20)
    classes_at(tmp_path / name, 3, tone=30)
    assert tones(folder(tmp_path, "test")) == {30, 31, 32, 80, 81, 82, 130, 131, 132}
    assert len(folder(tmp_path, "train")) == 60
    assert len(folder(tmp_path, "validation")) == 6
    assert len(folder(tmp_path, "train-without-validation")) == 54


def test_with_both_folders_each_is_its_own_part(tmp_path: Path) -> None:
    for name, tone in (("train", 0), ("val", 20), ("test", 30)):
        classes_at(tmp_path / name, 4, tone)
    assert [min(tones(folder(tmp_path, part))) for part in PARTS] == [0, 0, 20, 30]
    assert len(folder(tmp_path, "train-without-validation")) == len(folder(tmp_path, "train"))


def test_pictures_may_lie_deeper_and_other_files_do_not_matter(tmp_path: Path) -> None:
    classes_at(tmp_path)
    write(tmp_path / "cat" / "more", 5, tone=200)
    (tmp_path / "cat" / "notes.txt").write_text("a cat")
    (tmp_path / "cat" / ".hidden.png").write_text("no picture")
    write(tmp_path / ".cache", 3)
    (tmp_path / "readme.md").write_text("three classes")
    every = tones(folder(tmp_path)) | tones(folder(tmp_path, "test"))
    assert every >= set(range(200, 205))
    assert len(every) == 35


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1", "CMYK"])
def test_every_mode_becomes_three_channels(mode: str, tmp_path: Path) -> None:
    suffix = "tif" if mode == "CMYK" else "png"
    Image.effect_noise((8, 8), 90).convert("RGB").convert(mode).save(tmp_path / f"a.{suffix}")
    expected = pillow.pixels(Image.open(tmp_path / f"a.{suffix}").convert("RGB"))
    assert torch.equal(read_image(tmp_path / f"a.{suffix}", 8), expected)


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (33, 20), (16, 16), (9, 50), (8, 7)])
def test_the_shorter_side_is_resized_and_the_centre_cut_out(shape: tuple[int, int], tmp_path: Path) -> None:
    Image.effect_noise(shape, 90).convert("RGB").save(tmp_path / "a.png")
    seen = read_image(tmp_path / "a.png", 16)
    picture = Image.open(tmp_path / "a.png")
    width, height = shape
    scaled = (16, 16 * height // width) if width <= height else (16 * width // height, 16)
    whole = pillow.pixels(picture.resize(scaled, Image.Resampling.BILINEAR))
    top, left = round((scaled[1] - 16) / 2), round((scaled[0] - 16) / 2)
    assert torch.equal(seen, whole[:, top : top + 16, left : left + 16])


def test_it_is_what_torchvision_does(tmp_path: Path) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    theirs = transforms.Compose([transforms.Resize(16), transforms.CenterCrop(16), transforms.PILToTensor()])
    for i, shape in enumerate([(40, 30), (37, 53), (16, 21), (100, 17)]):
        Image.effect_noise(shape, 90).convert("RGB").save(tmp_path / f"{i}.png")
        assert torch.equal(read_image(tmp_path / f"{i}.png", 16), theirs(Image.open(tmp_path / f"{i}.png")))


def test_a_picture_stands_as_its_camera_was_held(tmp_path: Path) -> None:
    picture = Image.effect_noise((8, 8), 90).convert("RGB")
    exif = picture.getexif()
    exif[0x0112] = 6  # turn clockwise to see it
    picture.save(tmp_path / "a.png", exif=exif)
    assert torch.equal(read_image(tmp_path / "a.png", 8), pillow.pixels(picture.rotate(-90)))


def test_without_a_size_all_take_that_of_the_first_training_image(tmp_path: Path) -> None:
    classes_at(tmp_path / "train")
    Image.new("RGB", (12, 14)).save(tmp_path / "train" / "cat" / "000.png")
    classes_at(tmp_path / "test")
    assert folder(tmp_path, "train").images.shape[2:] == folder(tmp_path, "test").images.shape[2:] == (12, 12)
    assert folder(tmp_path, "test", size=5).images.shape[2:] == (5, 5)


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    classes_at(tmp_path)
    said: list[tuple[int, int]] = []
    folder(tmp_path, "train", progress=lambda done, total: said.append((done, total)))
    assert said == [(i + 1, 24) for i in range(24)]


def broken(path: Path) -> None:
    Image.effect_noise((64, 64), 90).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:300])


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    classes_at(tmp_path / "train")
    classes_at(tmp_path / "test")
    broken(tmp_path / "train" / "dog" / "005.png")
    with pytest.raises(ValueError, match=r"dog.005\.png cannot be read: .*remove the file, or skip such files"):
        folder(tmp_path)


def test_unreadable_files_can_be_skipped_and_are_counted(tmp_path: Path) -> None:
    classes_at(tmp_path / "train")
    classes_at(tmp_path / "test")
    broken(tmp_path / "train" / "cat" / "000.png")
    (tmp_path / "train" / "dog" / "005.png").write_bytes(b"no picture")
    Image.new("I;16", (8, 8)).save(tmp_path / "train" / "emu" / "001.png")
    with pytest.warns(UserWarning, match=r"skipped 3 of 30 images that cannot be read: .*cat.000\.png"):
        images = folder(tmp_path, skip_broken=True)
    assert tones(images) == {c + i for c in (0, 50, 100) for i in range(10)} - {0, 55, 101}
    assert torch.equal(images.images[:, 0, 0, 0] // 50, images.target)


def test_a_class_of_which_nothing_can_be_read_is_an_error(tmp_path: Path) -> None:
    classes_at(tmp_path, count=5)
    for file in (tmp_path / "dog").iterdir():
        file.write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="skipped 4 of 12"), pytest.raises(ValueError, match="no image of class 'dog'"):
        folder(tmp_path, skip_broken=True)


def test_more_than_fits_into_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "memory", lambda: 2**30)
    with pytest.raises(ValueError, match=r"20000 images of 224 x 224 pixels need 5.6 GiB .* has 1.0 GiB.*data\.size"):
        read_images([tmp_path / "never read"] * 20_000, 224)


def test_the_memory_of_this_machine_is_known_where_the_system_tells() -> None:
    assert reader.memory() is None or 2**28 < reader.memory() < 2**50


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "there is no folder"),
        (lambda root: root.mkdir(), "holds no folder: at least two classes are needed"),
        (lambda root: write(root / "cat"), "holds only the class 'cat': at least two classes"),
        (lambda root: (classes_at(root), (root / "ape").mkdir()), r"ape holds no image; images end with \.jpg"),
        (lambda root: classes_at(root / "test"), r"has test/ but no train/"),
        (lambda root: (classes_at(root / "train"), write(root / "test" / "cat")), r"test.dog holds no image"),
        (
            lambda root: [classes_at(root / "train"), *(write(root / "val" / c) for c in "abc")],
            "'a', which is no class",
        ),
        (lambda root: classes_at(root, count=1), "the test part of .* holds no image of class 'cat'"),
    ],
)
def test_what_is_no_folder_of_classes_is_refused(make: object, message: str, tmp_path: Path) -> None:
    make(tmp_path / "images")
    with pytest.raises(ValueError, match=message):
        folder(tmp_path / "images", "test")


def test_links_must_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    classes_at(tmp_path / "images")
    write(tmp_path / "elsewhere", 1)
    os.symlink(tmp_path / "images" / "cat" / "000.png", tmp_path / "images" / "cat" / "again.png")
    assert len(folder(tmp_path / "images")) == 25
    os.symlink(tmp_path / "elsewhere" / "000.png", tmp_path / "images" / "cat" / "out.png")
    with pytest.raises(ValueError, match=r"out\.png is a link that leads out"):
        folder(tmp_path / "images")


def test_a_linked_folder_is_refused(tmp_path: Path) -> None:
    classes_at(tmp_path / "images")
    os.symlink(tmp_path / "images" / "cat", tmp_path / "images" / "fox")
    with pytest.raises(ValueError, match=r"fox is a link to a folder"):
        folder(tmp_path / "images")


@pytest.mark.parametrize(
    ("options", "message"), [({"part": "tset"}, "did you mean 'test'"), ({"size": 0}, "at least 1")]
)
def test_wrong_arguments_are_refused(options: dict[str, object], message: str, tmp_path: Path, unchecked: None) -> None:
    with pytest.raises(ValueError, match=message):
        folder(tmp_path, **options)


def test_a_few_real_photographs_become_batches(shared_data: Path, tmp_path: Path) -> None:
    archive = shared_data / "tiny-imagenet-100x150.zip"
    if not archive.is_file():
        pytest.skip("needs tiny-imagenet-100x150.zip in FRACTIONATE_DATA")
    with zipfile.ZipFile(archive) as z:
        names = [n for n in z.namelist() if n.endswith(".JPEG")]
        for kind in ("train", "val"):
            for label in ("n01443537", "n01641577"):
                z.extractall(tmp_path, [n for n in names if n.startswith(f"{kind}/{label}/")][:10])
    images = folder(tmp_path)
    assert images.images.shape == (20, 3, 64, 64)
    assert images.classes == ("n01443537", "n01641577")
    mean = images.images.double().mean((0, 2, 3)) / 255
    assert 0.2 < float(mean.min()) < float(mean.max()) < 0.8
    data = SmallImages(images.images, images.target, 2, Normalization.of(images.images), 8, shift=8, flip=True)
    assert sum(len(batch) for batch in data.batches(1)) == 20
    assert len(folder(tmp_path, "test", size=32)) == 20
