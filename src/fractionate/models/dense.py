"""Networks that answer with a map of logits: what they return is understood, and those of libraries go by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from .._choices import unknown
from .._typing import Float
from .detection import PREFIX
from .foreign import described, fields_of, run_on
from .handled import name_of

MAIN, AUXILIARY = ("logits", "out"), "aux"  # as transformers' and torchvision's networks name their outputs
Build = Callable[[str, int, bool], nn.Module]


def pick_maps(output: Any, what: str = "network") -> Float[Tensor, "n c h w"]:
    """The map of logits in what a network returned, where it is clear which it is.

    Clear are: a floating-point tensor ``[n, c, h, w]``; a dict, a named tuple or an object whose field ``out`` (or
    ``logits``) holds one, as torchvision's and transformers' networks return; a dict, tuple or list with one such map.

    Args:
        output: what ``forward`` returned.
        what: what to call the network in the message.

    Raises:
        ValueError: it is not clear.

    Example:
        >>> import torch
        >>> pick_maps({"out": torch.zeros(1, 3, 8, 8), "aux": torch.zeros(1, 3, 8, 8)}).shape
        torch.Size([1, 3, 8, 8])
    """
    fields = fields_of(output)
    named = [fields[name] for name in MAIN if name in fields]
    found = [x for x in (named[:1] or fields.values()) if _is_map(x)]
    if len(found) != 1:
        raise ValueError(
            f"the {what} returned {described(output)}, in which its logits, floating-point [images, classes, height, "
            f"width], {'cannot be told apart' if found else 'are not found'}: let forward return them alone or as 'out'"
        )
    return found[0]


def maps_of(net: nn.Module, images: Tensor, what: str = "network", *, head: bool = False) -> Float[Tensor, "n c h w"]:
    """Run a network and take its map of logits (:func:`pick_maps`).

    Args:
        net: network, in the mode it is in.
        images: ``[n, ch, h, w]`` as it takes them.
        what: what to call it in messages.
        head: take the logits before they are enlarged, where it is known how (torchvision's networks and those of
            segmentation-models-pytorch); others give what they return.

    Raises:
        ValueError: it returned something else, or raised.

    Example:
        >>> import torch
        >>> maps_of(nn.Conv2d(1, 3, 1), torch.zeros(2, 1, 4, 4)).shape
        torch.Size([2, 3, 4, 4])
    """
    return main_and_auxiliary(net, images, what, head=head)[0]


def main_and_auxiliary(
    net: nn.Module, images: Tensor, what: str = "network", *, head: bool = False
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n c h2 w2"] | None]:
    """The same with the map of an auxiliary head, which is the field ``aux`` of what it returned, or ``None``."""
    heads = _heads(net) if head else {}
    with _listening(heads) as heard:
        output = run_on(net, images, what)
    found = {**{k: v for k, v in fields_of(output).items() if k == AUXILIARY and _is_map(v)}, **heard}
    main = found[MAIN[1]] if MAIN[1] in heard else pick_maps(output, f"{what} {name_of(net)}")
    if len(main) != len(images):
        raise ValueError(f"the {what} {name_of(net)} gave logits of {len(main)} images when asked about {len(images)}")
    return main, found.get(AUXILIARY)


def _heads(net: nn.Module) -> dict[str, nn.Module]:
    """The modules whose outputs are the logits before they are enlarged."""
    net = getattr(net, "net", net)  # behind a preparation of pixels
    last = getattr(net, "segmentation_head", None)
    if isinstance(last, nn.Sequential) and len(last):
        return {MAIN[1]: last[0]}
    names = {MAIN[1]: "classifier", AUXILIARY: "aux_classifier"}
    if not isinstance(getattr(net, "backbone", None), nn.Module):
        return {}
    found = {key: getattr(net, name, None) for key, name in names.items()}
    return {key: module for key, module in found.items() if isinstance(module, nn.Module)}


def aligned_corners(net: nn.Module) -> bool:
    """Whether a network enlarges its logits with aligned corners: where the logits of its head lie in the picture.

    Torchvision's networks do not, those of segmentation-models-pytorch say so in their head; what others return is
    enlarged here, with aligned corners (:func:`same_size`).

    Example:
        >>> aligned_corners(nn.Conv2d(3, 2, 1))
        True
    """
    net = getattr(net, "net", net)  # behind a preparation of pixels
    last = getattr(net, "segmentation_head", None)
    if isinstance(last, nn.Sequential):
        return all(m.align_corners for m in last if isinstance(m, nn.Upsample))
    return not any(kind.__module__.startswith("torchvision.") for kind in type(net).__mro__)


@contextmanager
def _listening(heads: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Note what some modules return meanwhile."""
    heard: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(lambda _, given, out, key=key: heard.__setitem__(key, out))
        for key, module in heads.items()
    ]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def is_dense(output: Any) -> bool:
    """Whether what a network returned is a map of logits, with more than one position.

    Example:
        >>> import torch
        >>> is_dense({"out": torch.zeros(1, 3, 8, 8)}), is_dense(torch.zeros(1, 3))
        (True, False)
    """
    fields = fields_of(output)
    main = next((fields[name] for name in MAIN if name in fields), output)
    return _is_map(main) and main.shape[2:].numel() > 1


def _is_map(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point() and x.ndim == 4


class OnlyMaps(nn.Module):
    """A network that returns its map of logits and nothing else, for those who take no other (exporters, say).

    Args:
        net: network, whose output :func:`pick_maps` understands.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Float[Tensor, "n c h w"]:
        """Images -> map of logits."""
        return pick_maps(self.net(images), name_of(self.net))


def torchvision_dense(models: ModuleType, name: str, num_classes: int, pretrained: bool) -> nn.Module | None:
    """A segmentation network of torchvision; ``None`` where it has none of that name.

    Args:
        models: ``torchvision.models``.
        name: such as ``"lraspp_mobilenet_v3_large"``; ``"deeplabv3_resnet50+aux"`` has an auxiliary head.
        num_classes: number of classes.
        pretrained: start from the library's ImageNet weights of the backbone; the heads are new.

    Raises:
        ValueError: an auxiliary head where the library has none.
    """
    plain, _, more = name.partition("+")
    if plain not in models.list_models(module=models.segmentation):
        return None
    if more not in ("", AUXILIARY) or (more and plain.startswith("lraspp")):
        raise ValueError(f"torchvision:{name}: only '+aux' may follow a name, of networks that can have such a head")
    options: dict[str, Any] = {"aux_loss": bool(more)} if not plain.startswith("lraspp") else {}
    if not pretrained:
        options["weights_backbone"] = None
    return models.get_model(plain, weights=None, num_classes=num_classes, **options)


def smp_network(library: ModuleType, name: str) -> Callable[[int, bool], nn.Module]:
    """What builds a network of segmentation-models-pytorch.

    Args:
        library: ``segmentation_models_pytorch``.
        name: ``ARCHITECTURE-ENCODER``, both as the library names them: ``"deeplabv3plus-resnet34"``.

    Returns:
        A function of the number of classes, and of whether to start from the library's ImageNet weights of the encoder;
        decoder and head are new.

    Raises:
        ValueError: an unknown architecture or encoder.
    """
    base = library.base.SegmentationModel
    known = {n.lower(): kind for n, kind in vars(library).items() if isinstance(kind, type) and issubclass(kind, base)}
    kind, dash, encoder = name.partition("-")
    if not dash or kind.lower() not in known:
        raise ValueError(
            f"{unknown('architecture of segmentation-models-pytorch', kind, known)}; write smp:ARCHITECTURE-ENCODER, "
            f"such as smp:deeplabv3plus-resnet34"
        )
    encoders = library.encoders.get_encoder_names()
    if encoder not in encoders and not encoder.startswith("tu-"):
        raise ValueError(unknown("encoder of segmentation-models-pytorch", encoder, encoders))

    def build(num_classes: int, pretrained: bool) -> nn.Module:
        weights = "imagenet" if pretrained else None
        return known[kind.lower()](encoder_name=encoder, encoder_weights=weights, classes=num_classes)

    return build


def only_encoder(name: str) -> bool:
    """Whether the pretrained weights of a library's network are those of its encoder, and all that follows is new.

    So it is with every dense network and detector, whatever classes the data have.

    Args:
        name: as in :func:`fractionate.models.create`.

    Example:
        >>> only_encoder("smp:fpn-resnet18"), only_encoder("fasterrcnn-resnet18"), only_encoder("timm:resnet18")
        (True, True, False)
    """
    library, _, rest = name.partition(":")
    if library != "torchvision" or find_spec("torchvision") is None:
        return library == "smp" or name.startswith(PREFIX)
    models = importlib.import_module("torchvision.models")
    kinds = (models.segmentation, models.detection)
    return any(rest.partition("+")[0] in models.list_models(module=kind) for kind in kinds)


def same_size(maps: Float[Tensor, "n c h w"], size: tuple[int, int], corners: bool = True) -> Float[Tensor, "n c y x"]:
    """Maps enlarged to a size, bilinear with aligned corners (unless ``corners`` is false); those of it as they are.

    Example:
        >>> import torch
        >>> same_size(torch.tensor([[[[0.0, 2.0]]]]), (1, 3)).tolist()
        [[[[0.0, 1.0, 2.0]]]]
    """
    if tuple(maps.shape[2:]) == size:
        return maps
    return nn.functional.interpolate(maps, list(size), mode="bilinear", align_corners=corners)
