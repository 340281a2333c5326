"""Patterns: rows to store. Random ±1, biased, correlated; sparse, modular; and real data brought into the range that a memory takes.

All give float rows [pattern, dim].
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.shapes import Rows, check_count

Preparation = Literal["raw", "bipolar", "unit", "sparse", "modular"]


def random_patterns(
    num_patterns: int,
    dim: int,
    *,
    generator: torch.Generator,
    bias: float = 0.0,
    correlation: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> Rows:
    """±1 patterns with mean `bias` per entry and mean overlap `correlation` (beyond the bias) between any two.

    Correlated patterns are copies of one prototype in which each entry is drawn anew with probability 1 - sqrt(correlation)
    (the standard ensemble of hierarchical patterns with one level).
    """
    check_count("random_patterns", "num_patterns", num_patterns)
    check_count("random_patterns", "dim", dim)
    if not -1 < bias < 1 or not 0 <= correlation < 1:
        raise ValueError(f"random_patterns: bias must be in (-1, 1), correlation in [0, 1), got {bias} and {correlation}.")

    def draw(rows: int) -> Tensor:
        chance = torch.rand(rows, dim, generator=generator, device=generator.device)
        return torch.where(chance < (1 + bias) / 2, 1.0, -1.0).to(dtype)

    patterns = draw(num_patterns)
    if correlation == 0:
        return patterns
    kept = torch.rand(num_patterns, dim, generator=generator, device=generator.device) < correlation**0.5
    return torch.where(kept, draw(1), patterns)


def sparse_patterns(num_patterns: int, dim: int, active: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Rows:
    """Patterns of 0 and 1 with `active` random units each."""
    check_count("sparse_patterns", "num_patterns", num_patterns)
    check_count("sparse_patterns", "dim", dim)
    check_count("sparse_patterns", "active", active)
    if active > dim:
        raise ValueError(f"sparse_patterns: {active} of {dim} units cannot be active; choose active <= dim.")
    chosen = torch.rand(num_patterns, dim, generator=generator, device=generator.device).topk(active).indices
    return torch.zeros(num_patterns, dim, dtype=dtype, device=generator.device).scatter_(1, chosen, 1.0)


def modular_patterns(num_patterns: int, modules: int, size: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Rows:
    """Patterns of 0 and 1 with one random active unit in each of `modules` modules of `size` units; dim is modules · size."""
    check_count("modular_patterns", "num_patterns", num_patterns)
    check_count("modular_patterns", "modules", modules)
    check_count("modular_patterns", "size", size)
    chosen = torch.randint(size, (num_patterns, modules, 1), generator=generator, device=generator.device)
    return torch.zeros(num_patterns, modules, size, dtype=dtype, device=generator.device).scatter_(2, chosen, 1.0).flatten(1)


def modules_of(dim: int) -> int:
    """About as many modules as units in each: the smallest divisor of dim from its root on; 1 if only modules of one unit were left."""
    check_count("modules_of", "dim", dim)
    modules = next(number for number in range(math.isqrt(dim - 1) + 1, dim + 1) if dim % number == 0)
    return 1 if modules == dim else modules


def bipolar(rows: Rows, like: Float[Tensor, "other dim"] | None = None) -> Rows:
    """-1 and +1: above the middle of the range that all the rows span, or not. What is ±1 already stays as it is.

    like: other rows whose range decides: give the patterns for a cue, so that an entry means the same in both.
    """
    range_of = rows if like is None else like
    middle = (range_of.amax() + range_of.amin()) / 2
    return torch.where(rows > middle, torch.ones_like(rows), -torch.ones_like(rows))


def unit(rows: Rows) -> Rows:
    """Each row less its own mean, then scaled to length 1; a constant row becomes 0."""
    centred = rows - rows.mean(-1, keepdim=True)
    length: Tensor = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)
    # a constant row leaves only rounding, which must not be blown up to length 1
    flat = length <= 16 * torch.finfo(rows.dtype).eps * torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return torch.where(flat, torch.zeros_like(rows), centred / length.clamp_min(torch.finfo(rows.dtype).tiny))


def sparse(rows: Rows) -> Rows:
    """1 at the log2(dim) largest entries of each row (of equal ones the first), 0 elsewhere: as few as Willshaw networks like."""
    active = max(1, round(math.log2(rows.shape[-1])))
    first = rows.argsort(dim=-1, descending=True, stable=True)[..., :active]
    return torch.zeros_like(rows).scatter(-1, first, 1.0)


def modular(rows: Rows, modules: int | None = None) -> Rows:
    """1 at the largest entry of each module (of equal ones the first), 0 elsewhere; `modules_of` the rows by default."""
    modules = modules_of(rows.shape[-1]) if modules is None else modules
    if rows.shape[-1] % modules:
        raise ValueError(f"modular: {rows.shape[-1]} entries do not make {modules} equal modules; choose a divisor.")
    apart = rows.reshape(len(rows), modules, rows.shape[-1] // modules)
    first = apart.argsort(dim=-1, descending=True, stable=True)[..., :1]
    return torch.zeros_like(apart).scatter(-1, first, 1.0).flatten(1)


def prepare(rows: Rows, preparation: Preparation, like: Float[Tensor, "other dim"] | None = None) -> Rows:
    """Rows as a memory takes them: "raw" as they are, "bipolar" ±1 (in the range of `like`, if given), "unit" centred and of length 1,
    "sparse" 1 at the few largest entries and 0 elsewhere, "modular" 1 at the largest entry of each module.
    """
    if preparation == "bipolar":
        return bipolar(rows, like)
    if preparation == "sparse":
        return sparse(rows)
    if preparation == "modular":
        return modular(rows)
    if preparation not in ("unit", "raw"):
        raise ValueError(f'prepare: the preparation must be "raw", "bipolar", "unit", "sparse" or "modular", got {preparation!r}.')
    return unit(rows) if preparation == "unit" else rows
