"""A text that Python ships, in windows of bytes, and a small causal transformer that reads it: for benchmarks.text."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONTEXT, CLASSES = 128, 256


class Block(nn.Module):
    """Attention and a two-layer network, both on normalised states."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[b, t, width]`` to the same."""
        q, k, v = self.qkv(self.first(x)).unflatten(2, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.second(x))))


class Bytes(nn.Module):
    """A causal transformer over bytes, its output matrix tied to the embedding."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.byte, self.place = nn.Embedding(CLASSES, width), nn.Embedding(CONTEXT, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02 if parameter.shape[0] in (CLASSES, CONTEXT) else width**-0.5)

    def forward(self, read: Tensor) -> Tensor:
        """Logits ``[b, t, 256]`` of the next byte, of bytes ``[b, t]``."""
        x = self.byte(read) + self.place.weight[: read.shape[1]]
        return self.norm(self.blocks(x)) @ self.byte.weight.T


# -- the text --------------------------------------------------------------------------------


def docstrings(root: Path) -> Iterator[tuple[str, str]]:
    """Path inside the library, and all docstrings of the module in one text; modules that are tests are left out."""
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not {"site-packages", "test", "tests", "idle_test", "lib2to3"} & set(name.split("/")):
            try:
                nodes = list(ast.walk(ast.parse(path.read_bytes())))
            except SyntaxError:  # files that are meant to be wrong
                continue
            kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            found = [ast.get_docstring(node) for node in nodes if isinstance(node, kinds)]
            yield name, "\n\n".join(text for text in found if text)


def parts(root: Path) -> tuple[dict[str, Tensor], str]:
    """Windows ``[n, 129]`` of bytes to train on, to choose by and to test on, by module; and a digest of the text."""
    texts: dict[str, list[bytes]] = {"test": [], "validation": [], "train": []}
    for name, text in docstrings(root):
        bucket = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10
        texts[("test", "validation")[bucket] if bucket < 2 else "train"].append(text.encode())
    joined = {part: b"\n\n".join(found) for part, found in texts.items()}
    digest = hashlib.sha256(b"\0".join(joined.values())).hexdigest()[:12]
    return {part: _windows(text) for part, text in joined.items()}, digest


def _windows(text: bytes) -> Tensor:
    found = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    return found.unfold(0, CONTEXT + 1, CONTEXT).long()
