"""Networks of others: a function of theirs builds one, and whatever its ``forward`` returns or raises is understood."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from hashlib import sha256
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .._choices import unknown
from .._files import expanded
from .._spoken import in_words
from .._typing import Float
from .handled import name_of, switched

MAIN = ("logits", "out")  # names of the main output beside auxiliary ones: transformers' and torchvision's
PLAIN = (torch.float32, torch.float64)
Ask = Callable[[nn.Module, Tensor, str], Tensor]  # how a task takes a network's logits, as logits_of does
# Not the network's fault: others catch these and know what to do.
PASSED_ON = (KeyboardInterrupt, MemoryError, torch.OutOfMemoryError, ConnectionError)


def logits_of(net: nn.Module, images: Tensor, what: str = "network") -> Float[Tensor, "n c"]:
    """Run a network and take its logits, whatever its ``forward`` returns (:func:`pick_logits`).

    Args:
        net: network, in the mode it is in.
        images: ``[n, ch, h, w]`` as it takes them.
        what: what to call it in messages: ``"student"``, ``"teacher"``.

    Raises:
        ValueError: it returned something else, or raised; the exception's type and place are named, and the original
            one is the cause. Interrupts and exhausted memory pass through as they are.

    Example:
        >>> logits_of(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.zeros(2, 1, 2, 2)).shape
        torch.Size([2, 3])
    """
    logits = pick_logits(run_on(net, images, what), f"{what} {name_of(net)}")
    if (count := len(logits)) != len(images):
        raise ValueError(f"the {what} {name_of(net)} gave logits of {count} images when asked about {len(images)}")
    return logits


def run_on(net: nn.Module, images: Tensor, what: str = "network") -> Any:
    """What a network returns for images; arguments and errors as in :func:`logits_of`."""
    try:
        return net(images)
    except PASSED_ON:
        raise
    except BaseException as error:
        if type(error).__module__.startswith("fractionate."):
            raise  # a sentence already
        raise ValueError(
            f"the {what} {name_of(net)}{_precision(net)}{', in training mode,' if net.training else ''} cannot take "
            f"images {list(images.shape)} ({str(images.dtype).removeprefix('torch.')}): "
            f"{_other_channels(net, images) or in_words(error)}"
        ) from error


def _other_channels(net: nn.Module, images: Tensor) -> str:
    """In words, that a network's first convolution takes pictures of another kind; empty if it does not."""
    first = next((m for m in net.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None or images.ndim != 4 or first.in_channels == images.shape[1]:
        return ""
    kinds = {1: "grey pictures", 3: "colour pictures"}
    takes, given = (kinds.get(n, f"{n} channels") for n in (first.in_channels, images.shape[1]))
    others = {1: "convnet_16_32_64", 3: "resnet8, vgg8, timm:NAME"}.get(images.shape[1])
    return f"it takes {takes}, and these are {given}; name another network{f' ({others})' if others else ''}"


def pick_logits(output: Any, what: str = "network") -> Float[Tensor, "n c"]:
    """The logits in what a network returned, where it is clear which they are.

    Clear are: a floating-point tensor ``[n, c]``, or ``[n, c, 1, 1]``; a dict, a named tuple or an object whose field
    ``logits`` (or ``out``) holds one, as the outputs of transformers do, and of networks with auxiliary heads in
    training mode, whose main head is taken; a dict, tuple or list in which one single tensor has that shape.

    Args:
        output: what ``forward`` returned.
        what: what to call the network in the message.

    Raises:
        ValueError: it is not clear.

    Example:
        >>> pick_logits({"logits": torch.zeros(2, 3), "features": torch.zeros(2, 8)}).shape
        torch.Size([2, 3])
        >>> pick_logits((torch.zeros(2, 3, 1, 1), [torch.zeros(2, 8, 4, 4)])).shape
        torch.Size([2, 3])
    """
    fields = fields_of(output)
    named = [fields[name] for name in MAIN if name in fields]
    found: list[Tensor] = [x for x in (named[:1] or fields.values()) if _are_logits(x)]
    if len(found) != 1:
        raise ValueError(
            f"the {what} returned {described(output)}, in which its logits, floating-point [images, classes], "
            f"{'cannot be told apart' if found else 'are not found'}: let forward return them alone or as 'logits'"
        )
    logits = found[0] if found[0].ndim == 2 else found[0].flatten(1)
    named_only = type(logits).__torch_dispatch__ is Tensor.__torch_dispatch__  # unlike DTensor's, say
    return logits.as_subclass(Tensor) if named_only and type(logits) is not Tensor else logits


class OnlyLogits(nn.Module):
    """A network that returns its logits and nothing else, for those who take no other (exporters, say).

    Args:
        net: network, whose output :func:`pick_logits` understands.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.LSTM(4, 3))  # returns a tuple
        >>> OnlyLogits(net)(torch.zeros(2, 1, 2, 2)).shape
        torch.Size([2, 3])
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Float[Tensor, "n c"]:
        """Images -> logits."""
        return pick_logits(self.net(images), name_of(self.net))


def classes_of(
    net: nn.Module, images: Tensor, what: str = "network", *, trained: bool = False, ask: Ask = logits_of
) -> int:
    """How many logits a network gives, which is left as it was (the generators of random numbers apart).

    Args:
        net: network.
        images: a few, as it takes them.
        what: as in :func:`logits_of`.
        trained: try it in training mode too, where many networks return more, and see that there is something to train.
        ask: how its logits are taken; their second dimension is that of the classes.

    Raises:
        ValueError: as :func:`logits_of`, or nothing to train.

    Example:
        >>> classes_of(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.zeros(2, 1, 2, 2), trained=True)
        3
    """
    modes = {module: module.training for module in net.modules()}
    buffers = [(buffer, buffer.clone()) for buffer in net.buffers()]
    try:
        if trained and len(images) > 1:  # one image is too few for many batch norms
            with torch.enable_grad():
                _differentiate(ask(switched(net, True), images, what), net, what)
        with torch.no_grad():
            return ask(switched(net, False), images, what).shape[1]
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _differentiate(logits: Tensor, net: nn.Module, what: str) -> None:
    """Refuse a network that gives nothing to train, or whose way back fails (hooks, operations without a gradient)."""
    if not logits.requires_grad:
        raise ValueError(
            f"nothing in the {what} {name_of(net)} can be trained: its logits depend on no weight that "
            f"requires a gradient (all are frozen, or forward detaches them)"
        )
    try:
        torch.autograd.grad(logits.sum(), [p for p in net.parameters() if p.requires_grad], allow_unused=True)
    except PASSED_ON:
        raise
    except BaseException as error:
        if "use_reentrant" in str(error):
            return  # stream_grads has a remedy for that
        raise ValueError(f"the {what} {name_of(net)} cannot be differentiated: {in_words(error)}") from error


def build_own(source: str, function: str, num_classes: int) -> nn.Module:
    """What ``function(num_classes=...)`` of a module or of a Python file returns.

    Args:
        source: ``"package.module"``, installed or in the current folder; or the path of a ``.py`` file.
        function: its name there.
        num_classes: what it is called with.

    Raises:
        ValueError: no such function; one that raises, whatever it be, or calls ``sys.exit``; or something that cannot
            be trained: no network, one without values (``meta``) or whose layers have no shapes yet.
        ImportError: no such module, or one that cannot be imported.
        FileNotFoundError: no such file.
    """
    name = f"{source}:{function}"
    loaded = _from_file(source, name) if source.endswith(".py") else _imported(source, name)
    build = getattr(loaded, function, None)
    if not callable(build):
        raise ValueError(unknown(f"function of {source}", function, [n for n in vars(loaded) if n[0] != "_"]))
    try:
        net = build(num_classes=num_classes)
    except PASSED_ON:
        raise
    except BaseException as error:
        raise ValueError(f"{name}, called with num_classes={num_classes}, raised {in_words(error)}") from error
    if not isinstance(net, nn.Module):
        raise ValueError(f"{name} must return a torch.nn.Module, got {type(net).__name__}")
    for place, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if is_lazy(tensor):
            raise ValueError(f"{name}: {place!r} has no shape yet (a lazy layer); run the network once in {function}")
        if tensor.is_meta and torch.get_default_device().type != "meta":
            raise ValueError(f"{name}: {place!r} lies on the meta device and has no values; build it on the CPU")
    return net


def fields_of(output: Any) -> Mapping[Any, Any]:
    """The parts of an output by name or place; a lone tensor is the only part."""
    if isinstance(output, Tensor):
        return {0: output}
    if isinstance(output, Mapping):
        return output
    if isinstance(output, tuple | list) and not hasattr(output, "_asdict"):
        return dict(enumerate(output))
    return {name: getattr(output, name) for name in (*getattr(output, "_fields", ()), *MAIN) if hasattr(output, name)}


def _are_logits(x: Any) -> bool:
    plain = isinstance(x, Tensor) and x.layout is torch.strided and x.is_floating_point()
    return plain and x.ndim >= 2 and all(size == 1 for size in x.shape[2:])


def described(output: Any) -> str:
    """What a network returned, in a few words."""
    if isinstance(output, Tensor):
        kind = "" if output.layout is torch.strided else f"{str(output.layout).removeprefix('torch.')} "
        return f"a {kind}tensor {list(output.shape)} of {str(output.dtype).removeprefix('torch.')}"
    parts = [
        f"{k}: {list(v.shape) if isinstance(v, Tensor) else type(v).__name__}" for k, v in fields_of(output).items()
    ]
    return f"{type(output).__name__} ({', '.join(parts[:6])})" if parts else type(output).__name__


def _precision(net: nn.Module) -> str:
    """The type of its weights where that is not the usual one, which explains most complaints about types."""
    other = {p.dtype for p in net.parameters()} - {torch.float32}
    return f" with {', '.join(sorted(str(x).removeprefix('torch.') for x in other))} weights" if other else ""


def _imported(module: str, name: str) -> ModuleType:
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())  # where `python -m fractionate` looks, but the program `fractionate` does not
    try:
        return importlib.import_module(module)
    except PASSED_ON:
        raise
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            missing = f"needs the package {module!r}, which is not installed, nor is it in the current folder"
            raise ImportError(f"model {name!r} {missing}") from error
        raise ImportError(f"model {name!r} cannot be imported: {in_words(error)}") from error


def _from_file(source: str, name: str) -> ModuleType:
    path = expanded(source).absolute()
    if not path.is_file():
        raise FileNotFoundError(f"model {name!r}: there is no file {path}")
    known = f"{path.stem}_{sha256(os.fsencode(path)).hexdigest()[:8]}"  # two files of one name are two modules
    if known in sys.modules:
        return sys.modules[known]
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # the file may import its neighbours
    spec = importlib.util.spec_from_file_location(known, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = sys.modules[known] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(loaded)
    except BaseException as error:
        del sys.modules[known]
        if isinstance(error, PASSED_ON):
            raise
        raise ImportError(f"model {name!r}: {path} cannot be run: {in_words(error)}") from error
    return loaded
