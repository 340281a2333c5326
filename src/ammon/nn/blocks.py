"""Blocks without a gate: memories side by side, memories one after the other, and a stack whose layers read one bank.

x [batch, time, dim] → the same and the states after it. Each normalises first and adds to the stream, so that nothing of x is lost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ammon.nn.drifting import Drift
from ammon.nn.episodic import EpisodicMemory
from ammon.nn.joint import InTurn, Joint, JointState, Memories, ask
from ammon.nn.packing import only, packing
from ammon.nn.state import Mode, State
from ammon.nn.told import Told


class Parallel(Joint):
    """y = x + W [m_1(norm(x)); ...; m_n(norm(x))]: all see the same, and what they give is put together and projected."""

    def __init__(self, memories: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.memories = Memories("Parallel", memories)
        self.dim = self.memories.dim
        self.norm = nn.RMSNorm(self.dim)
        self.join = nn.Linear(len(memories) * self.dim, self.dim, bias=False)

    def forward(
        self,
        x: Tensor,
        state: JointState | None = None,
        *,
        mask: Tensor | None = None,
        mode: Mode = "read-write",
        boundary: Tensor | None = None,
        surprise: Tensor | None = None,
        items: Tensor | None = None,
    ) -> tuple[Tensor, JointState]:
        """y and the states after the last token; the rest as for each of the memories. mode "write-only" gives zeros."""
        self.memories.check(x, state, mask, mode)
        x = only(x, mask)
        given, after = self.memories(self.norm(x), state, mask, mode, Told(boundary, surprise, items))
        if mode == "write-only":
            return torch.zeros_like(x), after
        return only(x + self.join(torch.cat(given, -1)), mask), after


class Series(InTurn):
    """h_i = h_{i-1} + m_i(norm_i(h_{i-1})), h_0 = x, y = h_n: in the order given, attention → memory or memory → attention."""

    def __init__(self, memories: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.memories = Memories("Series", memories)
        self.dim = self.memories.dim
        self.norms = nn.ModuleList(nn.RMSNorm(self.dim) for _ in memories)

    def pass_on(self, x: Tensor, parts: Sequence[Any], mask: Tensor | None, told: Told) -> tuple[Tensor, Sequence[State]]:
        after = []
        for norm, layer, part in zip(self.norms, self.memories.layers.values(), parts, strict=True):
            y, part = ask(layer, norm(x), part, mask, "read-write", told)
            x = x + y
            after.append(part)
        return x, after


class SharedBank(InTurn):
    """Layers that read one bank: h += m_i(norm(h)), h += read_i(norm(h)), in turn. The bank is written once, from norm(x).

    layers: those between the reads, e.g. attention, by name. Each read has queries, sharpness and projection of its own; keys, values and
    context are the bank's, so its state and its writes count once, however many layers there are. A token sees the items of the bank that
    it would see in `EpisodicMemory`.
    """

    def __init__(self, bank: EpisodicMemory, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.memories = Memories("SharedBank", {"bank": bank, **layers}, least=2)
        if bank.counts:
            raise ValueError("SharedBank: a bank that evicts by use is read token after token; choose another policy to share it.")
        self.dim = bank.dim
        self.norm = nn.RMSNorm(self.dim)
        self.norms = nn.ModuleList(nn.RMSNorm(self.dim) for _ in range(2 * len(layers)))
        # the first reads with what the bank has
        self.reads = nn.ModuleList(bank.read.alike() for _ in range(len(layers) - 1))

    def pass_on(self, x: Tensor, parts: Sequence[Any], mask: Tensor | None, told: Told) -> tuple[Tensor, Sequence[State]]:
        bank, *layers = self.memories.layers.values()
        assert isinstance(bank, EpisodicMemory)
        # `checked` refuses a state of another kind
        held, begun = bank.checked(x, parts[0], mask, "read-write", told)
        if not x.shape[1]:
            return x, (held, *(ask(layer, x, part, mask, "read-write", told)[1] for layer, part in zip(layers, parts[1:])))
        places = packing(mask)
        cues, pages, written = bank.turn(self.norm(x), held, begun, places, "read-write", told)
        after: list[State] = [written]
        for number, (layer, part) in enumerate(zip(layers, parts[1:], strict=True)):
            y, part = ask(layer, self.norms[2 * number](x), part, mask, "read-write", told)
            x = x + y
            read = bank.read if not number else self.reads[number - 1]
            asked = replace(cues, rows=places.pack(self.norms[2 * number + 1](x)))
            x = x + places.unpack(read(asked, pages))
            after.append(part)
        return x, after


def stacked_cmr(dim: int, heads: int = 1, slots: int | None = 256, layers: int = 2, context: int = 16, hops: int = 1) -> Series:
    """Episodic memories with drifting contexts and reinstatement, one on the other: each takes what the one before it recalled as items."""
    return Series(
        {f"cmr_{layer + 1}": EpisodicMemory(dim, heads, slots, context=Drift(dim, heads, context), hops=hops) for layer in range(layers)}
    )
