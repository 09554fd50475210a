"""A network in a folder of its own comes back as it was, here and in timm."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fractionate.models import Description, create, load_exported, save_exported

DIGITS = Description("convnet_4_8", 3, (1, 8, 8), mean=(0.3,), std=(0.4,), classes=("a", "b", "c"))
COLOUR = {"num_classes": 3, "input_size": (3, 32, 32), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.2)}


def pixels(description: Description, n: int = 5) -> torch.Tensor:
    return torch.randint(0, 256, (n, *description.input_size), dtype=torch.uint8)


def save(description: Description, folder: Path) -> torch.nn.Module:
    net = create(description.name, num_classes=description.num_classes, stem=description.stem).eval()
    save_exported(net, description, folder)
    return net


def test_a_network_comes_back_with_its_logits_and_its_description(tmp_path: Path) -> None:
    net = save(DIGITS, tmp_path / "new" / "folder")
    again = load_exported(tmp_path / "new" / "folder")
    x = pixels(DIGITS)
    assert again.description == DIGITS
    assert not again.net.training
    assert torch.equal(again(x), net((x / 255 - 0.3) / 0.4))


def test_options_of_the_network_come_back(tmp_path: Path) -> None:
    save(replace(DIGITS, name="wrn_16_1", published_bn=True, **COLOUR), tmp_path)
    assert load_exported(tmp_path).net.published_bn


def test_images_that_are_no_raw_images_are_refused(tmp_path: Path) -> None:
    save(DIGITS, tmp_path)
    exported = load_exported(tmp_path)
    for images in (torch.zeros(2, 1, 8, 8), pixels(replace(DIGITS, **COLOUR)), pixels(DIGITS)[0]):
        with pytest.raises(ValueError, match=r"images must be uint8 \[n, 1, h, w\], got"):
            exported(images)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("changes", [{"mean": (0.1, 0.2)}, {"input_size": (1, 8)}, {"classes": ("a", "b")}])
def test_a_description_that_contradicts_itself_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Description"):
        replace(DIGITS, **changes)


def test_a_folder_without_a_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no exported network at .*config\.json is not there"):
        load_exported(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"architecture": "resnet18"}', '{"fractionate": {"name": "resnet8"}}'])
def test_a_config_of_somebody_else_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json (is no JSON|was not written by this version)"):
        load_exported(tmp_path)


@pytest.mark.parametrize("name", ["timm:resnet10t", "timm:mobilenetv3_small_050"])
def test_timm_alone_reads_its_own_networks(name: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", minversion="1.0.16")  # the first one that reads folders
    description = replace(DIGITS, name=name, **COLOUR)
    net = save(description, tmp_path)
    x = torch.randn(2, 3, 32, 32)
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert torch.equal(theirs(x), net(x))
    assert torch.equal(load_exported(tmp_path).net(x), net(x))
    assert (tuple(theirs.pretrained_cfg["mean"]), theirs.num_classes) == (description.mean, 3)


def test_a_changed_stem_comes_back_here_and_is_not_promised_to_timm(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    net = save(replace(DIGITS, name="timm:resnet10t", stem="small", **COLOUR), tmp_path)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(load_exported(tmp_path).net(x), net(x))
    assert set(json.loads((tmp_path / "config.json").read_text())) == {"fractionate"}
