"""Saving: any memory in one safetensors file, its classes and arguments beside the tensors as JSON. Never pickle: loading runs no code.

A class is saved by its name and the arguments of its constructor, read from attributes of the same names. Only classes of
this package, or those passed to `load`, are made again.
"""

import importlib
import inspect
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ammon.memories.base import Memory

FORMAT = "ammon-memory-1"


def save(memory: Memory, path: str | os.PathLike[str]) -> None:
    """Write the memory, contents and all, to `path`; an older file there is replaced only once the new one is whole."""
    description = json.dumps(_describe(memory))
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in memory.state_dict().items()}
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    try:
        save_file(tensors, partial, metadata={"format": FORMAT, "memory": description})
        os.replace(partial, target)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise OSError(f"save: cannot write {target}: {error}") from error


def load(path: str | os.PathLike[str], *, classes: Iterable[type] = ()) -> Memory:
    """Read a memory that `save` wrote, on the CPU. classes: your own parts or memories that the file names."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"load: there is no file {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no dict
    except (OSError, SafetensorError) as error:
        raise ValueError(f"load: {path} is no safetensors file or is damaged ({error}); save the memory again.") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"load: {path} was not written by ammon.save (format {metadata.get('format')!r}, needed {FORMAT!r}).")
    known = {_name(cls): cls for cls in classes}
    try:
        memory = _make(json.loads(metadata["memory"]), known)
        if not isinstance(memory, Memory):
            raise TypeError(f"{type(memory).__name__} is no memory")
        memory.load_state_dict(tensors, assign=True)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ValueError(f"load: {path} does not describe a memory of this version ({error}); save it again with this version.") from error
    return memory


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _describe(value: Any) -> Any:
    """A constructor argument as JSON: plain values as they are, tensors as lists, objects as class and arguments."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return value.detach().tolist() if value.ndim else value.item()
    if isinstance(value, list | tuple):
        return [_describe(item) for item in value]
    arguments = {}
    for name, parameter in inspect.signature(type(value)).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if not hasattr(value, name):
            raise TypeError(f"save: {type(value).__name__} does not keep its argument {name!r}; make it an attribute of the same name.")
        arguments[name] = _describe(getattr(value, name))
    return {"class": _name(type(value)), "arguments": arguments}


def _make(description: Any, known: dict[str, type]) -> Any:
    if isinstance(description, list):
        return torch.tensor(description)
    if not isinstance(description, dict):
        return description
    name = description["class"]
    cls = known[name] if name in known else _own_class(name)
    return cls(**{key: _make(value, known) for key, value in description["arguments"].items()})


def _own_class(name: str) -> type:
    """A class of this package's floors; anything else that a file names is refused before it is imported."""
    module, _, cls = name.rpartition(".")
    if module.split(".")[:2] not in (["ammon", "parts"], ["ammon", "learning"], ["ammon", "memories"], ["ammon", "energies"]):
        raise TypeError(f"it names {name}, which is no class of ammon; pass it as load(path, classes=[...])")
    found = getattr(importlib.import_module(module), cls)
    if not isinstance(found, type) or found.__module__ != module:
        raise TypeError(f"{name} is no class of ammon")
    return found
