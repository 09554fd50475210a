"""A training set that is thinned from class to class: how many images stay, which, and where that is refused."""

from __future__ import annotations

import pytest
import torch

from fractionate.config.data import Data
from fractionate.data import Labelled, SmallImages, long_tailed
from fractionate.data.labelled import few
from fractionate.train.sources import sources


def images(per_class: int, classes: int) -> Labelled:
    target = torch.arange(per_class * classes) % classes
    return Labelled(torch.arange(len(target)).view(-1, 1, 1, 1).to(torch.uint8), target, classes)


@pytest.mark.parametrize(("imbalance", "total"), [(10, 19_573), (50, 12_608), (100, 10_847)])
def test_cifar100_has_the_sizes_that_the_field_prints(imbalance: float, total: int) -> None:
    kept = long_tailed(images(500, 100), imbalance).target.bincount()
    assert int(kept.sum()) == total
    assert (int(kept[0]), int(kept[-1])) == (500, 500 // imbalance)


def test_the_first_images_stay_in_their_order() -> None:
    kept = long_tailed(images(4, 3), 4)
    assert kept.target.tolist() == [0, 1, 2, 0, 1, 0, 0]
    assert kept.images.flatten().tolist() == [0, 1, 2, 3, 4, 6, 9]


def test_an_imbalance_of_one_keeps_the_smallest_class_of_all() -> None:
    assert torch.equal(long_tailed(images(5, 3), 1).target, few(images(5, 3), 5).target)


@pytest.mark.parametrize("imbalance", [0.5, 6.0, float("nan")])
def test_a_class_without_images_is_refused(imbalance: float) -> None:
    with pytest.raises(ValueError, match=r"imbalance must lie in 1\.\.5"):
        long_tailed(images(5, 3), imbalance)


def test_a_run_trains_on_the_long_tail_and_is_tested_on_all() -> None:
    train, test = sources(Data(labels_per_class=20, imbalance=10.0), 0, torch.device("cpu"))
    whole = sources(Data(), 0, torch.device("cpu"))[1]
    assert isinstance(train, SmallImages)
    assert train.target.bincount().tolist() == [20, 15, 11, 9, 7, 5, 4, 3, 2, 2]
    assert test.count == whole.count


@pytest.mark.parametrize(("options", "message"), [({"imbalance": 0.5}, "imbalance"), ({"name": "folder"}, "folder")])
def test_a_wrong_imbalance_is_refused_by_the_config(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Data(**{"imbalance": 10.0, **options})  # type: ignore[arg-type]
