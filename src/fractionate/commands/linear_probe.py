"""``fractionate linear-probe``: a run's student on other images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast, get_args

from tyro.conf import Positional, arg

from .options import Folder, Words, names_and_changes, shown

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class LinearProbe:
    """Measure a run's student on other images: frozen, with a new last layer that is trained on them."""

    what: Annotated[Positional[Words], shown("RUN [FIELD=VALUE ...]")] = ()
    """Folder of a finished run; then field=value: epochs, seed, data.size, optimizer.lr and the like."""
    on: Annotated[str, arg(metavar="SET")] = "stl10"
    """The other images: stl10, tiny-imagenet, cifar10, cub200, folder ..."""
    data: Folder = None
    """Folder in which they lie."""

    def __call__(self, console: Console, command: Words) -> None:
        """Run it."""
        from .._choices import choose
        from .._files import expanded
        from ..config.data import Name
        from ..config.files import override
        from ..config.ranges import BOXED, DENSE
        from ..probe.linear import probe_run, probe_settings
        from ..runs.folder import RunFolder

        names, changes = names_and_changes(self.what)
        if len(names) != 1:
            raise ValueError("name one run folder: fractionate linear-probe RUN --on stl10 --data DIR")
        folder = expanded(names[0])
        trained = RunFolder(folder).config()
        other = cast("Name", choose("set of images", self.on, [n for n in get_args(Name) if n not in (*DENSE, *BOXED)]))
        settings = probe_settings(other, trained, None if self.data is None else str(self.data))
        probe_run(folder, override(settings, changes), console)
