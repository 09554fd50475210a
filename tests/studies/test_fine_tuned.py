"""A library's weights for other classes become a teacher by fine-tuning; those that fit are used as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from fractionate import models
from fractionate.cli import main
from fractionate.config.run import Network
from fractionate.models import OtherHead, create, load_checkpoint
from fractionate.recipes import folder
from fractionate.recipes.folder import fine_tuning
from fractionate.runs.folder import RunFolder
from fractionate.train.networks import build, build_teacher
from tests.dense import trees as of_pixels
from tests.detection import trees as of_boxes

timm = pytest.importorskip("timm")
NAME = "test_resnet"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, draw = tmp_path_factory.mktemp("photos"), torch.Generator().manual_seed(0)
    for k, label in enumerate(("cat", "dog")):
        (root / label).mkdir()
        for i in range(12):
            level = int(torch.randint(0, 60, (), generator=draw)) + 120 * k
            Image.new("RGB", (16, 16), (level, level, 60)).save(root / label / f"{i}.png")
    return root


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub in which the weights of a tiny network of timm's lie, for its 1000 classes; no network."""
    from huggingface_hub import constants

    said = timm.get_pretrained_cfg(NAME)
    repo = tmp_path / "hub" / f"models--{said.hf_hub_id.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc")
    torch.manual_seed(0)
    net = timm.create_model(NAME, num_classes=said.num_classes)
    models.save_exported(net, _description(net), repo / "snapshots" / "abc")
    (repo / "snapshots" / "abc" / "config.json").unlink()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("fractionate.models.libraries._network", lambda: False)
    return repo / "snapshots" / "abc" / "model.safetensors"


def _description(net: torch.nn.Module) -> models.Description:
    zeros, ones = (0.0,) * 3, (1.0,) * 3
    return models.Description(f"timm:{NAME}", 1000, (3, 160, 160), mean=zeros, std=ones)


def test_weights_that_are_here_are_taken_without_a_network(hub: Path) -> None:
    net = create(f"timm:{NAME}", num_classes=1000, pretrained=True)
    again = create(f"timm:{NAME}", num_classes=1000)
    load_checkpoint(again, hub)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))


def test_a_head_for_other_classes_is_refused_or_new(hub: Path) -> None:
    with pytest.raises(OtherHead, match="do not have 2 classes but 1000"):
        create(f"timm:{NAME}", num_classes=2, pretrained=True)
    net = create(f"timm:{NAME}", num_classes=2, pretrained=True, new_head=True)
    assert net.get_classifier().out_features == 2
    whole = create(f"timm:{NAME}", num_classes=1000)
    load_checkpoint(whole, hub)
    assert torch.equal(net.state_dict()["conv1.0.weight"], whole.state_dict()["conv1.0.weight"])
    filled = create(f"timm:{NAME}", num_classes=2)
    with pytest.raises(OtherHead, match="it has 1000 classes, the network 2"):
        load_checkpoint(filled, hub)
    load_checkpoint(filled, hub, new_head=True)
    assert torch.equal(filled.state_dict()["conv1.0.weight"], whole.state_dict()["conv1.0.weight"])


def test_where_weights_are_missing_the_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("fractionate.models.libraries._network", lambda: False)
    with pytest.raises(ValueError, match=rf"fetch model.safetensors of timm/{NAME}\S* and give that file"):
        create(f"timm:{NAME}", num_classes=1000, pretrained=True)


def test_torchvision_s_weights_get_a_new_last_layer_and_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = pytest.importorskip("torchvision").models
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    said = library.get_model_weights("mnasnet0_5")["DEFAULT"]
    with pytest.raises(OtherHead, match="do not have 3 classes but 1000"):
        create("torchvision:mnasnet0_5", num_classes=3, pretrained=True)
    torch.manual_seed(0)
    theirs = library.mnasnet0_5()
    file = tmp_path / "hub" / "checkpoints" / said.url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    torch.save(theirs.state_dict(), file)
    net = create("torchvision:mnasnet0_5", num_classes=3, pretrained=True, new_head=True)
    assert net.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 3)
    own, other = net.state_dict(), theirs.state_dict()
    assert {k for k in own if not torch.equal(own[k], other[k])} == {"classifier.1.weight", "classifier.1.bias"}


def test_transformers_weights_get_a_new_last_layer(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.ViTConfig(**sizes, image_size=8, patch_size=4, num_labels=3)
    theirs = transformers.ViTForImageClassification(config)
    theirs.save_pretrained(tmp_path)
    net = create(f"hf:{tmp_path}", num_classes=5, pretrained=True, new_head=True)
    own, other = net.state_dict(), theirs.state_dict()
    assert {k for k in own if own[k].shape != other[k].shape} == {"classifier.weight", "classifier.bias"}
    assert all(torch.equal(own[k], other[k]) for k in own if own[k].shape == other[k].shape)


def train(photos: Path, out: Path, *words: str | Path) -> int:
    given = ["train", "folder", "--data", photos, "--teacher", f"timm:{NAME}", "teacher.pretrained=true", *words]
    given += ["--student", "resnet8", "--epochs", "1", "--teacher-epochs", "2", "--out", out]
    return main([str(word) for word in [*given, "data.size=16", "data.batch_size=8", "device=cpu", "--no-export"]])


def test_such_a_teacher_is_fine_tuned_once_and_kept(
    hub: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(photos, tmp_path / "out") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "gets a new last layer and is fine-tuned first" in said
    tuned = RunFolder(tmp_path / "out" / f"teacher-timm_{NAME}-fine-tuned")
    facts, begun = tuned.summary(), tuned.config()
    assert facts["preprocessing"]["size"] == [160, 160]
    assert begun.student.pretrained
    assert (begun.method.name, begun.epochs) == ("ce", 2)
    (student,) = (tmp_path / "out").glob("timm_*__resnet8/kd/seed-0")
    learnt = RunFolder(student)
    assert learnt.summary()["teacher_top1"] == facts["last_top1"]
    assert learnt.config().teacher == Network(f"timm:{NAME}", str(tuned.student), pretrained=True)
    written = tuned.student.stat().st_mtime_ns
    assert train(photos, tmp_path / "out", "--method", "dist") == 0  # another method learns from the same teacher
    assert tuned.student.stat().st_mtime_ns == written


def test_a_file_with_the_library_s_weights_is_fine_tuned_too(hub: Path, photos: Path, tmp_path: Path) -> None:
    file = hub.rename(tmp_path / "fetched.safetensors")
    assert train(photos, tmp_path / "out", "--teacher-checkpoint", file) == 0
    begun = RunFolder(tmp_path / "out" / f"teacher-timm_{NAME}-fine-tuned").config().student
    assert begun == Network(f"timm:{NAME}", str(file), pretrained=True)


def test_a_file_for_other_classes_names_the_remedy(
    hub: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["train", "folder", "--data", photos, "--teacher", f"timm:{NAME}", "--teacher-checkpoint", hub]
    given += ["--student", "resnet8", "--epochs", "1", "--out", tmp_path, "data.size=16", "data.batch_size=8"]
    assert main([str(word) for word in given]) == 2
    error = capsys.readouterr().err
    assert "it has 1000 classes" in error
    assert "teacher.pretrained=true" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("images", "batch", "epochs"), [(64, 64, 30), (64 * 30, 64, 10), (64 * 1000, 64, 5), (8, 8, 30)]
)
def test_its_length_follows_from_the_number_of_images(images: int, batch: int, epochs: int) -> None:
    from dataclasses import replace

    run = folder.teacher(name="timm:resnet18")
    run = replace(run, data=replace(run.data, batch_size=batch))
    assert fine_tuning(run, Network("timm:resnet18", pretrained=True), images).epochs == epochs


def test_transformers_are_fine_tuned_by_adamw_and_others_by_sgd() -> None:
    for name, kind in (
        ("timm:vit_tiny_patch16_224", "adamw"),
        ("timm:resnet18", "sgd"),
        ("timm:convnext_atto", "adamw"),
    ):
        assert fine_tuning(folder.teacher(name=name), Network(name, pretrained=True), 100).optimizer.name == kind


def test_own_weights_for_other_classes_are_fine_tuned_as_the_error_says(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The remedy of the first sentence is followed to the letter, and leads to a student."""
    monkeypatch.chdir(tmp_path)
    network = "nn.Sequential(nn.Flatten(), nn.Linear(768, num_classes))"
    Path("mine.py").write_text(f"from torch import nn\n\ndef net(num_classes):\n    return {network}\n")
    torch.save(create("mine.py:net", num_classes=7).state_dict(), "seven.pth")
    words = ["train", "folder", "--data", str(photos), "--teacher", "mine.py:net", "--teacher-checkpoint", "seven.pth"]
    words += ["--student", "mine.py:net", "--epochs", "1", "--teacher-epochs", "1", "--out", "out"]
    assert main(words) == 2
    assert "teacher.pretrained=true fine-tunes such weights first" in capsys.readouterr().err
    assert main([*words, "teacher.pretrained=true"]) == 0
    said = capsys.readouterr().out
    assert "begins with the weights in seven.pth" in said
    assert "your own network, taken for a convolutional one" in said
    assert "is fine-tuned first" in said


DETECTOR = "fasterrcnn-mobilenet_v3_small+fpn16+proposals20+anchors8"


@pytest.fixture
def backbones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, torch.Tensor]]:
    """Weights of ImageNet where torchvision keeps them, of the networks that dense ones are built on."""
    library, found = pytest.importorskip("torchvision").models, {}
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (folder := tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    torch.manual_seed(0)
    for name, kind in ("mobilenet_v3_large", "IMAGENET1K_V1"), ("mobilenet_v3_small", "IMAGENET1K_V1"):
        found[name] = library.get_model(name).state_dict()
        url = library.get_model_weights(name)[kind].url
        torch.save(found[name], folder / url.rpartition("/")[2])
    return found


LRASPP = "torchvision:lraspp_mobilenet_v3_large"
OF_PIXELS = ("segmentation", LRASPP, "tests.dense.nets:plain", "data.crop=[32, 32]", "data.batch_size=3")
OF_BOXES = ("detection", DETECTOR, "tests.detection.nets:small", "data.size=64", "data.batch_size=4")


def dense(root: Path, given: tuple[str, ...], out: Path, *words: str) -> int:
    recipe, teacher, student, *changes = given
    nets = ["--data", str(root), "--teacher", teacher, "--student", student, "--epochs", "1", "--teacher-epochs", "2"]
    run = ["train", recipe, *nets, *changes, "device=cpu", "threads=1", "--out", str(out), "--no-export"]
    return main([*run, "teacher.pretrained=true", *words])


@pytest.mark.parametrize("given", [OF_PIXELS, OF_BOXES])
def test_dense_weights_are_those_of_the_encoder_so_the_teacher_is_trained_first_and_kept(
    given: tuple[str, ...], backbones: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if given is OF_BOXES:
        pytest.importorskip("faster_coco_eval")
    root = (of_pixels.camvid if given is OF_PIXELS else of_boxes.coco)(tmp_path / "camvid")
    assert dense(root, given, tmp_path / "out") == 0
    said = " ".join(capsys.readouterr().out.split())
    (folder,) = (tmp_path / "out").glob("teacher-*-fine-tuned")
    rate = {"segmentation": "0.02", "detection": "0.01"}[given[0]]  # the recipe's own: decoder and head begin anew
    assert f"the teacher is trained first, beginning with them (sgd at {rate}, 2 epochs, kept in {folder})" in said
    tuned, (learnt,) = RunFolder(folder), (tmp_path / "out").glob("*__*/kd/seed-0")
    assert tuned.config().student == Network(given[1], pretrained=True)
    assert (tuned.config().method.name, tuned.config().epochs) == ("ce", 2)
    assert RunFolder(learnt).config().teacher == Network(given[1], str(tuned.student), pretrained=True)
    written = tuned.student.stat().st_mtime_ns
    assert dense(root, given, tmp_path / "out", "--method", "dkd") == 0
    assert tuned.student.stat().st_mtime_ns == written
    file = str(tuned.student)
    assert dense(root, given, tmp_path / "given", "--teacher-checkpoint", file) == 0  # its head knows these classes
    assert not list((tmp_path / "given").glob("teacher-*"))


@pytest.mark.parametrize("name", [LRASPP, DETECTOR])
def test_a_dense_teacher_with_a_new_head_is_never_built_as_if_it_knew_something(name: str, backbones: dict) -> None:
    with pytest.raises(OtherHead, match=r"weights are its encoder's.*a config wants the weights that came out"):
        build_teacher(Network(name, pretrained=True), 3)
    net = build(Network(name, pretrained=True), 3, new_head=True)
    theirs = backbones["mobilenet_v3_large" if name == LRASPP else "mobilenet_v3_small"]["features.0.0.weight"]
    assert torch.equal(next(iter(net.state_dict().values())), theirs)


def test_weights_that_know_no_more_than_guessing_are_told_of_pixels_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, file = of_pixels.camvid(tmp_path / "camvid"), tmp_path / "random.pt"
    torch.manual_seed(0)
    torch.save(create("tests.dense.nets:plain", num_classes=11).state_dict(), file)
    words = ["train", "segmentation", "--data", str(root), "--teacher", "tests.dense.nets:plain", "--student"]
    words += ["tests.dense.nets:plain", "--teacher-checkpoint", str(file), "data.crop=[16, 16]", "data.batch_size=3"]
    assert main([*words, "--epochs", "1", "device=cpu", "threads=1", "--no-export", "--out", str(tmp_path / "o")]) == 0
    assert "that is no more than guessing gives" in " ".join(capsys.readouterr().out.split())
