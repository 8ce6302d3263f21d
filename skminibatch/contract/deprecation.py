"""Former names of public things: they work with a warning for two minor versions, then they are removed."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def renamed(module: str, names: Mapping[str, str], *, since: str, until: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module some of whose names have changed.

    Parameters
    ----------
    module : str
        The ``__name__`` of the module.
    names : mapping from str to str
        The present name for each former one.
    since, until : str
        The version of the change, and that in which the former names are removed.
    """

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(
            f"{module}.{name} is called {names[name]} since version {since}; the former name will be removed in {until}.",
            FutureWarning,
            stacklevel=2,
        )
        return getattr(sys.modules[module], names[name])

    return __getattr__
