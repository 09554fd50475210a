"""A network as a graph, in which convolutions are found that a ReLU follows, or a sum and a ReLU."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from .convolution import FusedConvolution

SAME = (nn.Identity, nn.Dropout, nn.Dropout2d)  # in evaluation
RELUS = (F.relu, torch.relu, torch.relu_, "relu", "relu_")
SUMS = (operator.add, torch.add, "add")
SUMS_IN_PLACE = (operator.iadd, "add_")


def traced(net: nn.Module) -> tuple[fx.GraphModule, list[FusedConvolution]]:
    """The network as a graph, and the convolutions in it that take what follows along.

    Args:
        net: in evaluation mode; the graph shares its layers.

    Raises:
        Exception: whatever comes of images that have no values.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten()).eval()
        >>> [layer.name for layer in traced(net)[1]]
        ['0']
    """
    trace = fx.symbolic_trace(net)
    graph, modules = trace.graph, dict(trace.named_modules())
    for node in list(graph.nodes):
        if node.op == "call_module" and _plain(modules[node.target], SAME) and len(node.args) == 1:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    layers: list[FusedConvolution] = []
    for relu in list(graph.nodes):
        if (found := _ends_with(relu, modules)) is None:
            continue
        conv, total, z = found
        layer = FusedConvolution(modules[conv.target], str(conv.target))
        trace.add_submodule(f"fused_{len(layers)}", layer)
        with graph.inserting_before(relu):
            new = graph.call_module(f"fused_{len(layers)}", (conv.args[0], *([] if z is None else [z])))
        relu.replace_all_uses_with(new)
        for old in (relu, *([] if total is None else [total]), conv):
            graph.erase_node(old)
        layers.append(layer)
    graph.lint()
    trace.recompile()
    return trace, layers


Found = tuple[fx.Node, fx.Node | None, fx.Node | None]  # convolution, sum, the sum's other part


def _ends_with(relu: fx.Node, modules: dict[str, Any]) -> Found | None:
    """What a ReLU is the end of."""
    last = relu.args[0] if relu.args else None
    if not (_calls(relu, RELUS) or _module(relu, modules, nn.ReLU)) or not _only(last, relu):
        return None
    assert isinstance(last, fx.Node)
    if _convolution(last, modules):
        return (last, None, None) if _still(last, relu, modules) else None
    if not _calls(last, (*SUMS, *SUMS_IN_PLACE)) or len(last.args) != 2 or last.kwargs:
        return None
    order = {node: i for i, node in enumerate(relu.graph.nodes)}
    parts = [part for part in last.args if isinstance(part, fx.Node)]
    for conv in sorted(parts, key=lambda node: -order[node]):
        if len(set(parts)) == 2 and _convolution(conv, modules) and _only(conv, last) and _still(conv, relu, modules):
            if _calls(last, SUMS_IN_PLACE) and last.args[0] is not conv:
                continue  # the other part is changed, and may be read again
            return conv, last, parts[1] if parts[0] is conv else parts[0]
    return None


def _calls(node: fx.Node, targets: tuple[Any, ...]) -> bool:
    return node.op in ("call_function", "call_method") and node.target in targets


def _plain(module: Any, kinds: tuple[type, ...]) -> bool:
    return type(module) in kinds and not module._forward_hooks and not module._forward_pre_hooks


def _module(node: fx.Node, modules: dict[str, Any], kind: type) -> bool:
    return node.op == "call_module" and _plain(modules[str(node.target)], (kind,))


def _only(node: object, user: fx.Node) -> bool:
    return isinstance(node, fx.Node) and list(node.users) == [user]


def _convolution(node: fx.Node, modules: dict[str, Any]) -> bool:
    if not _module(node, modules, nn.Conv2d) or len(node.args) != 1:
        return False
    layer = modules[str(node.target)]
    return layer.bias is not None and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _still(conv: fx.Node, relu: fx.Node, modules: dict[str, Any]) -> bool:
    """Whether nothing is changed in place between the two: the convolution moves to where the ReLU is."""
    return not any(_changes(node, modules) for node in _between(conv, relu) if node not in relu.args)


def _between(first: fx.Node, last: fx.Node) -> Iterator[fx.Node]:
    node = first.next
    while node is not last:
        yield node
        node = node.next


def _changes(node: fx.Node, modules: dict[str, Any]) -> bool:
    if node.op == "call_module":
        return bool(getattr(modules[str(node.target)], "inplace", False))
    name = str(getattr(node.target, "__name__", node.target))
    in_place = name.endswith("_") or (getattr(operator, name, None) is node.target and name.startswith("i"))
    flag = any(given is True for given in node.args) or bool(node.kwargs.get("inplace"))  # by position too
    return in_place or flag or name == "setitem" or "out" in node.kwargs
