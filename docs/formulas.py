"""Formulas of docstrings, which are plain text, as LaTeX for the built pages: python docs/formulas.py prints them all.

``L = CE + W(e) T^2 mean KL(p^T || p^S)`` becomes pieces of mathematics, between which a narrow screen may
break the line; docs/conf.py writes them as MathML, which browsers set without loading anything.
"""

import itertools
import re

GREEK = {"alpha", "beta", "gamma", "delta", "Delta", "epsilon", "eta", "tau", "theta", "lambda", "rho", "sigma"}
FUNCTIONS = {"mean", "log", "exp", "max", "argmax", "softmax", "sigmoid", "cos", "swap"}
QUANTITIES = {"between", "within", "top", "rest", "weight", "lr", "id", "std"}
GOES_ON = re.compile(r"\n(?!\S+ +(?:=|<-)|v\d)")  # a line that begins no equation
SIGNS = {
    "||": r"\,\Vert\,", "<=": r"\le ", "!=": r"\ne ", "<->": r"\leftrightarrow ", "<-": r"\leftarrow ", ">=": r"\ge ",
    "|": r"\vert ", "..": r"\ldots ", "{": r"\{", "}": r"\}", "*": r"\cdot ", "<": r"\lt ", ">": r"\gt ",
}  # fmt: skip
RELATIONS = ("+", "-", "=", "<-", "<=", "!=", "<->", ">=")
ARGUMENT = re.compile(r"[A-Za-z]{2,}(?:_[a-z]+)+")
TOKEN = re.compile(
    r"(?P<index>[_^]\{[^}]*\}|[_^][A-Za-z0-9]+'*)|(?P<name>[A-Za-z]+\d*)|(?P<power>1e-\d+)"
    r"|<->|<-|<=|>=|!=|\|\||\.\.|."
)


def markdown(formula: str) -> str:
    """The formula as Markdown: prose as it is, the rest between dollar signs.

    Args:
        formula: lines as `fractionate.methods.catalog` gives them.
    """
    lines = GOES_ON.sub(" ", formula.replace("``", "")).split("\n")
    return "\\\n".join(_line(line) for line in lines)


def _line(line: str) -> str:
    """Words of prose, and pieces of mathematics cut before a relation or a sum, not inside parentheses or braces."""
    words = re.sub(r"\bhat (\w)", r"hat\1", line).split()
    pieces: list[str] = []
    piece: list[str] = []
    depth = 0

    def close(mark: str = "") -> None:
        if piece:
            pieces.append(f"${_spaced(piece)}${mark}")
            piece.clear()

    for word, following in zip(words, [*words[1:], ""], strict=True):
        mark = word[-1] if word[-1] in ",;.:" and len(word) > 1 else ""
        bare = word.removesuffix(mark)
        if depth == 0 and is_prose(bare, following, inside=bool(piece)):
            close()
            pieces.append(word)
            continue
        if bare in RELATIONS and piece and depth == 0:
            close()
            piece.append("{}")
        spoken = depth > 0 and is_prose(bare, following, inside=True)
        piece.append(rf"\text{{ {bare} }}" if spoken else latex(bare))
        depth = max(0, depth + sum(map(bare.count, "({")) - sum(map(bare.count, ")}")))
        if depth > 0:
            piece[-1] += mark
        elif mark:
            close(mark)
    close()
    return " ".join(pieces)


def _spaced(words: list[str]) -> str:
    """Words of mathematics, with a thin space where two factors meet."""
    text = words[0]
    for before, after in itertools.pairwise(words):
        text += (r" \, " if before[-1] not in "+-=/[({}|" + "," and after[0] not in "+-=/[])|\\," else " ") + after
    return text


def is_prose(word: str, following: str = "", *, inside: bool = False) -> bool:
    """Whether a word belongs to a sentence.

    Args:
        word: without the mark behind it.
        following: the next word: "sum over" is prose, "sum_c" is none.
        inside: whether mathematics stands before it: "w0 between" is a product, "cosines between" is prose.
    """
    if word in ("between", "top", "rest", "task"):
        return not inside
    if word in ("sum", "mean", "softmax", "weight"):
        return is_prose(following)
    known = re.fullmatch(r"hat[a-z]", word) or word.strip("()") in GREEK | FUNCTIONS | QUANTITIES
    return not known and re.fullmatch(r"\(?[a-z][a-z'’-]+\)?|[A-Z][a-z]+", word) is not None


def latex(word: str) -> str:
    """One word of a formula."""
    parts = re.split(f"({ARGUMENT.pattern})", word)
    return "".join(_argument(p) if i % 2 else "".join(map(_token, TOKEN.finditer(p))) for i, p in enumerate(parts))


def _argument(text: str) -> str:
    """``ce_weight`` is one name; ``tau_weak`` and ``CE_weak`` are a letter or a loss with an index."""
    base, _, index = text.partition("_")
    if base in GREEK | FUNCTIONS or base.isupper() or len(index) < 3:
        return f"{_name(base)}_{{{index if len(index) < 3 else _name(index)}}}"
    return rf"\mathrm{{{text}}}".replace("_", r"\_")


def _token(match: re.Match[str]) -> str:
    text = match[0]
    if match["index"]:
        inner = text[1:].strip("{}")
        return f"{text[0]}{{{','.join(map(_name, inner.split(',')))}}}"
    if match["power"]:
        return f"10^{{-{text[3:]}}}"
    return _name(text) if match["name"] else SIGNS.get(text, text)


def _name(text: str) -> str:
    if text == "sum":
        return r"\sum "
    if text in GREEK:
        return rf"\{text} "
    if text in FUNCTIONS:
        return rf"\operatorname{{{text}}} "
    if re.fullmatch(r"hat[a-z]", text):
        return rf"\hat{{{text[3:]}}}"
    if indexed := re.fullmatch(r"([A-Za-z])(\d+)", text):
        return f"{indexed[1]}_{{{indexed[2]}}}"
    return text if len(text) == 1 or text.isdigit() or not text.isalnum() else rf"\mathrm{{{text}}}"


if __name__ == "__main__":
    from fractionate.methods import catalog

    for name in catalog.METHODS | catalog.WRAPPERS:
        print(f"{name}: {markdown(catalog.describe(name).formula)}\n")
