"""Plain data from YAML, and nothing that a config has no use for: no code, no aliases, no depth, no key given twice."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

LONGEST = 100_000  # characters; a complete config has about a thousand
DEEPEST = 20  # levels; a config has five
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
FLOAT, FIRST = "tag:yaml.org,2002:float", "-+.0123456789"  # its tag, and what it may begin with


def read_text(path: Path) -> str:
    """The text of a config file.

    Raises:
        ValueError: it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def load_yaml(text: str, where: str) -> Any:
    """Dicts, lists and scalars; ``5e-4``, which YAML 1.1 reads as text, is the number that it looks like.

    Aliases are refused because a few lines of them unfold to more than any memory holds.

    Args:
        text: YAML.
        where: what to call it in an error.

    Raises:
        ValueError: broken YAML, or YAML that no config needs.

    Example:
        >>> load_yaml("{lr: 5e-4}", "settings")
        {'lr': 0.0005}
    """
    import yaml

    if len(text) > LONGEST:
        raise ValueError(f"{where}: {len(text):,} characters are no config, which has at most {LONGEST:,}")
    try:
        return yaml.load(text, _loader())  # made of a SafeLoader: plain data only
    except yaml.YAMLError as error:
        raise ValueError(f"{where}: broken YAML: {' '.join(str(error).split())}") from error
    except (ValueError, RecursionError) as error:  # a number of more digits than Python reads, say
        raise ValueError(f"{where}: broken YAML: {error}") from error


def dump_yaml(data: Any) -> str:
    r"""YAML that :func:`load_yaml` reads back as it was; text that it would take for a number is quoted.

    Example:
        >>> dump_yaml({"root": "1e3"})
        "root: '1e3'\n"
    """
    import yaml

    return yaml.dump(data, Dumper=_dumper(), sort_keys=False, width=120)


@functools.cache
def _dumper() -> Any:
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    Dumper.add_implicit_resolver(FLOAT, NUMBER, list(FIRST))
    return Dumper


@functools.cache
def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            mark = self.peek_event().start_mark
            if self.check_event(yaml.AliasEvent):
                raise yaml.composer.ComposerError(None, None, "write values out instead of naming them (*alias)", mark)
            if self.depth == DEEPEST:
                raise yaml.composer.ComposerError(None, None, f"nested in more than {DEEPEST} levels", mark)
            self.depth += 1
            try:
                return super().compose_node(parent, index)
            finally:
                self.depth -= 1

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key.value for key, _ in node.value if isinstance(key.value, str)]
            if twice := [key for key in keys if keys.count(key) > 1]:
                raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} is given twice", node.start_mark)
            return super().construct_mapping(node, deep)

    Loader.add_implicit_resolver(FLOAT, NUMBER, list(FIRST))
    return Loader
