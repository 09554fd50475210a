"""Which folders are parts and which are classes: recognised, or refused with what to do; what is left out is told."""

from __future__ import annotations

import os
import unicodedata
import warnings
from pathlib import Path

import pytest
from PIL import Image

from fractionate.data import folder
from fractionate.data.folder import layout
from fractionate.data.unlabelled import pictures_below
from fractionate.pictures.heads import told_unread
from fractionate.pictures.names import KINDS, kind_of


def write(*places: Path, count: int = 3, size: tuple[int, int] = (8, 8)) -> None:
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.new("RGB", size, (i, 90, 40)).save(place / f"{i}.png")


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ("train Train TRAINING train_set trainset train-images imagenet", "train"),
        ("Training_Data images_train train2017 entraînement 训练集 学習データ обучение Trainingsdaten eğitim", "train"),
        ("val valid Validation val2017 dev 验证 Validierung validación val_images doğrulama", "validation"),
        ("test Test tests testing test_set testset test-data 测试集 テスト prueba тест Testdaten", "test"),
    ],
)
def test_a_part_is_known_however_people_spell_it(names: str, kind: str) -> None:
    found = {name: kind_of(name) for name in names.split() if name != "imagenet"}
    assert set(found.values()) == {kind}, found
    for name in names.split()[:5]:
        assert kind_of(unicodedata.normalize("NFD", name)) == kind_of(name)


def test_a_word_stands_for_one_part() -> None:
    assert all(kind_of(word) == kind for word, kind in KINDS.items())


@pytest.mark.parametrize(
    "name", ["cat", "trainer", "trains", "contest", "valley", "data", "images", "1", "n01443537", ""]
)
def test_other_names_are_none(name: str) -> None:
    assert kind_of(name) is None


@pytest.mark.parametrize(
    ("train", "test"), [("Train", "TEST"), ("training_set", "val2017"), ("entraînement", "essai"), ("训练集", "测试集")]
)
def test_parts_of_every_spelling_are_no_classes(train: str, test: str, tmp_path: Path) -> None:
    write(tmp_path / train / "cat", tmp_path / train / "dog", count=12)
    write(tmp_path / test / "cat", tmp_path / test / "dog", count=4)
    found = layout(tmp_path)
    assert found.classes == ("cat", "dog")
    assert [len(found.parts[part].paths) for part in ("train", "test")] == [24, 8]


def test_folders_beside_the_parts_without_pictures_do_not_matter(tmp_path: Path) -> None:
    write(*(tmp_path / part / name for part in ("train", "test") for name in ("cat", "dog")))
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "all.json").write_text("{}")
    assert layout(tmp_path).classes == ("cat", "dog")


def test_classes_below_a_part_may_have_the_name_of_a_part(tmp_path: Path) -> None:
    write(*(tmp_path / part / name for part in ("train", "test") for name in ("exam", "quiz", "test")))
    assert layout(tmp_path).classes == ("exam", "quiz", "test")


@pytest.mark.parametrize(
    ("places", "words"),
    [
        (["train/cat", "train/dog", "holdback/cat"], ["'train'", "'holdback'", "name it train, val or test"]),
        (["cat", "dog", "test"], ["'test'", "'cat'", "put them into one folder train"]),
        (["bus", "car", "train"], ["'train'", "'bus'", "put them into one folder train"]),
        (["cat/train", "cat/test", "dog/train", "dog/test"], ["inside a class", "outside, as test/cat"]),
        (["pets/train/cat", "pets/train/dog", "pets/test/cat"], ["only the class 'pets'", "give", "pets instead"]),
        (["a/train/cat", "b/test/dog"], ["inside a class", "(train)"]),
        (["train/train/cat", "train/test/cat"], ["names of parts", "give the folder"]),
        (["train/cat", "train/dog", "Training/cat"], ["Training", "both for the train images"]),
        (["train/cat", "train/dog", "val/cat", "valid/cat"], ["both for the validation images"]),
        (["train/cat", "train/dog", "test"], ["test holds pictures but no folder of a class"]),
        (["train", "test"], ["holds pictures but no folder of a class"]),
        (
            ["first/cat", "first/dog", "second/cat", "second/dog"],
            ["hold the same folders", "name them train, val and test"],
        ),
        (
            ["first/cat", "first/dog", "second/cat"],  # a part that lacks a class
            ["hold the same folders", "name them train, val and test"],
        ),
        ([f"fold{i}/{name}" for i in range(5) for name in ("cat", "dog")], ["hold the same folders"]),
        ([f"{year}/{name}" for year in range(2019, 2024) for name in ("cat", "dog")], ["hold the same folders"]),
        (["train_cropped", "test_cropped"], ["read like parts", "(test, train)", "put them into one folder train"]),
        (["trainA", "trainB", "testA", "testB"], ["read like parts"]),
        (["träning/cat", "träning/dog", "validering/cat", "validering/dog", "extra/cat"], ["beside 'extra'"]),
        (["test/cat", "test/dog"], ["has test/ but no train/"]),
        (
            ["train/cat", "train/dog", "val/cat", "val/dog", "val/cow"],
            ["'cow', which is no class of the training images"],
        ),
        (["train/cat", "train/dog", "val/cat"], ["dog holds no image"]),
    ],
)
def test_what_may_be_a_part_or_a_class_is_refused_with_the_remedy(
    places: list[str], words: list[str], tmp_path: Path
) -> None:
    write(*(tmp_path / place for place in places))
    with pytest.raises(ValueError) as refused:
        folder(tmp_path)
    assert all(word in str(refused.value) for word in words), str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_was_refused_is_read_after_the_remedy(tmp_path: Path) -> None:
    write(tmp_path / "train" / "cat", tmp_path / "train" / "dog", tmp_path / "train" / "test", count=12)
    assert layout(tmp_path).classes == ("cat", "dog", "test")


@pytest.mark.parametrize("forms", [("NFD", "NFC"), ("NFC", "NFD")])
def test_one_word_in_two_unicode_forms_is_one_class(forms: tuple[str, str], tmp_path: Path) -> None:
    for part, form in zip(("train", "test"), forms, strict=True):
        write(*(tmp_path / part / unicodedata.normalize(form, name) for name in ("café", "tea", "zoë")))
    assert layout(tmp_path).classes == ("café", "tea", "zoë")
    assert [len(files.paths) for files in layout(tmp_path).parts.values()] == [9, 9, 0, 9]


def test_two_folders_that_are_shown_as_the_same_word_are_refused(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        write(tmp_path / unicodedata.normalize(form, "café"))
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system knows one form only")
    with pytest.raises(ValueError, match="Unicode"):
        folder(tmp_path)


def test_names_in_another_encoding_become_classes_that_can_be_printed(tmp_path: Path) -> None:
    try:
        for name in ("狗".encode("gbk"), b"caf\xe9"):
            write(Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))), count=10)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes UTF-8 only")
    images = folder(tmp_path)
    assert images.classes == ("\\xb9\\xb7", "caf\\xe9")
    assert all(name.encode("ascii") for name in images.classes)


def test_a_path_may_begin_with_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write(tmp_path / "pets" / "cat", tmp_path / "pets" / "dog", count=10)
    assert len(folder(Path("~/pets"))) == 16


@pytest.mark.parametrize("name", ["x" * 300, "/".join(["y" * 200] * 30)])
def test_a_name_that_no_file_system_takes_is_no_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no folder"):
        folder(tmp_path / name)


@pytest.mark.parametrize(
    "ending", [".jfif", ".jpe", ".JPG", ".tga", ".bmp", ".dib", ".webp", ".pbm", ".jp2", ".avif", ".apng"]
)
def test_what_pillow_reads_is_read(ending: str, tmp_path: Path) -> None:
    forms = {".jfif": "JPEG", ".jpe": "JPEG", ".dib": "BMP", ".apng": "PNG", ".jp2": "JPEG2000", ".pbm": "PPM"}
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(5):
            try:
                picture = Image.new("RGB", (8, 8), (9 * i, 0, 0))
                picture.save(tmp_path / name / f"{i}{ending}", forms.get(ending))
            except (OSError, KeyError, ValueError):
                pytest.skip(f"this Pillow writes no {ending}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(folder(tmp_path)) + len(folder(tmp_path, "test")) == 10


def test_files_that_are_not_read_are_counted_and_named(tmp_path: Path) -> None:
    write(tmp_path / "cat", tmp_path / "dog", count=10)
    for name in ("cat/a.svg", "cat/b.SVG", "dog/c.heic", "dog/d.jpg.download", "dog/noending"):
        (tmp_path / name).write_bytes(b"something")
    with pytest.warns(UserWarning, match="5 files .* left out: 2 .svg, 1 .*for example cat.a.svg") as told:
        assert len(folder(tmp_path)) == 16
    assert "pip install pillow-heif" in str(told[0].message)


def test_what_lies_beside_pictures_is_no_picture_left_out(tmp_path: Path) -> None:
    write(tmp_path / "cat", tmp_path / "dog", count=10)
    for name in ("notes.txt", "labels.json", "Thumbs.db", ".DS_Store", "readme.md"):
        (tmp_path / "cat" / name).write_text("no picture")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder(tmp_path)


def test_many_endings_do_not_make_a_long_sentence() -> None:
    assert len(told_unread([Path(f"cat/{i}.x{i}") for i in range(999)])) < 300


@pytest.mark.parametrize("name", ["unlabeled", "Unlabelled"])
def test_a_folder_of_unlabelled_images_beside_the_classes_is_no_further_class(name: str, tmp_path: Path) -> None:
    write(tmp_path / "cat", tmp_path / "dog", tmp_path / name, count=4)
    with pytest.raises(ValueError, match=rf"{name} beside the folders of classes.*data\.unlabelled=DIR"):
        layout(tmp_path)


@pytest.mark.parametrize(("given", "bare"), [("labeled", "unlabeled"), ("Labelled", "Unlabelled")])
def test_a_folder_of_unlabelled_images_is_no_class(given: str, bare: str, tmp_path: Path) -> None:
    write(tmp_path / given / "cat", tmp_path / given / "dog", tmp_path / bare / "all")
    with pytest.raises(ValueError, match=f"data.unlabelled=.*{bare}"):
        layout(tmp_path)


def test_an_archive_in_place_of_a_folder_is_told_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "mine.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"mine.zip is a file \(unpack it\)"):
        layout(tmp_path / "mine.zip")


@pytest.mark.parametrize("name", ["__background__", "__unknown__", "_other"])
def test_a_class_may_begin_with_underlines(name: str, tmp_path: Path) -> None:
    """Sets of boxes and of spoken words call a class so; it was left out without a word."""
    write(tmp_path / "cat", tmp_path / name, tmp_path / "__MACOSX", count=12)
    assert set(layout(tmp_path).classes) == {"cat", name}


def test_classes_with_the_same_folders_inside_are_read(tmp_path: Path) -> None:
    write(*(tmp_path / kind / side for kind in ("ash", "beech", "elm", "oak") for side in ("front", "back")), count=12)
    assert layout(tmp_path).classes == ("ash", "beech", "elm", "oak")


@pytest.mark.parametrize("ending", [".npy", ".npz", ".mat", ".pdf", ".pt", ".pkl"])
def test_arrays_and_pages_in_place_of_pictures_are_counted(ending: str, tmp_path: Path) -> None:
    write(tmp_path / "cat", tmp_path / "dog", count=12)
    (tmp_path / "cat" / f"13{ending}").write_bytes(b"x")
    assert [path.suffix for path in layout(tmp_path).unread] == [ending]


LEFT = ("@eaDir", "#recycle", "$RECYCLE.BIN", "$Recycle.Bin", "System Volume Information", "lost+found", ".thumbnails")


def test_what_disks_and_servers_leave_is_no_class_and_no_picture(tmp_path: Path) -> None:
    write(tmp_path / "cat", tmp_path / "dog", count=12)
    write(*(tmp_path / name / "inside" for name in LEFT), *(tmp_path / "cat" / name / "0.jpg" for name in LEFT))
    found = layout(tmp_path)
    assert found.classes == ("cat", "dog")
    assert (len(found.train.paths), len(found.parts["test"].paths)) == (20, 4)
    assert len(pictures_below(tmp_path)) == 24


def test_what_disks_leave_beside_the_parts_is_no_part(tmp_path: Path) -> None:
    write(*(tmp_path / part / name for part in ("train", "test") for name in ("cat", "dog")))
    write(*(tmp_path / name for name in LEFT))
    assert layout(tmp_path).classes == ("cat", "dog")


@pytest.mark.parametrize("file", ["config.yaml", "summary.json"])
def test_runs_beside_the_classes_are_no_class(file: str, tmp_path: Path) -> None:
    """``--data .`` trains the teacher into ./runs, and looks at the folder again."""
    write(tmp_path / "cat", tmp_path / "dog", count=12)
    run = tmp_path / "runs" / "folder" / "teacher-resnet8"
    run.mkdir(parents=True)
    for name in (file, "metrics.jsonl", "student.safetensors"):
        (run / name).write_text("{}")
    found = layout(tmp_path)
    assert (found.classes, found.unread) == (("cat", "dog"), [])


def test_a_class_with_a_config_beside_its_pictures_stays_one(tmp_path: Path) -> None:
    write(tmp_path / "cat", tmp_path / "dog" / "inside", count=12)
    (tmp_path / "dog" / "config.yaml").write_text("{}")
    assert layout(tmp_path).classes == ("cat", "dog")


def test_a_class_of_pictures_that_cannot_be_read_here_is_refused_and_not_taken_for_runs(tmp_path: Path) -> None:
    write(tmp_path / "cat", tmp_path / "dog", tmp_path / "eel", count=12)
    for file in (tmp_path / "eel").iterdir():
        file.rename(file.with_suffix(".jxl"))
    (tmp_path / "eel" / "config.yaml").write_text("{}")
    with pytest.raises(ValueError, match="eel holds no image"):
        layout(tmp_path)
