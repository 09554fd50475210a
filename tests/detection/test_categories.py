"""Detectors with weights for all of COCO: heads that fit are loaded, rows picked by name, or words say why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import get_model

from fractionate.config import Network
from fractionate.models import OtherHead
from fractionate.models.categories import coco_names
from fractionate.models.detection import whole_logits
from fractionate.train.networks import build, build_teacher

NAME = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"
SOME = ("person", "toothbrush", "cat")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """What torchvision keeps: 91 numbers of every region, the background first; and the network itself."""
    torch.manual_seed(0)
    theirs: Any = get_model(NAME.partition(":")[2], weights=None, weights_backbone=None, num_classes=91)
    path = tmp_path_factory.mktemp("weights") / "coco.pth"
    torch.save(theirs.state_dict(), path)
    return path, theirs.eval()


def test_a_head_that_fits_is_loaded_as_it_is(file: tuple[Path, Any]) -> None:
    net = build(Network(NAME, str(file[0])), num_classes=90)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), file[1].state_dict().values(), strict=True))


def test_the_rows_of_named_categories_answer_as_they_did_among_all(file: tuple[Path, Any]) -> None:
    net: Any = build_teacher(Network(NAME, str(file[0])), 3, SOME).eval()
    at = [coco_names().index(name) for name in SOME]
    assert at == [1, 90, 17]
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        own, all_of_them = whole_logits(net, images), whole_logits(file[1], images)
    torch.testing.assert_close(own, all_of_them[:, [i - 1 for i in at]], rtol=0, atol=1e-5)
    offsets, whole = (x.roi_heads.box_predictor.bbox_pred.weight.view(-1, 4, 1024) for x in (net, file[1]))
    assert torch.equal(offsets, whole[[0, *at]])


def test_other_categories_are_refused_and_the_remedy_is_named(file: tuple[Path, Any]) -> None:
    said = r"it has 91 classes, the network 4, the background among them; create it with num_classes=90; .*fine-tunes"
    for classes in ((), ("person", "cat", "unicorn"), ("person", "cat", "N/A")):
        with pytest.raises(OtherHead, match=said):
            build_teacher(Network(NAME, str(file[0])), 3, classes)


def test_for_a_student_that_begins_with_them_the_head_is_new_and_the_rest_is_theirs(file: tuple[Path, Any]) -> None:
    net: Any = build(Network(NAME, str(file[0]), pretrained=True), 3, new_head=True, classes=("a", "b", "c"))
    for name, value in net.state_dict().items():
        if "box_predictor" not in name:
            assert torch.equal(value, file[1].state_dict()[name]), name


def test_weights_of_another_backbone_are_refused(file: tuple[Path, Any]) -> None:
    with pytest.raises(ValueError, match=r"does not fit the network: .* missing"):
        build_teacher(Network("fasterrcnn-resnet18", str(file[0])), 3, SOME)
