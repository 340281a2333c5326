"""Synapses: the numbers that a memory has learned and recalls with, so that capacities can be compared per number held.

A matrix of weights counts its entries, without a diagonal that is 0; kept patterns count one number per entry, as the weights of one hidden
unit for each pattern (Krotov & Hopfield 2021); of ±1 memories whose separation is the identity only the pair weights count, however they
are held, since patterns beyond dim add no new numbers to them. What is fixed or drawn (frequencies, hard locations) does not count.
"""

from torch import Tensor, nn

from ammon.memories.bank import Bank
from ammon.memories.base import Memory
from ammon.memories.binary import BinaryMemory
from ammon.memories.pairwise import PairwiseMemory
from ammon.parts.features import Expansion
from ammon.parts.lagrangians import Identity

# drawn once and never changed, or no part of recall
FIXED = ("locations", "written", "like")


def synapses(memory: Memory) -> int:
    """Numbers that the memory has learned."""
    if isinstance(memory, BinaryMemory) and isinstance(memory.separation, Identity):
        return memory.dim * (memory.dim - 1)
    return sum(_held(part) for part in memory.modules())


def _held(part: nn.Module) -> int:
    if isinstance(part, PairwiseMemory):
        return _entries(part.matrix)
    if isinstance(part, Bank):
        return part.rows.numel()
    if isinstance(part, Expansion):
        return 0
    own = dict(part.named_buffers(recurse=False))
    return sum(rows.numel() for name, rows in own.items() if name not in FIXED and not name.startswith("learned_"))


def _entries(matrix: Tensor) -> int:
    bare = matrix.shape[0] == matrix.shape[1] and not bool(matrix.diagonal().any())
    return matrix.numel() - (len(matrix) if bare else 0)
