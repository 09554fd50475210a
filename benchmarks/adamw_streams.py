"""What streams do under AdamW: a small vision transformer on real handwritten digits, every method with the same seeds.

Run ``python -m benchmarks.adamw_streams [--epochs 20] [--seeds 3]``. Prints the accuracy of the last epoch; nothing is
selected by it.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Sequence

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import fractionate as fr

BATCH, LR, DECAY, WARM = 64, 2e-3, 0.05, 50
DKD = fr.methods.dkd(warmup=5)
DEEPKD = fr.methods.deepkd(DKD)
METHODS: dict[str, tuple[fr.Method, str]] = {
    "labels alone": (fr.only(DKD, ["task"]), "normalised"),
    "kd": (fr.methods.kd(), "normalised"),
    "dkd": (DKD, "normalised"),
    "deepkd over dkd, memory alone": (DEEPKD, "normalised"),
    "deepkd over dkd, gain heavy-ball": (DEEPKD, "heavy-ball"),
}


class ViT(nn.Module):
    """8 x 8 pixels in patches, a mean over tokens, ten classes."""

    def __init__(self, width: int, depth: int, patch: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, patch, patch)
        self.place = nn.Parameter(0.02 * torch.randn(1, (8 // patch) ** 2, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, 10] of images [n, 1, 8, 8]."""
        tokens = self.patch(images).flatten(2).mT + self.place
        return self.head(self.layers(tokens).mean(1))


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """1,797 images: 1,197 to train on, 600 to test on; the split is always the same."""
    found = load_digits()
    images = torch.as_tensor(found.images, dtype=torch.float32)[:, None] / 8 - 1
    target = torch.as_tensor(found.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order[600:]], target[order[600:]], images[order[:600]], target[order[:600]]


def train(net: nn.Module, teacher: nn.Module, method: fr.Method, gain: str, epochs: int, seed: int) -> float:
    """Test accuracy of the last epoch, in percent."""
    images, target, test, answers = digits()
    decayed = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": decayed}, {"params": rest, "weight_decay": 0.0}]
    optimizer = fr.StreamAdamW(groups, lr=LR, betas=method.momenta(0.9), weight_decay=DECAY, gain=gain)
    steps = epochs * (len(images) // BATCH)
    plan = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: min((t + 1) / WARM, 0.5 * (1 + math.cos(math.pi * t / steps)))
    )
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        known = teacher(images)
    for epoch in range(1, epochs + 1):
        order = torch.randperm(len(images), generator=random)
        for batch in order[: len(order) // BATCH * BATCH].split(BATCH):
            rows = fr.Logits(net(images[batch]), known[batch], target[batch])
            losses = method.stream_losses(rows, fr.Progress(epoch=epoch, epochs=epochs))
            optimizer.step(fr.optim.clip_total(fr.stream_grads(losses, net), 1.0))
            plan.step()
    with torch.no_grad():
        return 100 * (net.eval()(test).argmax(1) == answers).double().mean().item()


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--epochs", type=int, default=20)
    options.add_argument("--seeds", type=int, default=3)
    chosen = options.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    teacher = ViT(64, 4, 2)
    accuracy = train(teacher, teacher, METHODS["labels alone"][0], "normalised", chosen.epochs, 0)
    print(f"teacher: {accuracy:.1f} %", flush=True)
    first: list[float] = []
    for name, (method, gain) in METHODS.items():
        begun, found = time.perf_counter(), []
        for seed in range(chosen.seeds):
            torch.manual_seed(seed)
            found.append(train(ViT(16, 2, 4), teacher, method, gain, chosen.epochs, seed))
        first = first or found
        gains = [a - b for a, b in zip(found, first, strict=True)]
        spread = statistics.stdev(found) if len(found) > 1 else 0.0
        print(
            f"{name:34} {statistics.mean(found):6.2f} +- {spread:.2f}   over labels alone, seed by seed: "
            f"{', '.join(f'{g:+.2f}' for g in gains)}   {time.perf_counter() - begun:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
