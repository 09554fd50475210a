"""A teacher and a student see the same crop of a photo, each at a size of its own and as its authors prepare photos."""

from __future__ import annotations

import warnings
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console

from fractionate.config.data import Data
from fractionate.config.run import Network
from fractionate.data.images import read_bounded, read_image
from fractionate.export.folder import export_run
from fractionate.models import Preprocessing, create, load_exported
from fractionate.models.preprocessing import shown_of
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from fractionate.train.build import prepare
from fractionate.train.networks import build_for
from fractionate.train.sources import sources
from tests.asserts import assert_equal
from tests.train.runs import tiny

timm = pytest.importorskip("timm")
pytest.importorskip("torchvision")
TEACHER = "timm:vit_tiny_patch16_224(depth=1, embed_dim=48, num_heads=3)"
STUDENT = "timm:vit_tiny_patch16_224(img_size=64, depth=1, embed_dim=48, num_heads=3)"
AS_THE_TEACHER = {"size": 224, "crop_pct": 0.9, "interpolation": "bicubic"}


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def blotches(seed: int) -> Image.Image:
    """A smooth coloured picture, as photos are."""
    small = torch.randint(0, 256, (6, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(small.numpy()).resize((300, 260), Image.Resampling.BICUBIC)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for part, count in (("train", 2), ("test", 2)):
        for label, name in enumerate(("ant", "bee")):
            for i in range(count):
                blotches(4 * label + i).save(made(tmp_path / part / name) / f"{i}.png")
    return tmp_path


def data_of(photos: Path, **fields: Any) -> Data:
    return Data("folder", root=str(photos), batch_size=4, **{"workers": 0, **AS_THE_TEACHER, **fields})


def library_s(folder: Path) -> Network:
    """A named teacher with weights, and the file through which they come."""
    torch.manual_seed(0)
    torch.save(create(TEACHER, num_classes=2).state_dict(), folder / "vit.pth")
    return Network(TEACHER, checkpoint=str(folder / "vit.pth"), pretrained=True)


def test_a_named_teacher_at_224_and_a_named_student_at_64_see_the_same_crop(photos: Path, tmp_path: Path) -> None:
    run = tiny("kd", student=Network(STUDENT), teacher=library_s(tmp_path), data=data_of(photos))
    training = prepare(run)
    batch = next(iter(training.test.batches(1)))
    assert batch.images.shape[2:] == (224, 224)
    how = shown_of(training.student)
    assert how is not None
    assert how.wanted == Preprocessing((64, 64), batch.normalization.mean, batch.normalization.std, "bicubic")  # type: ignore[union-attr]
    smaller = torch.nn.functional.interpolate(batch.images, (64, 64), mode="bicubic", antialias=True)
    assert (
        float((how.pixels(batch.images) - smaller).abs().median()) < 1e-5
    )  # the same crop, clamped to pictures' range
    assert training.student(batch.images).shape == (4, 2)


def test_the_teacher_s_logits_are_those_of_timm_s_own_pipeline_on_the_files(photos: Path, tmp_path: Path) -> None:
    config = library_s(tmp_path)
    _, test = sources(data_of(photos), 0, torch.device("cpu"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = build_for(config, test, test, "teacher").eval()
    theirs = create(TEACHER, num_classes=2).eval()
    theirs.load_state_dict(torch.load(tmp_path / "vit.pth"))
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs), is_training=False)
    files = sorted((photos / "test").glob("*/*.png"))
    with torch.no_grad():
        expected = theirs(torch.stack([transform(Image.open(file).convert("RGB")) for file in files]))
        assert_equal(net(next(iter(test.batches(1))).images), expected, "timm's pipeline", 1e-4)


def test_a_teacher_whose_photos_were_cropped_otherwise_is_told_of(photos: Path, tmp_path: Path) -> None:
    config = library_s(tmp_path)
    _, test = sources(data_of(photos, size=64, crop_pct=0.875), 0, torch.device("cpu"))
    with pytest.warns(
        UserWarning, match=r"224 pixels, crop_pct 0\.9, bicubic.*data\.size=224 data\.crop_pct=0\.9 shows"
    ):
        build_for(config, test, test, "teacher")


def test_a_run_keeps_the_student_s_size_and_its_weights_are_shown_it_again(photos: Path, tmp_path: Path) -> None:
    data = data_of(photos, size=96)
    run_in_folder(tiny("ce", student=Network(STUDENT), data=data, epochs=1), tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    assert folder.summary()["preprocessing"]["size"] == [64, 64]
    _, test = sources(replace(data, size=80), 0, torch.device("cpu"))
    for way in (None, "data"):
        again = build_for(Network(STUDENT, checkpoint=str(folder.student), preprocessing=way), test, test)  # type: ignore[arg-type]
        assert shown_of(again).wanted.size == (64, 64)  # type: ignore[union-attr]


def test_a_student_of_the_data_s_own_size_takes_pixels_as_they_come(photos: Path) -> None:
    training = prepare(tiny("ce", student=Network(STUDENT), data=data_of(photos, size=64)))
    assert shown_of(training.student) is None


def at_32(file: Path) -> torch.Tensor:
    return read_image(file, 32)


def as_it_is(file: Path) -> torch.Tensor:
    return read_bounded(file, 999)


def test_an_exported_student_takes_photos_the_whole_way_and_its_card_says_it(photos: Path, tmp_path: Path) -> None:
    data = data_of(photos, size=32, workers=None, crop_pct=0.875, interpolation="bilinear")
    run_in_folder(tiny("ce", student=Network(STUDENT), data=data, epochs=1), tmp_path / "run")
    export_run(tmp_path / "run", tmp_path / "out", console=Console(file=StringIO()))
    exported = load_exported(tmp_path / "out")
    assert (exported.description.taken_at, exported.description.input_size) == (32, (3, 64, 64))
    files = sorted((photos / "test").glob("*/*.png"))
    small, whole = (
        torch.stack([read(file) for file in files]) for read in (at_32, lambda file: read_bounded(file, 999))
    )
    assert_equal(exported.normalize(whole), exported.normalize(small), "photos", 0.05)
    assert (exported.normalize(whole) - exported.description.preprocessing(whole / 255)).abs().max() > 0.1
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "to 32 pixels (bilinear, antialiased) and the middle 32 x 32 cut out first, and that was resized" in card
