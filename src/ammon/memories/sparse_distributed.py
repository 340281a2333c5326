"""SparseDistributedMemory: random hard locations, each with a counter per entry; near ones are written and read together (Kanerva 1988).

f(x) = sign(Σ counters of the locations within the Hamming radius of x), iterated. Patterns, cues and values hold only -1 and +1.
"""

import math
from typing import Unpack

import torch
from jaxtyping import Bool
from torch import Tensor

from ammon.dynamics.settle import Recall, Settling, settle
from ammon.memories.base import Memory
from ammon.memories.checks import check_cue, check_pair
from ammon.parts.lagrangians import Sign
from ammon.shapes import Energies, Rows, States, Weights, check_bipolar, check_count

Active = Bool[Tensor, "row location"]


def radius_of(dim: int, fraction: float) -> int:
    """The smallest Hamming radius at which a random location takes part with a chance of at least `fraction`.

    With N patterns and M locations the signal-to-noise ratio is largest near the fraction (2MN)^(-1/3) (Kanerva 1988).
    """
    check_count("radius_of", "dim", dim)
    if not 0 < fraction <= 1:
        raise ValueError(f"radius_of: fraction must be in (0, 1], got {fraction}.")
    total = 0.0
    for radius in range(dim):
        total += math.exp(math.lgamma(dim + 1) - math.lgamma(radius + 1) - math.lgamma(dim - radius + 1) - dim * math.log(2))
        if total >= fraction:
            return radius
    return dim


class SparseDistributedMemory(Memory):
    """Constant in size, whatever the number of patterns: num_locations × (dim + value_dim) numbers.

    A read weighs each stored value by the number of locations that lie within the radius of the cue and of its pattern both, so
    nearer patterns count more (Kanerva 1988; as attention: Bricken & Pehlevan 2021). With values it settles among the keys, in
    counters of their own, and reads the values in its last step. A cue with no location within its radius stays; its value reads as 0.
    radius: largest Hamming distance, in entries, at which a location takes part. The locations are drawn from the seed.
    """

    def __init__(self, dim: int, num_locations: int, radius: int, seed: int = 0, steps: int = 20) -> None:
        super().__init__()
        check_count("SparseDistributedMemory", "dim", dim)
        check_count("SparseDistributedMemory", "num_locations", num_locations)
        check_count("SparseDistributedMemory", "steps", steps)
        if not 0 <= radius <= dim:
            raise ValueError(f"SparseDistributedMemory: radius must be between 0 and dim = {dim}, got {radius}.")
        self.dim, self.num_locations, self.radius, self.seed, self.steps = dim, num_locations, radius, seed, steps
        bits = torch.randint(2, (num_locations, dim), generator=torch.Generator().manual_seed(seed))
        self.register_buffer("locations", 2.0 * bits - 1)
        # whole numbers, which a change of dtype leaves alone; one row of counters per location
        self.register_buffer("counters", torch.zeros(num_locations, 0, dtype=torch.int32))
        self.register_buffer("contents", torch.zeros(num_locations, 0, dtype=torch.int32))
        self.register_buffer("written", torch.zeros(2, dtype=torch.int64))
        self.locations: Tensor
        self.counters: Tensor  # of the keys, [location, dim]
        self.contents: Tensor  # of the values, [location, value_dim]
        self.written: Tensor  # patterns, of which with a value of their own

    def write(self, patterns: Rows, values: Rows | None = None) -> None:
        check_pair(self, patterns, values, self.contents.shape[1] if self._hetero else None)
        check_bipolar("SparseDistributedMemory.write", "pattern", patterns)
        if values is not None:
            check_bipolar("SparseDistributedMemory.write", "value", values)
        if len(self) == 0:
            self.locations = self.locations.to(patterns)
            self.counters = torch.zeros(self.num_locations, self.dim, dtype=torch.int32, device=patterns.device)
            value_dim = 0 if values is None else values.shape[1]
            self.contents = torch.zeros(self.num_locations, value_dim, dtype=torch.int32, device=patterns.device)
        patterns = patterns.detach().to(self.locations)
        active = self._active(patterns).float().mT
        self.counters = self.counters + (active @ patterns.float()).to(torch.int32)
        if values is not None:
            self.contents = self.contents + (active @ values.detach().to(active)).to(torch.int32)
        change = torch.tensor([len(patterns), 0 if values is None else len(patterns)], device=self.written.device)
        self.written = self.written + change

    def recall(self, cue: States, **settling: Unpack[Settling]) -> Recall:
        check_cue(self, "recall", cue, self.locations)
        check_bipolar("SparseDistributedMemory.recall", "cue", cue)
        settling = {"steps": self.steps, **settling}
        return settle(lambda state, rows: self._step(state), cue, read=self._read if self._hetero else None, **settling)

    def energy(self, state: States) -> Energies:
        raise TypeError(
            "SparseDistributedMemory.energy: the counters weigh a cue's neighbours, which is no gradient, so there is no energy."
        )

    def weights(self, cue: States) -> Weights:
        raise TypeError("SparseDistributedMemory.weights: the patterns are superposed in counters, so none has a weight of its own.")

    def active(self, cue: States) -> Active:
        """Which locations lie within the radius of each cue, [batch, location]."""
        check_cue(self, "active", cue, self.locations)
        return self._active(cue)

    def __len__(self) -> int:
        return int(self.written[0])

    @property
    def _hetero(self) -> bool:
        return bool(self.written[1] > 0)

    def _active(self, rows: Tensor) -> Tensor:
        # for ±1 the distance is (dim - x·y)/2, a whole number that float32 holds and half precision does not
        return rows.float() @ self.locations.float().mT >= self.dim - 2 * self.radius

    def _step(self, state: Tensor) -> Tensor:
        active = self._active(state)
        return torch.where(active.any(-1, keepdim=True), self._sum(active, self.counters).to(state.dtype), state)

    def _read(self, state: Tensor) -> Tensor:
        active = self._active(state)
        return torch.where(active.any(-1, keepdim=True), self._sum(active, self.contents), 0).to(state.dtype)

    def _sum(self, active: Tensor, counters: Tensor) -> Tensor:
        # in a dtype that holds every sum of counters exactly
        wide = torch.float32 if len(self) * self.num_locations < 1 / torch.finfo(torch.float32).eps else torch.float64
        return Sign().activation(active.to(wide) @ counters.to(wide))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        # counters of another size, or locations in another dtype, are no error: they replace these
        for name in ("locations", "counters", "contents"):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args)
