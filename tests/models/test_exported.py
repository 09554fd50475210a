"""A network in a folder of its own comes back as it was, here and in timm."""

from __future__ import annotations

import json
import sys
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


def test_it_says_how_its_pixels_are_prepared() -> None:
    x = pixels(DIGITS)
    assert torch.allclose(DIGITS.preprocessing(x / 255), (x / 255 - 0.3) / 0.4)


def test_weights_that_two_layers_share_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tied_net_of_mine.py").write_text(
        "from torch import nn\n"
        "def net(num_classes):\n"
        "    made = nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes), nn.Identity())\n"
        "    made[2].again = made[1]\n"
        "    return made\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    mine = replace(DIGITS, name="tied_net_of_mine:net")
    net = save(mine, tmp_path / "out")
    with pytest.raises(ValueError, match="runs the code of tied_net_of_mine"):
        load_exported(tmp_path / "out")
    again = load_exported(tmp_path / "out", own_code=True)
    x = pixels(mine)
    assert torch.equal(again(x), net(again.normalize(x)))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("changes", [{"mean": 5}, {"input_size": 8}, {"classes": 3}])
def test_a_config_with_values_of_other_kinds_is_refused(changes: dict[str, object], tmp_path: Path) -> None:
    save(DIGITS, tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["fractionate"] |= changes
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="holds values of other kinds"):
        load_exported(tmp_path)
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="is no JSON"):
        load_exported(tmp_path)


def test_names_of_any_alphabet_come_back_and_the_file_is_plain_ascii(tmp_path: Path) -> None:
    odd = replace(DIGITS, classes=("\u732b", "caf\u00e9", "\udcff"))  # the last: of a folder whose name is no UTF-8
    save(odd, tmp_path)
    assert (tmp_path / "config.json").read_bytes().isascii()
    assert load_exported(tmp_path).description == odd


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
