"""What a student says about pictures, beside its teacher, with the pixels that both were trained on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from fractionate.cli import main
from fractionate.config.data import Data
from fractionate.config.run import Network
from fractionate.data import Normalization, digits
from fractionate.models import create, load_checkpoint
from fractionate.runs.checkpoint import save_weights
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from tests.teachers.test_prepared import NAME, WANTED, bare
from tests.train.runs import tiny

LEVELS = (0, 20, 200, 235)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photos (later gone), a run on them, and its teacher's weights."""
    root = tmp_path_factory.mktemp("world")
    for part in ("train", "test"):
        for k, label in enumerate(("night", "noon")):
            (root / "photos" / part / label).mkdir(parents=True)
            for i in range(4):
                Image.new("RGB", (24 + i, 30), (200 * k + 5 * i,) * 3).save(root / "photos" / part / label / f"{i}.png")
    torch.manual_seed(3)
    save_weights(create("resnet14", num_classes=2), root / "teacher.safetensors")
    teacher = Network("resnet14", checkpoint=str(root / "teacher.safetensors"))
    data = Data("folder", root=str(root / "photos"), batch_size=4)
    run = tiny("kd", student=Network("resnet8"), teacher=teacher, data=data, epochs=1)
    run_in_folder(run, root / "run")
    shutil.rmtree(root / "photos")
    draw = torch.Generator().manual_seed(0)
    for i, size in enumerate(((60, 40), (24, 24), (40, 31))):
        noise = torch.randint(0, 256, (size[1], size[0], 3), dtype=torch.uint8, generator=draw)
        Image.fromarray(noise.numpy()).save(root / f"{i}.png")
    Image.new("L", (50, 50), 220).save(root / "3.png")
    return root


def by_hand(world: Path, picture: Path, name: str, weights: Path) -> Tensor:
    """The slow twin: Pillow resizes the shorter side to 24 and cuts out the middle; then the bare network."""
    images = RunFolder(world / "run").summary()["images"]
    image = Image.open(picture).convert("RGB")
    short = min(image.size)
    image = image.resize(
        tuple(24 if x == short else int(24 * x / short) for x in image.size), Image.Resampling.BILINEAR
    )
    left, top = (round((x - 24) / 2) for x in image.size)
    pixels = torch.frombuffer(bytearray(image.crop((left, top, left + 24, top + 24)).tobytes()), dtype=torch.uint8)
    x = pixels.view(24, 24, 3).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(images[key])[:, None, None] for key in ("mean", "std"))
    net = create(name, num_classes=2).eval()
    load_checkpoint(net, weights)
    with torch.no_grad():
        return net((x - mean) / std).softmax(1)[0]


def test_both_networks_say_what_they_say_by_hand(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = [world / f"{i}.png" for i in range(4)]
    assert main(["predict", str(world / "run"), *map(str, pictures), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [one["picture"] for one in said] == [str(p) for p in pictures]
    for one, picture in zip(said, pictures, strict=True):
        for who, name, file in (
            ("student", "resnet8", world / "run" / "student.safetensors"),
            ("teacher", "resnet14", world / "teacher.safetensors"),
        ):
            expected = by_hand(world, picture, name, file)
            found = {answer["class"]: answer["probability"] for answer in one[who]}
            assert list(found.values()) == sorted(found.values(), reverse=True)
            for k, label in enumerate(("night", "noon")):
                assert found[label] == pytest.approx(float(expected[k]), abs=1e-5)


def test_it_is_said_in_words(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(world / "run"), str(world / "0.png"), str(world / "1.png"), "--top", "1"]) == 0
    out = capsys.readouterr().out
    assert out.count("  student  n") == out.count("  teacher  n") == 2
    assert "of 2 pictures" in out
    assert out.count(" %") == 4


def test_without_the_teacher_s_weights_the_student_speaks_alone(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(world / "run", tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("teacher.safetensors", "gone.safetensors"))
    assert main(["predict", str(tmp_path / "run"), str(world / "0.png")]) == 0
    out = capsys.readouterr().out
    assert "no answers of the teacher resnet14" in out
    assert "  teacher  " not in out


def test_another_teacher_than_the_run_s_is_not_taken_for_it(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = world / "teacher.safetensors"
    shutil.copy(weights, tmp_path / "kept")
    torch.manual_seed(4)
    save_weights(create("resnet14", num_classes=2), weights)
    words = ["predict", str(world / "run"), str(world / "0.png")]
    try:
        assert main(words) == 0
        assert f"{weights} is not the teacher of this run any more" in " ".join(capsys.readouterr().out.split())
        assert main([*words, "--json"]) == 0
        said = capsys.readouterr()
        assert json.loads(said.out)[0]["teacher"]
        assert "is not the teacher of this run any more" in said.err
    finally:
        shutil.copy(tmp_path / "kept", weights)
    assert main(words) == 0
    assert "any more" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["run", "nothing.png"], "there is no picture"),
        (["run", "run"], "is a folder; name the pictures in it"),
        (["run", "teacher.safetensors"], "cannot be read"),
        (["run"], "name at least one picture"),
        (["elsewhere", "0.png"], "holds no finished run"),
        (["run", "0.png", "--top", "0"], "--top must be at least 1"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    words: list[str], error: str, world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    assert main(["predict", *words]) == 2
    said = capsys.readouterr()
    assert error in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_a_student_with_pixels_of_its_own_gets_them_and_its_code_needs_permission(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_in_folder(replace(tiny("ce", student=Network(NAME)), epochs=1), tmp_path / "run")
    image = digits("test").images[0].reshape(8, 8)
    Image.fromarray(image.numpy()).save(tmp_path / "digit.png")
    words = ["predict", str(tmp_path / "run"), str(tmp_path / "digit.png"), "--json", "--top", "10"]
    assert main(words) == 2
    assert "--own-code" in capsys.readouterr().err
    assert main([*words, "--own-code"]) == 0
    (said,) = json.loads(capsys.readouterr().out)
    with torch.no_grad():
        expected = bare(tmp_path / "run" / "student.safetensors")(WANTED(image[None, None] / 255)).softmax(1)[0]
    assert said["teacher"] is None
    found = {answer["class"]: answer["probability"] for answer in said["student"]}
    assert [found[str(k)] for k in range(10)] == pytest.approx(expected.tolist(), abs=1e-3)  # grey, rounded to bytes


def test_a_run_of_an_earlier_release_is_read_from_its_data(world: Path, tmp_path: Path) -> None:
    from fractionate.probe.predict import _frame

    run_in_folder(tiny("ce", epochs=1), tmp_path / "run")
    target = RunFolder(tmp_path / "run")
    facts = target.summary()
    del facts["images"]["shape"]
    frame = _frame(facts, target.config())
    assert frame.shape == (1, 8, 8)
    assert frame.rule == Normalization.of(digits("train").images)
