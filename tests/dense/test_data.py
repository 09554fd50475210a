"""Images and masks in the layouts of the field; crops that depend on nothing but seed, epoch and image; faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fractionate.data import Normalization, part
from fractionate.data.dense import Crop, DenseImages, Kept, Pairs, cropped, listed, ready, whole
from fractionate.data.dense.kinds import recognised
from fractionate.data.dense.pairs import identity
from tests.dense import trees

Tree = Callable[[Path], Path]


def source(root: Path, crop: Crop | None = None, **options: object) -> DenseImages:
    pairs = ready(listed("camvid", root, "train"), "the images")
    return DenseImages(pairs, pairs.classes, **{"batch_size": 4, "crop": crop, **options})


@pytest.mark.parametrize("segnet", [False, True])
def test_both_layouts_of_camvid_are_read_from_a_folder_and_from_a_zip_file(segnet: bool, tmp_path: Path) -> None:
    root = trees.camvid(tmp_path / "camvid", segnet=segnet)
    archive = trees.zipped(root, tmp_path / "camvid-small.zip")
    for place in (root, archive, tmp_path):
        assert recognised(place) == "camvid"
        assert [len(listed("camvid", place, p)) for p in ("train", "validation", "test")] == [6, 2, 3]
    image, mask = listed("camvid", archive, "train")[2]
    pixels, labels = trees.pair(2)
    assert torch.equal(image, torch.from_numpy(pixels).permute(2, 0, 1))
    assert torch.equal(mask, torch.from_numpy(np.where(labels == 11, 255, labels)))  # 11 is void


@pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds"])
def test_cityscapes_has_nineteen_classes_whichever_masks_are_there(kind: str, tmp_path: Path) -> None:
    root = trees.cityscapes(tmp_path, kind)
    assert recognised(root) == "cityscapes"
    pairs, test = listed("cityscapes", root, "train"), listed("cityscapes", root, "test")
    assert (len(pairs), len(test), pairs.num_classes) == (2, 1, 19)
    assert "lindau" in str(test.files[0][0])  # the labels of the test part were not given out
    labels = pairs[0][1].flatten()
    if kind == "labelIds":
        ids = np.resize(np.array([*range(34), 255]), 64 * 32)
        named = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 31: 16, 32: 17, 33: 18} | {i: i - 13 for i in range(19, 29)}
        assert labels.tolist() == [named.get(int(i), 255) for i in ids]


def test_ade20k_counts_its_classes_from_one_and_voc_has_a_border(tmp_path: Path) -> None:
    ade, voc = trees.ade20k(tmp_path / "a"), trees.voc(tmp_path / "v")
    assert (recognised(ade), recognised(voc)) == ("ade20k", "voc")
    pairs = listed("ade20k", ade, "train")
    assert pairs.num_classes == 150
    assert set(pairs[0][1].unique().tolist()) <= {0, 149, 255}
    assert [len(listed("voc", voc, p)) for p in ("train", "test")] == [2, 1]
    assert set(listed("voc", voc, "train")[0][1].unique().tolist()) <= {0, 5, 20, 255}


def test_any_folder_of_pairs_is_cut_into_parts_that_never_change(tmp_path: Path) -> None:
    root = trees.masks(tmp_path)
    parts = {p: [str(i) for i, _ in listed("masks", root, p).files] for p in ("train", "test", "validation")}
    assert [len(x) for x in parts.values()] == [8, 2, 1]
    assert not set(parts["train"]) & set(parts["test"])
    assert listed("masks", root, "train").classes == ("0", "1", "2")
    (root / "classes.txt").write_text("road\nsky\nvoid\n")
    named = listed("masks", root, "train")
    assert named.classes == ("road", "sky")
    assert 2 not in named[0][1]


@pytest.mark.parametrize(
    ("file", "held", "says"),
    [
        ("classes.json", b'{"road": 1, "sky": 0}', "must be a list of names in the order of their labels.*got dict"),
        ("classes.json", b'[{"id": 0, "name": "road"}]', "must be a list of names.*a list of other things"),
        ("classes.json", b"5", "must be a list of names.*got int"),
        (
            "classes.txt",
            b"\n".join(b"c%d" % i for i in range(257)),
            "names 257 classes; a mask holds",
        ),
        (
            "classes.txt",
            b"\n".join(b"c%d" % i for i in range(256)),
            "names 256 classes; a mask holds",
        ),
    ],
)
def test_a_file_of_names_that_is_none_is_refused(file: str, held: bytes, says: str, tmp_path: Path) -> None:
    root = trees.masks(tmp_path)
    (root / file).write_bytes(held)
    with pytest.raises(ValueError, match=says):
        listed("masks", root, "train")


def test_names_may_begin_with_the_mark_of_an_editor(tmp_path: Path) -> None:
    root = trees.masks(tmp_path)
    (root / "classes.txt").write_bytes("void\nroad\nsky\n".encode("utf-8-sig"))
    assert listed("masks", root, "train").classes == ("road", "sky")
    (root / "classes.json").write_text('["road", "sky", "void"]')
    assert listed("masks", root, "train").classes == ("road", "sky")


def test_a_crop_is_a_window_of_the_image_and_its_labels(tmp_path: Path) -> None:
    image, mask = (torch.from_numpy(x) for x in trees.pair(1))
    image, black = image.permute(2, 0, 1), Normalization.none(3)
    for seed in range(20):
        x, y = cropped(image, mask, Crop((8, 12), flip=True), black, seed)
        found = [
            (top, left, flip)
            for top in range(13)
            for left in range(17)
            for flip in (False, True)
            if torch.equal(_window(mask, top, left, flip).long(), y)
            and torch.allclose(_window(image, top, left, flip) / 255, x, atol=1e-6)
        ]
        assert len(found) == 1


def _window(x: torch.Tensor, top: int, left: int, flip: bool) -> torch.Tensor:
    cut = x[..., top : top + 8, left : left + 12]
    return cut.flip(-1) if flip else cut


def test_scaled_crops_show_the_labels_of_their_pixels_and_the_mean_beyond_the_edge() -> None:
    mask = torch.arange(24, dtype=torch.uint8).reshape(4, 6)
    image = mask[None].expand(3, 4, 6) * 8
    for seed in range(10):
        x, y = cropped(image, mask, Crop((10, 14), (0.5, 2.0), 0.1), Normalization((0.5,) * 3, (0.5,) * 3), seed)
        assert bool((x[:, y == 255] == 0).all())
        inside = y != 255
        near = (x[0] * 0.5 + 0.5) * 255 / 8 - y
        assert float(near[inside].abs().max()) <= 3.5 + 1e-3  # half a line, which is 6 labels long, and half a pixel


def test_batches_depend_on_seed_epoch_and_image_alone(tmp_path: Path) -> None:
    data = source(trees.camvid(tmp_path), Crop((16, 16), (0.75, 1.5), flip=True, colour=0.3), passes=2, seed=3)
    first, again, other = list(data.batches(2)), list(data.batches(2)), list(data.batches(3))
    assert [len(b) for b in first] == [4, 4, 4]
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.target, b.target)
    assert not torch.equal(first[0].images, other[0].images)
    (late,) = data.batches(2, start=2)
    assert torch.equal(late.images, first[2].images)
    shown = torch.cat([b.index for b in first])
    assert shown.bincount().tolist() == [2] * 6
    twice = [x for b in first for x, i in zip(b.images, b.index, strict=True) if i == 0]
    assert not torch.equal(*twice)  # each pass shows another crop


def test_parts_of_processes_are_those_of_the_whole_batches(tmp_path: Path) -> None:
    data = source(trees.camvid(tmp_path), Crop((16, 16)), batch_size=5)
    for number, batch in enumerate(data.batches(1)):
        for index in range(3):
            wanted, found = part(batch, index, 3), list(data.parts(1, index, 3))[number]
            assert (found.share, found.whole) == (wanted.share, len(batch))
            if wanted.share:
                assert torch.equal(found.images, wanted.images)
                assert torch.equal(found.target, wanted.target)


def test_whole_images_are_padded_to_a_multiple_with_pixels_of_no_label(tmp_path: Path) -> None:
    data = whole(source(trees.camvid(tmp_path), multiple=32))
    (batch,) = data.batches(1)
    assert batch.images.shape == (6, 3, 32, 32)
    assert bool((batch.target[:, 20:] == 255).all())
    assert not bool(batch.images[:, :, 20:].any())
    assert batch.index.tolist() == list(range(6))


def test_images_of_several_sizes_are_evaluated_one_by_one_and_cropped_to_one(tmp_path: Path) -> None:
    root = trees.camvid(tmp_path)
    image, mask = trees.pair(77, 24, 24)
    for folder, array in (("images", image), ("masks", mask)):
        trees.save(root / folder / "train" / "other.png", array)
    assert [len(b) for b in whole(source(root)).batches(1)] == [1] * 7
    assert {tuple(b.images.shape[2:]) for b in source(root, Crop((16, 16))).batches(1)} == {(16, 16)}
    with pytest.raises(ValueError, match=r"several sizes.*data\.crop"):
        list(source(root).batches(1))


def test_files_that_are_not_kept_give_the_same_batches(tmp_path: Path) -> None:
    files = listed("camvid", trees.camvid(tmp_path), "train")
    kept = ready(files, "the images")
    assert isinstance(kept, Kept)
    both = [DenseImages(p, files.classes, 4, Crop((16, 16)), seed=1) for p in (files, kept)]
    for a, b in zip(*(d.batches(1) for d in both), strict=True):
        assert torch.equal(a.images, b.images)
    assert both[1].fingerprint() == both[1].fingerprint() != both[0].fingerprint()


# -- faults, one line each, before anything is trained ---------------------------------------


def _other_size(root: Path) -> None:
    trees.save(root / "masks" / "train" / "seq_001.png", trees.pair(1)[1][:-1])


def _out_of_range(root: Path) -> None:
    mask = trees.pair(1)[1]
    mask[5, 5] = 12
    trees.save(root / "masks" / "train" / "seq_001.png", mask)


def _missing(root: Path) -> None:
    (root / "masks" / "train" / "seq_001.png").unlink()


def _unlabelled(root: Path) -> None:
    for i in range(6):
        trees.save(root / "masks" / "train" / f"seq_{i:03}.png", np.full((20, 28), 11, np.uint8))


def _painted(root: Path) -> None:
    trees.save(root / "masks" / "train" / "seq_001.png", trees.pair(1)[0])


def _broken(root: Path) -> None:
    (root / "images" / "train" / "seq_001.png").write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_other_size, r"seq_001\.png is 19 x 28 pixels and its image 20 x 28; a mask needs the size of its image"),
        (_out_of_range, r"seq_001\.png holds the label 12, and labels are 0\.\.10 or those of void, 11, 255"),
        (_missing, r"seq_001\.png is missing: 1 of 6 images have no mask"),
        (_unlabelled, r"the training images: no pixel of 6 masks has a label"),
        (_painted, r"seq_001\.png is painted in colours, and no table says.*label_colors\.txt"),
        (_broken, r"seq_001\.png cannot be read"),
    ],
)
def test_what_is_wrong_with_a_pair_is_said_in_one_line(
    spoil: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    root = trees.camvid(tmp_path)
    spoil(root)
    with pytest.raises(ValueError, match=said) as caught:
        ready(listed("camvid", root, "train"), "the training images")
    assert "\n" not in str(caught.value)


def test_painted_masks_are_read_with_a_table_of_colours(tmp_path: Path) -> None:
    root = trees.masks(tmp_path, classes=2)
    painted = np.zeros((20, 28, 3), np.uint8)
    painted[:, 14:] = (0, 128, 192)
    painted[0, 0] = (9, 9, 9)
    trees.save(root / "masks" / "0.png", painted)
    (root / "label_colors.txt").write_text("0 0 0\troad\n0 128 192\tsky\n9 9 9\tvoid\n")
    place = next(i for i, (_, m) in enumerate(listed("masks", root, "train").files) if m.name == "0.png")
    labels = listed("masks", root, "train")[place][1]
    assert (int(labels[5, 0]), int(labels[5, 20]), int(labels[0, 0])) == (0, 1, 255)


@pytest.mark.parametrize("mode", ["P", "L"])
def test_painted_masks_of_one_number_per_pixel_are_read_by_their_colours(mode: str, tmp_path: Path) -> None:
    """An adaptive palette numbers its colours as it likes; so do masks of black and white."""
    root = trees.masks(tmp_path, classes=2)
    away = (0, 128, 192) if mode == "P" else (255, 255, 255)
    painted = np.zeros((20, 28, 3), np.uint8)
    painted[:, 14:] = away
    (root / "label_colors.txt").write_text(f"{away[0]} {away[1]} {away[2]}\tsky\n0 0 0\troad\n")
    for file in (root / "masks").iterdir():
        whole = Image.fromarray(painted)
        (whole.quantize(2) if mode == "P" else whole.convert("L")).save(file)
    pairs = listed("masks", root, "train")
    for i in range(len(pairs)):
        labels = pairs[i][1]
        assert set(labels[:, 0].tolist()) == {1}
        assert set(labels[:, -1].tolist()) == {0}


def test_numbers_stay_numbers_beside_a_table_of_colours(tmp_path: Path) -> None:
    root = trees.masks(tmp_path, classes=2)
    before = [listed("masks", root, "train")[i][1] for i in range(2)]
    (root / "label_colors.txt").write_text("9 0 0\troad\n0 128 192\tsky\n0 0 0\tvoid\n")
    assert all(torch.equal(listed("masks", root, "train")[i][1], before[i]) for i in range(2))


def test_masks_that_were_smoothed_are_refused_and_have_no_255_classes(tmp_path: Path) -> None:
    root = trees.masks(tmp_path, classes=2)
    for n, file in enumerate(sorted((root / "masks").iterdir())):
        levels = np.linspace(n, 255, 20 * 28).astype(np.uint8).reshape(20, 28)
        Image.fromarray(levels).save(file)
    with pytest.raises(ValueError, match=r"levels of grey.*smoothing.*nearest pixel"):
        listed("masks", root, "train")


@pytest.mark.parametrize("kind", ["camvid", "cityscapes", "ade20k", "voc", "masks"])
def test_another_layout_is_refused_with_the_one_that_was_expected(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not laid out as .*expected"):
        listed(kind, tmp_path, "train")
    with pytest.raises(ValueError, match="is no folder and no zip file"):
        listed(kind, tmp_path / "nowhere", "train")


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(ValueError, match="there are none"):
        ready(Pairs((), ("a",), identity(1)), "the images of nowhere")
