"""Experiments, each imported when it is first used: `am.experiments.capacity.run(...)`."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    home = f"{__name__}.{name}"
    if not name.startswith("_"):
        try:
            return importlib.import_module(home)
        except ModuleNotFoundError as error:
            # a library that is missing must be named, not hidden behind the experiment that needs it
            if error.name != home:
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
