"""The papers' configurations and results, as data and as runs; loaded when they are asked for."""

from typing import TYPE_CHECKING

from .._doors import opened_late

if TYPE_CHECKING:
    from .recipes import PaperRecipe as PaperRecipe
    from .recipes import paper as paper
    from .recipes import search as search
else:
    __getattr__, __all__ = opened_late(__name__, {"recipes": "PaperRecipe paper search"})
