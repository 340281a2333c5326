"""Saving: a memory, or the state of a layer, in one safetensors file with what it is as JSON. Never pickle: loading runs no code.

A class is saved by its name and the arguments of its constructor, read from attributes of the same names. Only classes of
this package, or those passed to `load`, are made again.
"""

import importlib
import inspect
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ammon.energies.base import Synapse
from ammon.energies.network import EnergyNetwork
from ammon.memories.base import Memory
from ammon.nn.state import State

FORMAT = "ammon-memory-1"
STATE = "ammon-state-1"
# where the classes stand that a file may name
FLOORS = ("parts", "learning", "memories", "energies")
FLOORS_OF_STATES = ("nn",)


def save(memory: Memory | EnergyNetwork, path: str | os.PathLike[str]) -> None:
    """Write the memory or energy network, contents and all, to `path`; an older file is replaced only once the new one is whole."""
    write_tensors("save", path, memory.state_dict(), {"format": FORMAT, "memory": json.dumps(_describe(memory))})


def load(path: str | os.PathLike[str], *, classes: Iterable[type] = ()) -> Memory | EnergyNetwork:
    """Read what `save` wrote, on the CPU. classes: your own parts, synapses or memories that the file names."""
    tensors, metadata = read_tensors("load", path, FORMAT, "ammon.save")
    known = {_name(cls): cls for cls in classes}
    try:
        memory = _make(json.loads(metadata["memory"]), known)
        if not isinstance(memory, Memory | EnergyNetwork):
            raise TypeError(f"{type(memory).__name__} is no memory")
        memory.load_state_dict(tensors, assign=True)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ValueError(f"load: {path} does not describe a memory of this version ({error}); save it again with this version.") from error
    return memory


def save_state(state: State, path: str | os.PathLike[str]) -> None:
    """Write what a layer of `ammon.nn` holds to `path`, to go on later; an older file is replaced only once the new one is whole."""
    if not isinstance(state, State):
        raise TypeError(f"save_state: a state of a layer is needed, got a {type(state).__name__}; memories go to ammon.save.")
    write_tensors("save_state", path, state.named(), {"format": STATE, "state": json.dumps(_outline(state))})


def load_state(path: str | os.PathLike[str], *, classes: Iterable[type] = ()) -> State:
    """Read a state that `save_state` wrote, on the CPU. classes: your own records that the file names."""
    tensors, metadata = read_tensors("load_state", path, STATE, "save_state")
    try:
        state = _fill(json.loads(metadata["state"]), tensors, {_name(cls): cls for cls in classes})
        if not isinstance(state, State):
            raise TypeError("it is no state")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"load_state: {path} does not describe a state of this version ({error}).") from error
    return state


def write_tensors(where: str, path: str | os.PathLike[str], tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """One safetensors file; an older one is replaced only once the new one is whole. OSError, in the name of `where`."""
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    try:
        save_file({name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}, partial, metadata=metadata)
        os.replace(partial, target)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise OSError(f"{where}: cannot write {target}: {error}") from error


def read_tensors(where: str, path: str | os.PathLike[str], kind: str, writer: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file whose format is `kind`. FileNotFoundError, ValueError for any other, in the name of `where`."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{where}: there is no file {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no dict
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{where}: {path} is no safetensors file or is damaged ({error}); save it again.") from error
    if metadata.get("format") != kind:
        raise ValueError(f"{where}: {path} was not written by {writer} (format {metadata.get('format')!r}, needed {kind!r}).")
    return tensors, metadata


def _outline(value: Any, path: str = "") -> Any:
    """A state with the names of its tensors in their places."""
    if isinstance(value, Tensor):
        return path
    if isinstance(value, tuple):
        return [_outline(item, f"{path}.{index}") for index, item in enumerate(value)]
    dot = f"{path}." if path else ""
    return {"class": _name(type(value)), "fields": {f.name: _outline(getattr(value, f.name), dot + f.name) for f in fields(value)}}


def _fill(outline: Any, tensors: dict[str, Tensor], known: dict[str, type]) -> Any:
    if isinstance(outline, str):
        return tensors[outline]
    if isinstance(outline, list):
        return tuple(_fill(item, tensors, known) for item in outline)
    name = outline["class"]
    cls = known[name] if name in known else _own_class(name, FLOORS_OF_STATES)
    return cls(**{field: _fill(value, tensors, known) for field, value in outline["fields"].items()})


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _describe(value: Any) -> Any:
    """A constructor argument as JSON: plain values as they are, tensors as lists, objects as class and arguments."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return value.detach().tolist() if value.ndim else value.item()
    if isinstance(value, tuple):
        return {"items": [_describe(item) for item in value]}
    if isinstance(value, list):
        return [_describe(item) for item in value]
    if isinstance(value, Mapping | nn.ModuleDict):
        return {"named": {name: _describe(item) for name, item in value.items()}}
    if inspect.isroutine(value):
        raise TypeError(
            f"save: the function {value.__qualname__} cannot be saved; write it as a class, an energy as one derived from Synapse."
        )
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(type(value)).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if not hasattr(value, name):
            raise TypeError(f"save: {type(value).__name__} does not keep its argument {name!r}; make it an attribute of the same name.")
        held = getattr(value, name)
        # what a synapse holds stands among the tensors: its description needs the size alone
        sized = isinstance(value, Synapse) and isinstance(held, Tensor)
        arguments[name] = {"size": list(held.shape), "truth": held.dtype == torch.bool} if sized else _describe(held)
    return {"class": _name(type(value)), "arguments": arguments}


def _make(description: Any, known: dict[str, type]) -> Any:
    if isinstance(description, list):
        return torch.tensor(description)
    if not isinstance(description, dict):
        return description
    if "items" in description:
        return tuple(_make(item, known) for item in description["items"])
    if "named" in description:
        return {name: _make(item, known) for name, item in description["named"].items()}
    if "size" in description:
        return torch.zeros(description["size"], dtype=torch.bool if description["truth"] else None)
    name = description["class"]
    cls = known[name] if name in known else _own_class(name)
    return cls(**{key: _make(value, known) for key, value in description["arguments"].items()})


def _own_class(name: str, floors: tuple[str, ...] = FLOORS) -> type:
    """A class of this package's floors; anything else that a file names is refused before it is imported."""
    module, _, cls = name.rpartition(".")
    if module.split(".")[0] != "ammon" or module.split(".")[1:2] not in [[floor] for floor in floors]:
        raise TypeError(f"it names {name}, which is no class of ammon; pass it as load(path, classes=[...])")
    found = getattr(importlib.import_module(module), cls)
    if not isinstance(found, type) or found.__module__ != module:
        raise TypeError(f"{name} is no class of ammon")
    return found
