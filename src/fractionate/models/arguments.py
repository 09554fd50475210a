"""Names of networks with arguments: ``vit_tiny_patch16_224(img_size=64, depth=6)``."""

from __future__ import annotations

import ast

Value = int | float | bool | str | None | tuple[int | float, ...]


def called(text: str, what: str) -> tuple[str, dict[str, Value]]:
    """The name and the arguments that a text gives it.

    Args:
        text: a name, alone or with plain values in brackets.
        what: to call it in messages.

    Raises:
        ValueError: no such form, or a value that is no number, word, ``True``, ``False``, ``None`` or row of numbers.

    Example:
        >>> called("vit_tiny_patch16_224(img_size=64, depth=6)", "model")
        ('vit_tiny_patch16_224', {'img_size': 64, 'depth': 6})
        >>> called("resnet18.a1_in1k", "model")
        ('resnet18.a1_in1k', {})
    """
    name, bracket, rest = text.partition("(")
    if not bracket:
        return text, {}
    wrong = f"{what} {text!r}: write NAME(argument=value, ...) with numbers, 'words', True, False or (1, 2)"
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError(wrong)
        found = {str(one.arg): ast.literal_eval(one.value) for one in call.keywords if one.arg}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise ValueError(wrong) from None
    if len(found) < len(call.keywords) or not all(_plain(value) for value in found.values()):
        raise ValueError(wrong)
    return name.strip(), found


def _plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(isinstance(one, int | float) for one in value)
    return value is None or isinstance(value, int | float | str)
