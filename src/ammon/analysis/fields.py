"""Fields: what tells each unit of a ±1 memory its next value, its own vote left out where the memory leaves it out."""

from torch import Tensor

from ammon.energies.flips import PatternFlips
from ammon.energies.pairwise_flips import PairwiseFlips
from ammon.memories.associative import AssociativeMemory
from ammon.memories.base import Memory
from ammon.memories.binary import BinaryMemory
from ammon.memories.kernel import KernelFields, KernelMemory
from ammon.memories.pairwise import PairwiseMemory
from ammon.parts.lagrangians import Sign
from ammon.parts.retrieve import weigh
from ammon.shapes import States


def fields(memory: Memory, state: States) -> States:
    """The field h on every unit of every state, [batch, dim]: a unit becomes +1 where it is >= 0. TypeError for memories without one.

    Dense memories: half the energy difference of a flip, exponential ones up to a positive factor per state.
    """
    everyone = slice(None)
    if isinstance(memory, BinaryMemory):
        flips = PatternFlips(memory.keys.rows, memory.separation)
        return flips.field(flips.begin(state), state, everyone)
    if isinstance(memory, PairwiseMemory) and isinstance(memory.activation, Sign):
        if memory.update == "asynchronous":
            pairwise = PairwiseFlips(memory.matrix, memory.bias)
            return pairwise.field(pairwise.begin(state), state, everyone)
        field = state @ memory.matrix.mT
        return field if memory.bias is None else field + memory.bias
    if isinstance(memory, KernelMemory):
        learned = KernelFields(memory.keys.rows, memory.dual, memory.kernel)
        return learned.field(learned.begin(state), state, everyone)
    if isinstance(memory, AssociativeMemory) and isinstance(memory.activation, Sign):
        mixed: Tensor = weigh(state, memory.keys.rows, memory.similarity, memory.separation) @ memory.keys.rows
        return mixed
    raise TypeError(f"fields: {type(memory).__name__} has no field of ±1 units; take a memory whose units are signs.")


def has_fields(memory: Memory) -> bool:
    """Whether `fields` is for this memory."""
    signs = isinstance(memory, PairwiseMemory | AssociativeMemory) and isinstance(memory.activation, Sign)
    return signs or isinstance(memory, BinaryMemory | KernelMemory)
