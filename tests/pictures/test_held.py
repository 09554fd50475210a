"""Properties that small changes of the code had slipped past: looking at pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fractionate.pictures import plan
from fractionate.pictures.heads import told_groups, told_loose, told_unread
from fractionate.pictures.layout import found_in
from fractionate.pictures.plan import Networks, Plan, planned
from fractionate.pictures.survey import Survey, _check_counts


@pytest.mark.parametrize(
    ("gpu", "small", "side"), [(False, True, 48), (True, True, 64), (False, False, 96), (True, False, 224)]
)
def test_the_size_suits_the_networks_and_the_machine(
    gpu: bool, small: bool, side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for n in range(5):
            Image.new("RGB", (300, 300), (10 * n, 9, 9)).save(tmp_path / label / f"{n}.png")
    monkeypatch.setattr(plan, "has_gpu", lambda: gpu)
    networks = Networks("resnet20", "resnet8") if small else Networks("timm:resnet18", "timm:resnet10t")
    assert planned(tmp_path, networks).survey.size == side


def test_a_class_without_a_training_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no image of class 'dog'"):
        _check_counts([3, 0], ["cat", "dog"], tmp_path)


def test_pictures_beside_the_folders_of_the_classes_are_counted_and_named(tmp_path: Path) -> None:
    for place in ("cat/1", "cat/2", "dog/1", "dog/2", "loose"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / f"{place}.png")
    with pytest.warns(UserWarning, match=r"1 picture lies beside the folders .* left out \(loose\.png\)"):
        found_in(tmp_path)


@pytest.mark.parametrize(
    "places",
    [
        ("animals/cat", "animals/dog", "things/cup", "things/pot"),
        ("animals/new", "things/new"),
        ("animals/cat", "animals/dog", "things/cat", "things/dog", "x/cat", "x/dog", "y/cat", "y/dog"),
    ],
)
def test_folders_that_hold_other_folders_or_one_or_are_many_are_classes(
    places: tuple[str, ...], tmp_path: Path
) -> None:
    for place in places:
        (tmp_path / place).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / place / "0.png")
    classes, found = found_in(tmp_path)
    assert classes == tuple(sorted({place.partition("/")[0] for place in places}))
    assert len(found["train"].paths) == len(places)
    assert found["train"].labels == sorted(classes.index(place.partition("/")[0]) for place in places)


def test_two_or_three_folders_of_the_same_folders_may_be_parts_and_are_refused(tmp_path: Path) -> None:
    for place in ("one/cat", "one/dog", "two/cat", "two/dog"):
        (tmp_path / place).mkdir(parents=True)
    with pytest.raises(ValueError, match="hold the same folders"):
        found_in(tmp_path)


def survey_of(**more: object) -> Survey:
    facts: dict[str, object] = {
        "root": Path("x"),
        "classes": ("a", "b"),
        "train": (3, 5),
        "test": 2,
        "sides": (9, 9, 9),
        "sampled": 4,
        "unreadable": (),
        "size": 8,
        "nbytes": 10,
        "available": 10,
        "left_out": "",
    }
    return Survey(**{**facts, **more})  # type: ignore[arg-type]


def test_a_survey_says_what_it_counts() -> None:
    assert str(survey_of()).startswith("10 pictures of 2 classes (8 to train on, 2 to test), 9 pixels, taken at 8 x 8")
    assert "(8 to train on without labels, 2 to test)" in str(survey_of(train=(8,)))
    assert "9 to 10 pixels" in str(survey_of(sides=(9, 9, 10)))
    assert [survey_of(nbytes=n).fits for n in (9, 10, 11)] == [True, True, False]


@pytest.mark.parametrize(
    ("networks", "words"),
    [
        (Networks(None, "resnet8"), "resnet8 learns from the labels alone"),
        (Networks("a", "b", Path("w.pth")), "b learns from a, whose weights are those of w.pth"),
        (Networks("a", "b"), "first the teacher a is trained on the labels (and kept), then b learns from it"),
        (Networks("timm:a", "b"), "from nothing: teacher.pretrained=true begins with its library's weights"),
        (Networks("timm:a", "b", pretrained=True), "the teacher timm:a begins with its library's weights (if"),
        (Networks("timm:a", "b", Path("w"), pretrained=True), "begins with the weights in w (if"),
    ],
)
def test_who_teaches_whom_and_what_comes_first_is_said(networks: Networks, words: str) -> None:
    assert any(words in line for line in Plan(survey_of(), networks, "").lines)


def test_what_was_chosen_is_said_with_the_number_that_it_comes_from() -> None:
    lines = " | ".join(Plan(survey_of(unreadable=(Path("bad"),)), Networks(), "why", 4, 60).lines)
    for words in (
        "batches of 4 pictures, few because there are 8;",
        "60 epochs, about 480 pictures shown",
        "8 x 8 why",
    ):
        assert words in lines
    assert "1 of 4 pictures that were looked at cannot be read, for example bad" in lines
    assert "the method is kd" in lines
    assert "the method is" not in " ".join(Plan(survey_of(), Networks(method="dkd"), "").lines)
    assert "few because" not in " ".join(Plan(survey_of(), Networks(), "", plan.USUAL_BATCH).lines)


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ("data:\n  name: folder\n  size: 48\n", 48),
        ("data:\n  name: folder\nteacher:\n  size: 48\n", None),
        ("data:\n  size: null\n", None),
        ("student: x\ndata:\n  size: 224\n  x: 1\n", 224),
    ],
)
def test_the_size_of_a_trained_teacher_is_read_from_its_run(config: str, size: int | None, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(config)
    assert plan.trained_size(tmp_path / "student.safetensors") == size
    assert plan.trained_size(tmp_path / "no" / "x") is None


def test_a_network_for_small_pictures_makes_the_pair_one() -> None:
    assert Networks("timm:a", "timm:b").small is False
    assert Networks("timm:a", "timm:b", small_stems=1).small is True
    assert Networks("timm:a", "resnet8").small is True
    assert Networks(None, "timm:b").names == ["timm:b"]


def test_what_is_left_out_is_counted_by_ending() -> None:
    files = [Path(f"c/{i}.{e}") for e, n in zip("abcdefg", (7, 6, 5, 4, 3, 2, 1), strict=True) for i in range(n)]
    assert told_unread(files).startswith("28 files are no pictures that can be read here and are left out: 7 .a, 6 .b")
    assert " 3 .e and 2 other endings, for example c/0.a" in told_unread(files)
    assert told_unread([Path("c/x")]) == (
        "1 file is no picture that can be read here and is left out: 1 without ending, for example c/x"
    )
    assert told_loose(Path("my"), ["a", "b", "c", "d"]).endswith("4 pictures lie beside the folders of the classes, "
        "without a class, and are left out (a, b, c)")  # fmt: skip
    assert told_groups({"a": ["1", "2", "3", "4"]}).startswith("a (1, 2, 3, ...): the folders inside")
    assert told_groups({"a": ["1", "2", "3"], "b": ["1"], "c": ["1"]}).startswith("a (1, 2, 3) and 2 more: the")
