"""COCO's format: boxes stay where the objects are, and what is wrong in a file is said in one line."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fractionate.data.boxes import BoxImages, annotated, unpacked
from fractionate.tasks import boxes_drawn
from tests.detection import trees


def source(root: Path, part: Any = "train", **options: Any) -> BoxImages:
    return BoxImages(annotated(str(root), part), 3, **{"side": 64, **options}).read()


def test_pictures_of_more_than_8_bits_are_refused_and_not_shown_white(tmp_path: Path) -> None:
    root = trees.coco(tmp_path / "coco")
    picture = next(iter(sorted((root / "train2017").iterdir())))
    deep = np.linspace(2000, 30000, 48 * 64).reshape(48, 64).astype(np.uint16)
    Image.fromarray(deep).save(picture, format="PNG")
    with pytest.raises(ValueError, match="more than 8 bits per channel"):
        source(root)


def _turned(root: Path, orientation: int) -> Path:
    """The first training picture with a camera's mark, and stored so that it is shown as it was."""
    picture = next(iter(sorted((root / "train2017").iterdir())))
    mark = Image.Exif()
    mark[0x0112] = orientation
    Image.open(picture).save(picture, exif=mark)
    return root


def test_a_mirroring_mark_of_a_camera_is_said_because_the_boxes_may_know_it_or_not(tmp_path: Path) -> None:
    plain = source(trees.coco(tmp_path / "plain")).kept
    with pytest.warns(UserWarning, match=r"EXIF.*taken as drawn on the images as they are stored"):
        marked = source(_turned(trees.coco(tmp_path / "marked"), 2)).kept
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(plain, marked, strict=True))


def test_boxes_that_were_drawn_on_the_turned_picture_find_their_objects(tmp_path: Path) -> None:
    def swapped(part: str, said: dict[str, Any]) -> None:
        if part == "train2017":  # annotated as shown: stored 48 x 64, shown 64 x 48
            first = said["images"][0]
            first["height"], first["width"] = first["width"], first["height"]
            for one in said["annotations"]:
                if one["image_id"] == first["id"]:
                    left, top, width, height = one["bbox"]
                    one["bbox"] = [48 - top - height, left, height, width]  # a quarter turn clockwise

    root = _turned(trees.coco(tmp_path / "coco", change=swapped), 6)
    pixels, boxes, _ = source(root).kept[0]
    assert tuple(pixels.shape[1:]) == (64, 48)
    last = boxes[-1].tolist()
    colour = pixels[:, int(last[2] + last[4]) // 2, int(last[1] + last[3]) // 2]
    assert int(colour.argmax()) + 1 == int(last[0])


def test_ids_with_gaps_become_labels_from_one_and_boxes_keep_their_objects(tmp_path: Path) -> None:
    found = source(trees.coco(tmp_path / "coco"), "test")
    assert found.classes == trees.NAMES
    (whole, last) = list(found.batches(1))
    for image, known in zip(whole.images, unpacked(whole.target), strict=True):
        assert known.size == (48, 64)
        assert len(known.labels) > 0
        centre = ((known.boxes[:, :2] + known.boxes[:, 2:]) / 2).long()
        top = [int(image[:, y, x].argmax()) + 1 for x, y in centre.tolist()]
        assert top[-1] == int(known.labels[-1])  # the last one is drawn over the others
        assert bool((image[:, 48:] == 0).all())  # beyond it the mean
    assert [len(x.labels) for x in unpacked(last.target)] == [0]  # evaluation keeps images without a box


def test_a_smaller_picture_has_smaller_boxes_and_a_mirrored_one_mirrored_boxes(tmp_path: Path) -> None:
    root = trees.coco(tmp_path / "coco")
    plain, small = (source(root, "test", side=side) for side in (64, 32))
    one, half = (unpacked(next(iter(s.batches(1))).target)[0] for s in (plain, small))
    torch.testing.assert_close(half.boxes * 2, one.boxes)
    assert (half.size, half.factor) == ((24, 32), 2.0)
    assert torch.equal(half.area, one.area)  # that of the file
    images, turned = set(), set()
    train = source(root, training=True, flip=True)
    for epoch in range(1, 6):
        for batch in train.batches(epoch):
            for image, known, index in zip(batch.images, unpacked(batch.target), batch.index.tolist(), strict=True):
                x, y = ((known.boxes[-1, :2] + known.boxes[-1, 2:]) / 2).long().tolist()
                assert int(image[:, y, x].argmax()) + 1 == int(known.labels[-1])
                images.add(index)
                turned.add((index, *known.boxes[-1].tolist()))
    assert len(images) == 7  # the eighth has no box
    assert len(turned) > len(images)


def test_batches_and_what_is_sampled_follow_from_seed_epoch_and_image(tmp_path: Path) -> None:
    options = {"training": True, "flip": True, "colour": 0.2, "passes": 2}
    one = source(trees.coco(tmp_path / "coco"), **options)
    two = BoxImages(one.pictures, 3, 64, **options)  # read whenever it is asked for
    for a, b in zip(one.batches(2), two.batches(2), strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.target, b.target)
    late = list(one.batches(2))[2:]
    assert all(torch.equal(a.images, b.images) for a, b in zip(late, one.batches(2, start=2), strict=True))
    draws = [known.draw for epoch in (1, 2) for b in one.batches(epoch) for known in unpacked(b.target)]
    assert len(set(draws)) == len(draws) == 28
    assert one.fingerprint() != source(trees.coco(tmp_path / "other", train=9)).fingerprint()


SHORTER = (24, 36, 48, 72)


def both_shapes(root: Path) -> BoxImages:
    """Images shown at one of several sizes, the first three of them upright."""

    def turn(part: str, said: dict[str, Any]) -> None:
        for one in said["images"][:3]:
            place = root / part / one["file_name"]
            Image.open(place).transpose(Image.Transpose.ROTATE_90).save(place)
            one["height"], one["width"] = one["width"], one["height"]
            for box in (a for a in said["annotations"] if a["image_id"] == one["id"]):
                left, top, across, down = box["bbox"]
                box["bbox"] = [top, one["height"] - left - across, down, across]

    return source(trees.coco(root, change=turn), training=True, flip=True, side=80, shorter=SHORTER)


def test_the_shorter_side_is_drawn_and_the_longer_one_is_bounded(tmp_path: Path) -> None:
    found, seen = both_shapes(tmp_path / "coco"), set()
    assert not found.kept  # an image has no one size
    for epoch in range(1, 9):
        for batch in found.batches(epoch):
            known = unpacked(batch.target)
            highest = [-(-max(k.size[side] for k in known) // 32) * 32 for side in (0, 1)]
            assert list(batch.images.shape[2:]) == highest
            for image, one in zip(batch.images, known, strict=True):
                assert max(one.size) <= 80
                assert min(one.size) in SHORTER or max(one.size) == 80
                assert max(one.size) * one.factor == pytest.approx(64, abs=one.factor)  # pixels of the file
                x, y = ((one.boxes[-1, :2] + one.boxes[-1, 2:]) / 2).long().tolist()
                assert int(image[:, y, x].argmax()) + 1 == int(one.labels[-1])
                seen.add(min(one.size))
    assert seen == {24, 36, 48, 60}  # 72 would need a longer side of 96


def test_images_are_evaluated_at_the_largest_of_their_shorter_sides(tmp_path: Path) -> None:
    tests = source(trees.coco(tmp_path / "coco"), "test", side=80, shorter=(24, 36))
    assert {known.size for batch in tests.batches(1) for known in unpacked(batch.target)} == {(36, 48)}
    assert tests.kept


def test_a_part_of_a_batch_has_the_canvas_of_the_whole_one(tmp_path: Path) -> None:
    found = both_shapes(tmp_path / "coco")
    for number, whole in enumerate(found.batches(2)):
        parts = [list(found.parts(2, i, 2))[number] for i in (0, 1)]
        assert torch.equal(torch.cat([p.images for p in parts if p.share]), whole.images)
        known = [k for p in parts if p.share for k in unpacked(p.target)]
        assert [k.draw for k in known] == [k.draw for k in unpacked(whole.target)]


def test_a_set_of_lengths_is_another_set_of_images(tmp_path: Path) -> None:
    root = trees.coco(tmp_path / "coco")
    prints = {source(root, side=80, shorter=lengths).fingerprint() for lengths in ((), (24, 36), (24, 48))}
    assert len(prints) == 3


def test_parts_of_processes_are_those_of_the_whole_batches(tmp_path: Path) -> None:
    train = source(trees.coco(tmp_path / "coco"), training=True)
    whole = [b.index.tolist() for b in train.batches(1)]
    parts = [[(b.index.tolist(), b.share) for b in train.parts(1, i, 2)] for i in (0, 1)]
    for both, first, second in zip(whole, *parts, strict=True):
        assert [i for index, share in (first, second) if share for i in index] == both


def test_a_zip_file_and_the_layout_with_annotations_beside_the_images_are_read(tmp_path: Path) -> None:
    root = trees.coco(tmp_path / "coco")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
        for path in sorted(root.rglob("*")):
            file.write(path, path.relative_to(tmp_path))
    other = tmp_path / "beside"
    for ours, theirs in (("train2017", "train"), ("val2017", "valid")):
        shutil.copytree(root / ours, other / theirs)
        shutil.copy(root / "annotations" / f"instances_{ours}.json", other / theirs / "_annotations.coco.json")
    expected = [p.boxes.tolist() for p in annotated(str(root), "test").found]
    for place in (tmp_path / "set.zip", other):
        assert [p.boxes.tolist() for p in annotated(str(place), "test").found] == expected


def test_a_set_without_other_parts_is_cut_into_parts_that_never_change(tmp_path: Path) -> None:
    root = trees.coco(tmp_path / "coco", train=20)
    (root / "annotations" / "instances_val2017.json").unlink()
    parts: list[Any] = ["train-without-validation", "validation", "test"]
    names = [{p.place.name for p in annotated(str(root), part).found} for part in parts]
    assert [len(n) for n in names] in ([14, 2, 4], [13, 2, 4])
    assert len(set.union(*names)) == sum(map(len, names))
    assert names == [{p.place.name for p in annotated(str(root), part).found} for part in parts]


def _crowd(part: str, said: dict[str, Any]) -> None:
    said["annotations"][0]["iscrowd"] = 1
    said["annotations"][1]["bbox"] = [60, 2, 0, 5]
    said["annotations"][2]["bbox"] = [-5, -5, 20, 20]


def test_crowds_boxes_without_area_and_images_without_boxes_are_counted(tmp_path: Path) -> None:
    pictures = annotated(str(trees.coco(tmp_path / "coco", change=_crowd)), "train")
    assert pictures.dropped["boxes without area"] == 1
    assert pictures.dropped["images without boxes"] >= 1
    boxes = torch.cat([p.boxes for p in pictures.found])
    assert bool((boxes[:, 1:3] >= 0).all())  # cut at the edge
    assert int((boxes[:, 6] > 0).sum()) <= 1
    assert all(bool((p.boxes[:, 6] == 0).any()) for p in pictures.found)


def _as_text(part: str, said: dict[str, Any]) -> None:
    for one in said["annotations"]:
        one["image_id"], one["category_id"] = str(one["image_id"]), f"{one['category_id']:03d}"
    if part == "train":
        for one in said["images"]:
            one["id"] = str(one["id"])


def test_ids_that_a_tool_wrote_as_text_are_the_numbers_they_spell(tmp_path: Path) -> None:
    plain, text = trees.coco(tmp_path / "plain"), trees.coco(tmp_path / "text", change=_as_text)
    for part in ("train", "test"):
        one, two = annotated(str(plain), part), annotated(str(text), part)
        assert [p.place.name for p in one.found] == [p.place.name for p in two.found]
        assert all(torch.equal(a.boxes, b.boxes) for a, b in zip(one.found, two.found, strict=True))


def test_images_with_numbers_and_with_names_as_ids_may_stand_in_one_file(tmp_path: Path) -> None:
    def named(part: str, said: dict[str, Any]) -> None:
        number, said["images"][0]["id"] = said["images"][0]["id"], "first"
        for one in said["annotations"]:
            one["image_id"] = "first" if one["image_id"] == number else one["image_id"]

    plain, mixed = trees.coco(tmp_path / "plain"), trees.coco(tmp_path / "mixed", change=named)
    boxes = [{p.place.name: p.boxes.tolist() for p in annotated(str(root), "train").found} for root in (plain, mixed)]
    assert boxes[0] == boxes[1]


def _set(path: str, value: Any) -> Any:
    def change(part: str, said: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        place: Any = said
        for key in parents:
            place = place[int(key) if key.isdigit() else key]
        place[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("images.0.file_name", "gone.png", "gone.png of .* is missing"),
        ("images.0.height", 47, "48 x 64 pixels and the annotations say 47 x 64"),
        ("images.1.id", 0, "same id"),
        ("annotations.0.image_id", 77, "names the image 77"),
        ("annotations.0.image_id", [0], "names the image"),
        ("annotations.0.category_id", {"id": 1}, "names the category"),
        ("annotations.0.category_id", 2, "names the category 2"),
        ("annotations.0.bbox", [1, 2, 3], "has the bbox"),
        ("annotations.0.bbox", [1, 2, float("nan"), 4], "has the bbox"),
        ("annotations", None, "no annotation file of COCO"),
        ("images.0.height", "tall", "lacks a field or has a wrong one"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(path: str, value: Any, said: str, tmp_path: Path) -> None:
    root = trees.coco(tmp_path / "coco", change=_set(path, value))
    with pytest.raises(ValueError, match=said) as error:
        source(root)
    assert "\n" not in str(error.value)


def test_other_folders_damaged_files_and_other_categories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder and no zip file"):
        annotated(str(tmp_path / "none"), "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="expected annotations/instances_train"):
        annotated(str(tmp_path / "empty"), "train")
    root = trees.coco(tmp_path / "coco")
    (root / "train2017" / "000000000000.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="cannot be read"):
        source(root)
    file = root / "annotations" / "instances_val2017.json"
    said = json.loads(file.read_text())
    said["categories"][0]["name"] = "violet"
    file.write_text(json.dumps(said))
    with pytest.raises(ValueError, match="other categories than the training part"):
        annotated(str(root), "test")
    file.write_text("{")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        annotated(str(root), "test")


def test_the_real_format_is_read(shared_data: Path, tmp_path: Path) -> None:
    file = shared_data / "coco8.zip"
    if not file.is_file():
        pytest.skip("coco8.zip is not in the folder of data sets")
    train, test = (annotated(str(file), part) for part in ("train", "test"))
    assert (len(train), len(test), len(train.classes)) == (4, 4, 80)
    batch = next(iter(BoxImages(test, 2, 160).read().batches(1)))
    assert batch.images.shape == (2, 3, 160, 160)
    for known in unpacked(batch.target):
        assert max(known.size) == 160
        assert bool((known.boxes[:, 2:] > known.boxes[:, :2]).all())
    Image.open(next(iter(test.found)).place.open("rb")).verify()


def test_the_pictures_of_a_page_show_the_image_itself_and_frames_around_its_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = source(trees.coco(tmp_path / "coco"), "test")
    none = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}
    monkeypatch.setattr(boxes_drawn, "detected", lambda net, images, sizes: [none])
    drawn = boxes_drawn.drawings(torch.nn.Identity(), None, found, count=1)
    (name,) = [n for n in drawn if n.endswith(".png")]
    image = Image.fromarray(trees.picture(1000 + int(name[:5]))[0])  # as trees.coco made it
    with Image.open(io.BytesIO(drawn[name])) as strip:
        wide, high = strip.width // 3, strip.height
        whole = np.asarray(image.resize((wide, high), Image.Resampling.BILINEAR), dtype=int)
        parts = [np.asarray(strip.convert("RGB"), dtype=int)[:, i * wide : (i + 1) * wide] for i in range(3)]
    assert abs(parts[0] - whole).max() <= 2
    assert (parts[2] == parts[0]).all()  # the student found nothing
    assert 0 < (parts[1] != parts[0]).any(2).mean() < 0.2  # frames, and the image inside them
