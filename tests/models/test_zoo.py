"""Networks by name: what a name builds, and what is said about a name that builds nothing."""

import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

from fractionate import models


@pytest.mark.parametrize("name", ["convnet_4_8", "convnet_8_16", "convnet_16_32_64"])
def test_a_convnet_gives_one_logit_per_class(name: str) -> None:
    assert models.create(name, num_classes=7)(torch.zeros(3, 1, 8, 8)).shape == (3, 7)


def test_the_digits_student_is_much_smaller_than_its_teacher() -> None:
    student, teacher = (
        sum(p.numel() for p in models.create(name, num_classes=10).parameters())
        for name in ("convnet_8_16", "convnet_16_32_64")
    )
    assert teacher > 10 * student


def test_a_published_spelling_names_the_same_network() -> None:
    theirs, ours = (models.create(name, num_classes=5) for name in ("ShuffleV1", "shufflenet_v1"))
    assert {k: v.shape for k, v in theirs.state_dict().items()} == {k: v.shape for k, v in ours.state_dict().items()}


def test_features_end_where_the_classifier_begins() -> None:
    net = models.create("convnet_8_16", num_classes=10).eval()
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(net.fc(net.pool(net.features(x)[-1]).flatten(1)), net(x))


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown model 'convnet_8_61': did you mean 'convnet_8_16'"):
        models.create("convnet_8_61", num_classes=10)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet18"])
def test_a_missing_library_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = name.partition(":")[0]
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=f"model '{name}' needs the package '{library}', which is not installed"):
        models.create(name, num_classes=10)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_library_builds_its_network_with_our_classes(library: str) -> None:
    pytest.importorskip(library)
    net = models.create(f"{library}:resnet18", num_classes=7).eval()
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
    with pytest.raises(ValueError, match="did you mean 'resnet18'"):
        models.create(f"{library}:resnet81", num_classes=7)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    mine = types.ModuleType("mine_for_tests")
    mine.build = lambda num_classes: nn.Linear(4, num_classes)
    mine.not_a_network = lambda num_classes: num_classes
    monkeypatch.setitem(sys.modules, mine.__name__, mine)
    return mine


def test_a_function_of_yours_is_a_model(module: types.ModuleType) -> None:
    assert models.create("mine_for_tests:build", num_classes=3).out_features == 3


def test_a_file_of_the_current_folder_is_found_by_the_program_too(tmp_path: Path) -> None:
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\ndef build(num_classes): return nn.Linear(4, num_classes)\n"
    )
    code = "import fractionate as fr; print(fr.models.create('my_nets:build', num_classes=3))"
    program = [
        sys.executable,
        "-P",
        "-c",
        code,
    ]  # -P: like an installed program, which looks in its own folder
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert "out_features=3" in done.stdout, done.stderr


def test_mistakes_in_your_own_names_are_explained(module: types.ModuleType) -> None:
    with pytest.raises(ValueError, match="unknown function of mine_for_tests 'biuld': did you mean 'build'"):
        models.create("mine_for_tests:biuld", num_classes=3)
    with pytest.raises(ValueError, match=r"must return a torch\.nn\.Module, got int"):
        models.create("mine_for_tests:not_a_network", num_classes=3)
    with pytest.raises(ImportError, match="needs the package 'no_such_module_of_mine'"):
        models.create("no_such_module_of_mine:build", num_classes=3)


def test_networks_without_published_weights_refuse_pretrained() -> None:
    with pytest.raises(ValueError, match="has no pretrained weights"):
        models.create("convnet_8_16", num_classes=10, pretrained=True)


def test_the_published_batch_norm_option_reaches_the_wide_resnets_only() -> None:
    assert models.create("wrn_16_1", num_classes=7, published_bn=True).published_bn
    assert not models.create("wrn_16_1", num_classes=7).published_bn
    with pytest.raises(ValueError, match="'resnet8' has no option published_bn; the wide ResNets have it: wrn_16_1"):
        models.create("resnet8", num_classes=7, published_bn=True)
