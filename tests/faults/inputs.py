"""Faults of words, files and data: what a run is made of."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fractionate.config.data import Data
from fractionate.config.files import from_yaml, read_config
from fractionate.config.method import MethodSpec
from fractionate.config.optimizers import LearningRate, Optimizer
from fractionate.config.run import Monitors, Network
from fractionate.data import Normalization, SmallImages
from fractionate.data.cifar import cifar, read_arrays
from fractionate.data.folder import folder
from fractionate.models import create
from fractionate.runs.checkpoint import save_weights
from fractionate.runs.stop import deadline
from fractionate.train.build import prepare
from fractionate.train.checks import check_training
from tests.faults.bench import Bench, Fault

BASE = "student: convnet_4_8\nmethod: ce\n"


class Code:
    """What a pickle that wants to run code looks like."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this must not run",)


def built(text: str) -> None:
    MethodSpec.parse(text).build()


def config(bench: Bench, content: str) -> None:
    file = bench.folder / "config.yaml"
    file.write_text(content)
    read_config(file)


def network(bench: Bench, name: str = "convnet_8_16", classes: int = 10) -> Path:
    file = bench.folder / "net.safetensors"
    save_weights(create(name, num_classes=classes), file)
    return file


def loaded(bench: Bench, file: Path) -> None:
    execute_with = replace(bench.taught, teacher=Network("convnet_8_16", checkpoint=str(file)))
    bench.teach(teacher=execute_with.teacher)


def written(bench: Bench, name: str, content: bytes) -> Path:
    file = bench.folder / name
    file.write_bytes(content)
    return file


def saved(bench: Bench, name: str, content: object) -> Path:
    torch.save(content, bench.folder / name)
    return bench.folder / name


def truncated(bench: Bench, file: Path) -> Path:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    return file


def with_nan(bench: Bench) -> Network:
    net = create("convnet_4_8", num_classes=10)
    nn.init.constant_(next(net.parameters()), float("nan"))
    save_weights(net, bench.folder / "nan.safetensors")
    return Network("convnet_4_8", checkpoint=str(bench.folder / "nan.safetensors"))


def linear(classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


def bent(how: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: how(value) for name, value in create("convnet_8_16", num_classes=10).state_dict().items()}


def latin(bench: Bench) -> None:
    read_config(written(bench, "config.yaml", f"{BASE}# caf\xe9\n".encode("latin-1")))


def gap(bench: Bench) -> None:
    """Three classes, the second one without an image."""
    pixels, target = torch.zeros(20, 1, 8, 8, dtype=torch.uint8), torch.arange(20) % 2 * 2
    source = SmallImages(pixels, target, 3, Normalization((0.5,), (0.5,)), batch_size=5)
    check_training(prepare(bench.run, train=source, test=source))


def taught_on(bench: Bench, **images: list[Any]) -> None:
    """The teacher's run folder says what it was trained on; two classes are enough."""
    facts = {"classes": ["cat", "dog"], "mean": [0.3], "std": [0.2]} | images
    (bench.folder / "summary.json").write_text(json.dumps({"images": facts}))
    pixels, rule = torch.zeros(20, 1, 8, 8, dtype=torch.uint8), Normalization((0.3,), (0.2,))
    source = SmallImages(pixels, torch.arange(20) % 2, 2, rule, batch_size=5, classes=("cat", "dog"))
    teacher = Network("convnet_8_16", checkpoint=str(network(bench, classes=2)))
    check_training(prepare(replace(bench.taught, teacher=teacher), train=source, test=source))


def wrong_teacher(bench: Bench) -> None:
    """It says the class after the right one, always."""
    test = prepare(bench.run).test
    right = torch.cat([nn.functional.one_hot(b.target, 10) for b in test.batches(1)]).float()

    class Wrong(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return right[: len(x)].roll(1, dims=1)

    check_training(prepare(bench.taught, teacher=Wrong()))


def flat_student(bench: Bench, batch: int) -> None:
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    check_training(prepare(replace(bench.run, data=Data(labels_per_class=2, batch_size=batch)), student=student))


def images(target: list[int], dtype: torch.dtype = torch.uint8) -> None:
    pixels = torch.zeros(len(target), 1, 4, 4, dtype=dtype)
    SmallImages(pixels, torch.tensor(target, dtype=torch.int64), 3, Normalization((0.5,), (0.5,)), batch_size=2)


def photos(bench: Bench, *classes: str) -> Path:
    from PIL import Image

    root = bench.folder / "photos"
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (8, 8)).save(root / name / f"{number}.png")
    return root


def unreadable(bench: Bench) -> None:
    root = photos(bench, "cat", "dog")
    for file in (root / "cat").iterdir():
        file.write_bytes(b"\x89PNG nothing more")
    folder(root)


FAULTS = [
    Fault("a misspelled method", lambda b: built("dkdd")),
    Fault("a misspelled argument of a method", lambda b: built("dkd(bet=2)")),
    Fault("an argument out of range", lambda b: built("kd(temperature=0)")),
    Fault("text that is no method", lambda b: built("kd +")),
    Fault("a wrapper without a method", lambda b: built("dot")),
    Fault("a method that DeepKD cannot take apart", lambda b: built("dist+deepkd")),
    Fault("a momentum shift that leaves 0..1", lambda b: b.teach(method=MethodSpec.parse("dkd+dot(delta=0.5)"))),
    Fault("k beyond the number of classes", lambda b: b.teach(method=MethodSpec.parse("gdkd(k=11)"))),
    Fault("a two-view method without a second view", lambda b: b.teach(method=MethodSpec.parse("mlkd"))),
    Fault("a method that needs a teacher, without one", lambda b: b.train(method=MethodSpec.parse("kd"))),
    Fault("a misspelled field", lambda b: config(b, BASE + "epoch: 3\n")),
    Fault("a field of the wrong type", lambda b: config(b, BASE + "optimizer: {lr: fast}\n")),
    Fault("a misspelled choice", lambda b: config(b, BASE + "data: {name: cifar}\n")),
    Fault("broken YAML", lambda b: config(b, BASE + "data: {name: [\n"), foreign="config.yaml:"),
    Fault("YAML without fields", lambda b: config(b, "- ce\n- kd\n")),
    Fault("YAML that asks for code", lambda b: config(b, "!!python/object/apply:print [x]\n"), foreign="config.yaml:"),
    Fault("YAML that unfolds to more than memory holds", lambda b: config(b, "a: &a [1, 1]\nb: [*a, *a]\n")),
    Fault(
        "YAML nested a thousand times", lambda b: config(b, f"{BASE}data: {'[' * 1000}{']' * 1000}\n"), foreign="levels"
    ),
    Fault("a field given twice", lambda b: config(b, f"{BASE}epochs: 2\nepochs: 3\n"), foreign="twice"),
    Fault("a number of five thousand digits", lambda b: config(b, f"{BASE}epochs: {'9' * 5000}\n"), foreign="YAML:"),
    Fault("a config in another encoding", latin),
    Fault("a method of ten thousand brackets", lambda b: built(f"{'(' * 5000}kd{')' * 5000}")),
    Fault("no config file", lambda b: read_config(b.folder / "nowhere.yaml")),
    Fault("words in the place of True and False", lambda b: built("deepkd(normalize_gain=no)")),
    Fault("a weight below 0", lambda b: built("dkd(alpha=-1)")),
    Fault("a label smoothing above 1", lambda b: built("ce(label_smoothing=2)")),
    Fault("no epochs", lambda b: from_yaml(BASE + "epochs: 0\n")),
    Fault("a negative learning rate", lambda b: from_yaml(BASE + "optimizer: {lr: -0.1}\n")),
    Fault("an infinite learning rate", lambda b: from_yaml(BASE + "optimizer: {lr: .inf}\n")),
    Fault("a momentum of 1", lambda b: from_yaml(BASE + "optimizer: {momentum: 1.0}\n")),
    Fault("a seed that no generator takes", lambda b: from_yaml(BASE + f"seed: {2**32}\n")),
    Fault("no threads", lambda b: from_yaml(BASE + "threads: 0\n")),
    Fault("no checkpoint kept", lambda b: from_yaml(BASE + "keep: 0\n")),
    Fault("a mixup that is no number", lambda b: from_yaml(BASE + "data: {mixup: .nan}\n")),
    Fault("a size for images that are in no folder", lambda b: from_yaml(BASE + "data: {size: 16}\n")),
    Fault("Nesterov's step with dampening", lambda b: Optimizer(nesterov=True, dampening=0.5)),
    Fault("milestones that go back", lambda b: LearningRate("step", milestones=(3, 1))),
    Fault("a minimum under another schedule", lambda b: LearningRate("constant", minimum=0.5)),
    Fault("a shift beyond the image", lambda b: b.train(data=Data(labels_per_class=2, batch_size=5, shift=8))),
    Fault("an average without memory", lambda b: b.train(ema=1.0)),
    Fault("milestones under another schedule", lambda b: LearningRate("cosine", milestones=(3,))),
    Fault("a window of one gradient", lambda b: Monitors(gsnr_window=1)),
    Fault("a negative mixup", lambda b: Data(mixup=-1.0)),
    Fault("a time budget in unknown words", lambda b: deadline("nine minutes")),
    Fault("a misspelled network", lambda b: b.train(student=Network("convnet_4_9"))),
    Fault("a network of a package that is not there", lambda b: b.train(student=Network("nowhere.at.all:net"))),
    Fault(
        "weights of a library for a network that has none", lambda b: b.train(student=Network("resnet8", None, True))
    ),
    Fault("no file with the teacher's weights", lambda b: loaded(b, b.folder / "nowhere.pth")),
    Fault("a weight file that asks for code", lambda b: loaded(b, saved(b, "a.pth", Code())), foreign="alone ("),
    Fault(
        "a truncated weight file",
        lambda b: loaded(b, truncated(b, saved(b, "a.pth", {"w": torch.ones(999)}))),
    ),
    Fault(
        "a weight file that is something else",
        lambda b: loaded(b, written(b, "a.safetensors", b"nothing")),
        foreign="file:",
    ),
    Fault("a truncated safetensors file", lambda b: loaded(b, truncated(b, network(b))), foreign="file:"),
    Fault("a weight file without weights", lambda b: loaded(b, saved(b, "a.pth", {"epoch": 3}))),
    Fault("complex weights", lambda b: loaded(b, saved(b, "a.pth", bent(lambda x: x.to(torch.complex64))))),
    Fault("weights without numbers", lambda b: loaded(b, saved(b, "a.pth", bent(lambda x: x.to("meta"))))),
    Fault("a network that is called in another way", lambda b: b.train(student=Network("os:system"))),
    Fault("the weights of another network", lambda b: loaded(b, network(b, "resnet8"))),
    Fault("the weights of a network for other classes", lambda b: loaded(b, network(b, classes=100))),
    Fault("a student that starts from NaN", lambda b: b.train(student=with_nan(b))),
    Fault("a student for other classes", lambda b: check_training(prepare(b.run, student=linear(12)))),
    Fault("a teacher for other classes", lambda b: check_training(prepare(b.taught, teacher=linear(12)))),
    Fault("a teacher whose classes are in another order", wrong_teacher),
    Fault("a teacher trained on the classes in another order", lambda b: taught_on(b, classes=["dog", "cat"])),
    Fault("a teacher trained on images normalised otherwise", lambda b: taught_on(b, mean=[0.7])),
    Fault("a batch larger than the data", lambda b: b.train(data=Data(labels_per_class=2, batch_size=64))),
    Fault("a last batch of one image under batch norm", lambda b: flat_student(b, 19)),
    Fault("batches of one image under batch norm", lambda b: flat_student(b, 1)),
    Fault("more labels per class than there are", lambda b: b.train(data=Data(labels_per_class=1000))),
    Fault("classes without images", gap),
    Fault("labels outside their range", lambda b: images([0, 3])),
    Fault("images that are no bytes", lambda b: images([0, 1], torch.float32)),
    Fault("no images at all", lambda b: images([])),
    Fault("a CIFAR folder that is not there", lambda b: cifar("cifar10", b.folder, download=False), foreign="lacks"),
    Fault("a data file that asks for code", lambda b: read_arrays(written(b, "data_batch_1", pickle.dumps(Code())))),
    Fault("a damaged data file", lambda b: read_arrays(written(b, "data_batch_1", b"\x80\x04")), foreign="read:"),
    Fault("an image folder that is not there", lambda b: folder(b.folder / "nowhere"), needs="PIL"),
    Fault("an image folder with one class", lambda b: folder(photos(b, "cat")), needs="PIL"),
    Fault("images that cannot be read", unreadable, foreign="cannot be read", needs="PIL"),
]
