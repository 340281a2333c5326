"""Checkpoints: all that a training needs to go on as if it had never stopped, in one safetensors file with the rest as JSON. No pickle.

The model, AdamW's moments, what the loss carries along, and how far it is. All randomness comes from the seed and the step, so the step is
the position in the data and the state of the generators too.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn, optim

from ammon.saving import read_tensors, write_tensors
from ammon.training.plan import Plan

FORMAT = "ammon-training-1"
# what may differ between a training and its continuation
FREE = ("steps", "every", "patience")


@runtime_checkable
class Carrying(Protocol):
    """A loss that carries tensors [batch, ...] of its rows from step to step, such as the state of a memory."""

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None: ...


@dataclass(frozen=True)
class Progress:
    """How far a training is."""

    step: int = 0  # steps done
    seconds: float = 0.0  # of work, over all its sittings
    best: float | None = None  # the smallest held-out loss
    stale: int = 0  # measurements since
    ended: str = ""  # why it has ended before its last step: "early" or "enough"
    sums: dict[str, float] = field(default_factory=dict)  # of what was reported since the last row
    count: int = 0  # steps in the sums


def save_checkpoint(
    path: str | os.PathLike[str],
    model: nn.Module,
    optimizer: optim.Optimizer,
    carried: Mapping[str, Tensor],
    plan: Plan,
    progress: Progress,
    about: Mapping[str, Any],
) -> None:
    """Write all that is needed to go on; an older file is replaced only once the new one is whole."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, held in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in held.items()}
    tensors |= {f"carried.{name}": tensor for name, tensor in carried.items()}
    said = {"plan": asdict(plan), "progress": asdict(progress), "about": dict(about)}
    write_tensors("train", path, tensors, {"format": FORMAT, "training": json.dumps(said)})


def load_checkpoint(
    path: str | os.PathLike[str], model: nn.Module, optimizer: optim.Optimizer, plan: Plan, about: Mapping[str, Any]
) -> tuple[Progress, dict[str, Tensor]]:
    """Bring model and optimizer back to where `path` left them; how far that was, and what the loss carried. ValueError if it is of another
    model, plan or data."""
    tensors, said = _read(path)
    for what, held, asked in (("training", said["about"], json.loads(json.dumps(dict(about)))), ("plan", said["plan"], asdict(plan))):
        for name in held | asked:
            one, other = held.get(name), json.loads(json.dumps(asked.get(name)))
            if one != other and not (what == "plan" and name in FREE):
                raise ValueError(f"train: {path} is of another {what}: {name} is {one!r} there, {other!r} here; name another folder.")
    _fill(path, model, _part(tensors, "model"))
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _part(tensors, "optimizer").items():
        index, _, field = name.partition(".")
        states.setdefault(int(index), {})[field] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    return Progress(**said["progress"]), _part(tensors, "carried")


def read_about(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What the trainer was told about the model of a checkpoint: enough to make it again. ValueError for any other file."""
    about: dict[str, Any] = _read(path)[1]["about"]
    return about


def load_weights(path: str | os.PathLike[str], model: nn.Module) -> None:
    """Give a model the weights of a checkpoint. ValueError if it is of another model."""
    _fill(path, model, _part(_read(path)[0], "model"))


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, metadata = read_tensors("train", path, FORMAT, "a training of ammon")
    try:
        said = json.loads(metadata["training"])
        if not {"plan", "progress", "about"} <= set(said):
            raise KeyError("plan, progress or about")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"train: {path} does not describe a training of this version ({error}).") from error
    return tensors, said


def _part(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name[len(part) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{part}.")}


def _fill(path: str | os.PathLike[str], model: nn.Module, tensors: dict[str, Tensor]) -> None:
    needed = model.state_dict()
    for name in needed | tensors:
        held, asked = tensors.get(name), needed.get(name)
        if held is None or asked is None or held.shape != asked.shape:
            there, here = ("nothing" if tensor is None else str(list(tensor.shape)) for tensor in (held, asked))
            raise ValueError(f"train: {Path(path)} is of another configuration: {name} is {there} there, {here} in this model.")
    model.load_state_dict(tensors)
