"""The part of Tiny-ImageNet, its recipes and studies, and transformers as students of a few photos."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from benchmarks.tiny_imagenet import part_of
from PIL import Image

from fractionate import StreamAdamW
from fractionate.config.data import Data
from fractionate.config.method import MethodSpec
from fractionate.config.optimizers import AdamW, LearningRate
from fractionate.config.run import Network, Run
from fractionate.recipes import RECIPES, find, tiny_imagenet
from fractionate.runs.runner import run_in_folder
from fractionate.studies.questions import STUDIES
from fractionate.train.optimizer import stream_optimizer, streams_of
from fractionate.train.sources import sources

CONVNEXT = "timm:convnext_atto(depths=(1, 1, 1, 1), dims=(8, 8, 16, 16))"
DENSE_RECIPES = ("segmentation", "camvid", "detection")
VIT = tiny_imagenet.VIT.replace("64", "32").replace("96, depth=6", "12, depth=1")
TEACHER = Network("timm:resnet18", preprocessing="data")
SWIN = (
    "timm:swin_tiny_patch4_window7_224(img_size=32, patch_size=4, window_size=4, embed_dim=12, depths=(1, 1), "
    "num_heads=(1, 2))"
)


def official(root: Path, classes: int, train: int) -> Path:
    """The layout of the archive, with one grey tone per class; WordNet numbers are not listed in their order."""
    wnids = [f"n{1000 + 7 * i:08}" for i in range(classes)]
    lines = []
    for i, wnid in enumerate(wnids):
        picture = Image.new("RGB", (64, 64), (i, i, i))
        folder = root / "tiny-imagenet-200" / "train" / wnid / "images"
        folder.mkdir(parents=True)
        for n in range(train):
            picture.save(folder / f"{wnid}_{n}.JPEG")
        there = root / "tiny-imagenet-200" / "val" / "images"
        there.mkdir(parents=True, exist_ok=True)
        picture.save(there / f"val_{i}.JPEG")
        lines.append(f"val_{i}.JPEG\t{wnid}\t0\t0\t9\t9\n")
    (root / "tiny-imagenet-200" / "val" / "val_annotations.txt").write_text("".join(lines), encoding="utf-8")
    (root / "tiny-imagenet-200" / "wnids.txt").write_text("\n".join(reversed(wnids)), encoding="utf-8")
    return root


def test_of_the_whole_set_every_second_class_and_the_lowest_numbers_are_taken(tmp_path: Path) -> None:
    source = official(tmp_path / "all", classes=200, train=2)
    assert part_of(source, tmp_path / "part", classes=3, images=1) == {"train": 3, "val": 3}
    names = [f"n{1000 + 14 * i:08}" for i in range(3)]
    assert sorted(f.name for f in (tmp_path / "part" / "train").iterdir()) == names
    assert [f.name for f in (tmp_path / "part" / "train" / names[1]).iterdir()] == [f"{names[1]}_0.JPEG"]
    train, test = sources(Data("tiny-imagenet", root=str(tmp_path / "part"), size=64), 0, torch.device("cpu"))
    assert (train.count, test.count, train.num_classes) == (3, 3, 3)


def test_a_source_with_too_few_classes_and_a_folder_of_others_are_refused(tmp_path: Path) -> None:
    source = official(tmp_path / "all", classes=4, train=2)
    with pytest.raises(ValueError, match="4 classes to choose from, and 50 are wanted"):
        part_of(source, tmp_path / "part")
    (tmp_path / "part" / "train" / "dogs").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"holds other classes already \(dogs\)"):
        part_of(source, tmp_path / "part", classes=2)


def test_teacher_and_students_see_the_same_images_and_all_methods_keep_the_teachers_logits() -> None:
    for name in ("tiny-imagenet-small", "tiny-imagenet-vit"):
        recipe = find(name)
        taught = recipe.teacher(root="d")
        for method in recipe.methods:
            run = recipe.student(MethodSpec.parse(method), TEACHER, root="d")
            assert (run.data, run.teacher_table, run.threads) == (taught.data, "lazy", 1)


def test_both_studies_have_the_same_teacher_and_pair_three_seeds() -> None:
    photos, transformer = STUDIES["photos"], STUDIES["transformer"]
    assert find(photos.recipe).teacher(root="d") == find(transformer.recipe).teacher(root="d")
    assert (photos.seeds, transformer.seeds) == (3, 3)
    assert {arm.name for arm in photos.arms if not (arm.values or arm.follows)} == set()
    mixed = [arm for arm in transformer.arms if "data.mixup=0.2" in arm.changes]
    assert [arm.name for arm in mixed] == ["labels alone, mixup", "gdkd, mixup"]


def test_every_arm_of_the_transformer_has_an_optimizer_that_takes_its_streams() -> None:
    """DeepKD's controls are refused there: AdamW's first moments have no gains."""

    def made(run: Run) -> object:
        momenta = streams_of(run, run.method.build(), watched=False)[2]
        return stream_optimizer(run, [torch.nn.Parameter(torch.zeros(2))], momenta)

    for arm in STUDIES["transformer"].arms:
        assert isinstance(made(tiny_imagenet.vit(arm.spec(), TEACHER)), StreamAdamW)
    refused = tiny_imagenet.vit(MethodSpec.parse("dkd+deepkd(normalize_gain=true)"), TEACHER)
    with pytest.raises(ValueError, match="first moments have gain 1 already"):
        made(refused)


@pytest.mark.parametrize("epochs", [1, 2, 3, 12])
def test_any_length_has_a_schedule(epochs: int) -> None:
    for run in (tiny_imagenet.vit, tiny_imagenet.student):
        assert run(MethodSpec("kd"), TEACHER, epochs=epochs).learning_rate.warmup_epochs < max(2, epochs)


@pytest.mark.parametrize(
    ("student", "method"),
    [
        (SWIN, "gdkd(k=2, warmup=1)"),
        (SWIN, "dkd(warmup=1)+deepkd"),
        (VIT, "dkd(warmup=1)+deepkd"),
        (CONVNEXT, "gdkd3(k=2, warmup=1)"),
    ],
)
def test_transformers_learn_from_a_teacher_by_adamw(student: str, method: str, tmp_path: Path) -> None:
    """Swin (shifted windows), ViT and ConvNeXt: one stream under mixup, and several streams; the loss falls."""
    pytest.importorskip("timm")
    for part, count in (("train", 8), ("val", 2)):
        for i in range(4 * count):
            where = tmp_path / "data" / part / f"n{i % 4:08}" / f"{i}.JPEG"
            where.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), tuple(255 * (i % 4 == j) for j in range(3))).save(where)
    mixed = 0.0 if "deepkd" in method else 0.2
    run = Run(
        student=Network(student, preprocessing="data"),
        teacher=Network("resnet8"),
        method=MethodSpec.parse(method),
        data=Data("tiny-imagenet", root=str(tmp_path / "data"), size=32, batch_size=16, mixup=mixed),
        optimizer=AdamW(lr=3e-3, clip=1.0, decay="weights"),
        learning_rate=LearningRate("cosine", warmup_epochs=1, per="step"),
        epochs=6,
        device="cpu",
        threads=1,
    )
    run_in_folder(run, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [row["train_loss"] for row in rows]
    assert len(rows) == 6
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", [name for name in RECIPES if name.split("-")[0] not in DENSE_RECIPES])
def test_a_recipe_of_images_shows_a_second_view_to_methods_that_need_one(name: str) -> None:
    strong = {m: find(name).student(MethodSpec(m), Network("resnet20")).data.strong for m in ("mlkd", "kd")}
    assert strong["mlkd"] != "none"
    assert strong["kd"] == "none"
