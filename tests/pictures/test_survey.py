"""A look at a folder tells what reading it will be like, without reading it."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from PIL import Image

from fractionate.data import folder, survey
from fractionate.pictures import plan

room = importlib.import_module("fractionate.pictures.survey")  # the function has the same name


def write(where: Path, sizes: list[tuple[int, int]]) -> None:
    where.mkdir(parents=True)
    for i, size in enumerate(sizes):
        Image.new("RGB", size, (i % 256, 9, 9)).save(where / f"{i:04}.png")


def test_a_survey_tells_what_a_folder_will_be(tmp_path: Path) -> None:
    write(tmp_path / "train" / "cat", [(300, 400)] * 8)
    write(tmp_path / "train" / "dog", [(500, 250)] * 4)
    write(tmp_path / "test" / "cat", [(64, 64)])
    write(tmp_path / "test" / "dog", [(90, 80)])
    (tmp_path / "train" / "dog" / "x.heic").write_bytes(b"?")
    found = survey(tmp_path)
    assert (found.classes, found.train, found.test, found.count) == (("cat", "dog"), (8, 4), 2, 14)
    assert (found.sides, found.sampled) == ((64, 300, 300), 14)
    assert found.size == 224
    assert found.nbytes == 2 * 3 * 224**2 * 14
    assert "1 .heic" in found.left_out
    assert found.fits
    for word in ("14 pictures of 2 classes", "12 to train on", "64 to 300 pixels", "224 x 224", "MB"):
        assert word in str(found)


@pytest.mark.parametrize(("side", "expected"), [(12, 12), (224, 224), (421, 224), (4000, 224)])
def test_what_is_said_is_what_is_read(side: int, expected: int, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        write(tmp_path / name, [(side, side + 5)] * 5)
    assert survey(tmp_path).size == folder(tmp_path).images.shape[-1] == expected


def test_the_size_is_bounded_by_what_networks_are_made_for_and_a_given_one_is_taken(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        write(tmp_path / name, [(300, 300)] * 5)
    assert survey(tmp_path, largest=64).size == 64
    assert survey(tmp_path, largest=999).size == 224
    assert survey(tmp_path, size=280, largest=64).size == 280


def test_only_heads_of_a_few_pictures_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cat", "dog"):
        write(tmp_path / name, [(40, 40)] * 150)
    seen: list[Path] = []
    really = Image.open

    def opened(path: Path, **options: object) -> Image.Image:
        seen.append(path)
        return really(path, **options)

    monkeypatch.setattr(Image, "open", opened)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("a picture was decoded"))
    assert survey(tmp_path, samples=20).sampled <= 22
    assert len(seen) <= 23
    assert {path.parent.name for path in seen} == {"cat", "dog"}


def test_damaged_pictures_are_counted_and_do_not_end_the_survey(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        write(tmp_path / name, [(40, 40)] * 5)
    (tmp_path / "dog" / "0002.png").write_bytes(b"no picture")
    found = survey(tmp_path)
    assert [path.name for path in found.unreadable] == ["0002.png"]
    for file in tmp_path.glob("*/*.png"):
        file.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"none of .* can be read"):
        survey(tmp_path)


def test_what_does_not_fit_is_known_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cat", "dog"):
        write(tmp_path / name, [(300, 300)] * 5)
    monkeypatch.setattr(room, "memory", lambda: 2**20)
    assert not survey(tmp_path).fits
    monkeypatch.setattr(room, "memory", lambda: None)
    assert survey(tmp_path).fits


def test_a_folder_is_known_again_by_names_sizes_labels_and_pixels(tmp_path: Path) -> None:
    def known(root: Path, size: int = 16) -> str:
        return folder(root, "train", size).listing

    for place in ("one", "two"):
        for name in ("cat", "dog"):
            write(tmp_path / place / name, [(40, 40)] * 10)
    first = known(tmp_path / "one")
    assert first == known(tmp_path / "two")  # wherever it lies, whenever it was written
    assert first != known(tmp_path / "one", size=8)
    file = next(p for p in sorted((tmp_path / "two" / "cat").iterdir()) if p.name > "0003")
    file.rename(tmp_path / "two" / "dog" / f"x{file.name}")
    moved = known(tmp_path / "two")
    assert moved != first
    write(tmp_path / "three" / "cat", [(40, 40)] * 10)
    write(tmp_path / "three" / "dog", [(39, 40)] * 10)
    assert known(tmp_path / "three") not in (first, moved)


def test_folders_inside_of_a_class_are_one_class_and_that_is_said(tmp_path: Path) -> None:
    for place in ("animals/cat", "animals/dog", "things/cup"):
        write(tmp_path / place, [(9, 9)] * 6)
    write(tmp_path / "mixed", [(9, 9)] * 6)
    write(tmp_path / "mixed" / "more", [(9, 9)] * 6)
    said = survey(tmp_path).grouped
    assert said.startswith("animals (cat, dog): ")
    assert "mixed" not in said  # pictures of its own: no folder of classes
    assert "things" not in said
    assert said in plan.planned(tmp_path, plan.Networks(None, "resnet8")).lines
    assert folder(tmp_path).classes == ("animals", "mixed", "things")


def test_a_validation_part_beside_a_test_part_is_told_with_what_it_is_used_for(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            write(tmp_path / part / name, [(40, 40)] * 4)
    networks = plan.Networks(None, "resnet8")
    assert not any("evaluate_on" in line for line in plan.planned(tmp_path, networks).lines)
    for name in ("cat", "dog"):
        write(tmp_path / "val2017" / name, [(40, 40)] * 3)
    told = [line for line in plan.planned(tmp_path, networks).lines if "evaluate_on" in line]
    assert len(told) == 1
    assert "measured on test/" in told[0]
    assert "val2017/ (6 pictures)" in told[0]
    assert folder(tmp_path, "validation").images.shape[0] == 6
