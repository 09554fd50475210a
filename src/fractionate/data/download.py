"""Fetching a standard set with torchvision, or saying why it is not there."""

from __future__ import annotations

from pathlib import Path


def fetch(torchvision_name: str, root: Path, lacking: str, download: bool) -> None:
    """Download a set into ``root``.

    Args:
        torchvision_name: class of ``torchvision.datasets``.
        root: where it goes.
        lacking: begins every error: which folder lacks which files.
        download: whether that is wanted.

    Raises:
        ValueError: it is not wanted, or it failed.
        ImportError: torchvision is not installed.
    """
    if not download:
        raise ValueError(f"{lacking}; put the set there, or let it be downloaded")
    try:
        from torchvision import datasets
    except ImportError as error:
        raise ImportError(
            f"{lacking}. Downloading it needs torchvision: pip install 'fractionate[models]'; or set data.root (or the "
            "environment variable FRACTIONATE_DATA) to the folder that holds it"
        ) from error
    try:
        getattr(datasets, torchvision_name)(root, train=True, download=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{lacking}, and downloading failed: {error}") from error
