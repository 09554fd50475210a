"""The papers' configurations and results, as data and as runs."""

from .recipes import PaperRecipe, paper, search

__all__ = [
    "PaperRecipe",
    "paper",
    "search",
]
