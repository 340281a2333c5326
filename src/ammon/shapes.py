"""Shapes: the names of the axes that tensors have throughout the library, and the check that rows fit.

batch    items that are recalled together and never see each other
query    cues compared with one set of keys; for a memory the batch is the query axis
pattern  stored rows: keys (addresses) and values (contents)
dim      entries of a cue and of a key;  value_dim  entries of a value
unit     entries of one neuron layer
step     moments of a trajectory, the cue first
"""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# parts: any leading axes, then these
Cues = Float[Tensor, "*lead query dim"]
Keys = Float[Tensor, "*lead pattern dim"]
Values = Float[Tensor, "*lead pattern value_dim"]
Scores = Float[Tensor, "*lead query pattern"]
Mixed = Float[Tensor, "*lead query value_dim"]
Units = Float[Tensor, "*lead unit"]
Lead = Float[Tensor, "*lead"]

# memories: a batch of rows
Rows = Float[Tensor, "row dim"]
States = Float[Tensor, "batch dim"]
Energies = Float[Tensor, " batch"]
Weights = Float[Tensor, "batch pattern"]
Known = Bool[Tensor, "batch dim"]
Index = Int[Tensor, " index"]


def check_rows(where: str, what: str, rows: Any, dim: int | None) -> None:
    """Refuse, with one clear sentence, what is not finite floating rows of the size `dim` (any size if None)."""
    if not isinstance(rows, Tensor) or not rows.is_floating_point():
        got = f"{rows.dtype} tensor" if isinstance(rows, Tensor) else type(rows).__name__
        raise TypeError(f"{where}: the {what} must be a floating tensor, got a {got}; convert it, e.g. torch.as_tensor(x).float().")
    if rows.ndim != 2:
        raise ValueError(f"{where}: the {what} must be rows [batch, dim], got shape {list(rows.shape)}; for one row use x[None].")
    if dim is not None and rows.shape[1] != dim:
        raise ValueError(f"{where}: the {what} has dim {rows.shape[1]}, the memory has {dim}; give rows of that size.")
    # the extremes carry NaN and infinity, and unlike isfinite need no copy of a large store
    if rows.numel() and not all(math.isfinite(extreme) for extreme in torch.aminmax(rows.detach())):
        raise ValueError(f"{where}: the {what} holds NaN or infinite entries; clean the data first, e.g. torch.nan_to_num.")


def check_bipolar(where: str, what: str, rows: Tensor) -> None:
    """Refuse rows with entries other than -1 and +1."""
    if not bool((rows.abs() == 1).all()):
        raise ValueError(f"{where}: the {what} must hold only -1 and +1; binarise it first, e.g. ammon.bipolar(x).")


def check_positive(where: str, name: str, value: float) -> None:
    """Refuse a value that is not a positive finite number."""
    if not 0 < value < float("inf"):
        raise ValueError(f"{where}: {name} must be positive and finite, got {value}.")


def check_count(where: str, name: str, value: int) -> None:
    """Refuse a count that is not a whole number of at least 1."""
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{where}: {name} must be a whole number of at least 1, got {value!r}.")
