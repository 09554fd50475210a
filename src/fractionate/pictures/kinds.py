"""Which settings suit a network on a folder of pictures, as far as its name and the number of pictures tell."""

from __future__ import annotations

from typing import Literal

LIBRARIES = {"timm": "timm", "torchvision": "torchvision", "hf": "transformers"}  # packages whose networks NAME:... are
Kind = Literal["small", "photo", "light", "transformer"]
RATES = {"small": 0.05, "photo": 0.02, "light": 0.01}  # of SGD, per 64 images
TRANSFORMER_RATE = 3e-4  # of AdamW
USUAL_BATCH, FEWEST = 64, 8
SHOWN = 120_000  # images that a training shows in all, where the length is chosen
SHORTEST, LONGEST = 15, 100  # epochs

# Words in the names of networks, this package's and others', that are known to want a smaller rate or AdamW.
LIGHT = (
    *("mobile", "shuffle", "efficient", "mnas", "ghost", "rexnet", "regnet", "lcnet", "tinynet", "fbnet", "squeeze"),
    "mixnet",
)
TRANSFORMERS = (
    *("vit", "deit", "swin", "beit", "eva", "cait", "xcit", "pvt", "twins", "coat", "convit", "maxvit", "tnt", "mixer"),
    *("mlp", "former", "convnext"),
)


def kind_of(name: str) -> Kind:
    """Which settings suit a network, as far as its name tells.

    Example:
        >>> [kind_of(name) for name in ("resnet20", "timm:resnet18", "timm:mobilenetv3_small_050", "timm:vit_tiny")]
        ['small', 'photo', 'light', 'transformer']
    """
    library, _, rest = name.lower().rpartition(":")
    if library == "hf" or (library and any(word in rest for word in TRANSFORMERS)):
        return "transformer"
    if any(word in rest for word in LIGHT):
        return "light"
    return "photo" if library else "small"


def solver(name: str) -> str:
    """The optimizer that a network gets on a folder, and why, in words.

    Example:
        >>> solver("timm:vit_tiny_patch16_224")
        'AdamW at 0.0003 (SGD hardly trains transformers, ConvNeXt and MLPs)'
        >>> solver("my_nets:small")
        'SGD at 0.02 (your own network, taken for a convolutional one)'
    """
    kind = kind_of(name)
    if kind == "transformer":
        return f"AdamW at {TRANSFORMER_RATE:g} (SGD hardly trains transformers, ConvNeXt and MLPs)"
    library, colon, _ = name.partition(":")
    own = bool(colon) and library not in LIBRARIES
    why = {
        "small": "as networks for small pictures are trained",
        "photo": "your own network, taken for a convolutional one" if own else "a library's convolutional network",
        "light": "light networks want smaller steps",
    }
    return f"SGD at {RATES[kind]:g} ({why[kind]})"


def batch_for(images: int) -> int:
    """Images per step: the usual 64, fewer where an epoch would have less than four steps.

    Example:
        >>> [batch_for(n) for n in (16, 100, 400, 5000, 6)]
        [8, 16, 64, 64, 3]
    """
    batch = USUAL_BATCH
    while batch > FEWEST and 4 * batch > images:
        batch //= 2
    return min(batch, max(2, images // 2))


def epochs_for(images: int) -> int:
    """Length of a training: about 120,000 images shown, between 15 and 100 epochs.

    Example:
        >>> [epochs_for(n) for n in (100, 2000, 50_000)]
        [100, 60, 15]
    """
    return min(LONGEST, max(SHORTEST, round(SHOWN / max(1, images))))
