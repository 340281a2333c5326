"""Synapses: the adjustable numbers with which a memory recalls, so that capacities can be compared per number held.

A matrix of weights counts its entries, without the diagonal where no unit votes for itself; kept patterns count one number per entry, as
the weights between the units and one hidden unit for each pattern (Krotov & Hopfield 2021); of ±1 memories whose separation is the
identity only the pair weights, however they are held, since patterns beyond dim add no new numbers to them.
"""

from torch import Tensor

from ammon.memories.base import Memory
from ammon.memories.binary import BinaryMemory
from ammon.memories.pairwise import PairwiseMemory
from ammon.parts.lagrangians import Identity

# drawn once and never changed, or no part of recall
FIXED = ("locations", "directions", "written", "like", "_extra_state")


def synapses(memory: Memory) -> int:
    """Adjustable numbers in use; those that were drawn once and never change (hard locations, frequencies) are not counted."""
    if isinstance(memory, BinaryMemory) and isinstance(memory.separation, Identity):
        return memory.dim * (memory.dim - 1)
    if isinstance(memory, PairwiseMemory):
        return memory.matrix.numel() - (len(memory.matrix) if memory.update == "asynchronous" else 0)
    held: dict[str, Tensor] = memory.state_dict()
    return sum(tensor.numel() for name, tensor in held.items() if name.rpartition(".")[2] not in FIXED)
