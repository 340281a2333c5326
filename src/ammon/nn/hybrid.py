"""Hybrid: several memories side by side, and a gate that says how much of each goes into the stream. x [batch, time, dim] → the same.

y = x + Σ g_i · norm_i(m_i(norm(x))), g = sigmoid or softmax of W [norm(x); norm_1(m_1); ...; norm_n(m_n)].
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ammon.nn.attention import Attention
from ammon.nn.joint import Joint, JointState, Memories
from ammon.nn.packing import only
from ammon.nn.state import Mode
from ammon.nn.told import Told
from ammon.shapes import check_count

Kind = Literal["sigmoid", "softmax"]
Per = Literal["token", "head", "channel"]


class Gate(nn.Module):
    """How much of each source a token takes: [batch, time, source, group], group 1, `heads` or dim.

    start: the share each source begins with, in (0, 1). A softmax makes them sum to 1.
    """

    def __init__(self, dim: int, names: tuple[str, ...], start: tuple[float, ...], kind: Kind, groups: int) -> None:
        super().__init__()
        self.names, self.kind, self.groups = names, kind, groups
        self.weigh = nn.Linear((len(names) + 1) * dim, len(names) * groups)
        with torch.no_grad():
            self.weigh.weight.mul_(0.1)
            for which, share in enumerate(start):
                bias = math.log(share) if kind == "softmax" else math.log(share / (1 - share))
                self.weigh.bias[which * groups : (which + 1) * groups] = bias

    def forward(self, x: Tensor, sources: list[Tensor]) -> Tensor:
        scores = self.weigh(torch.cat([x, *sources], -1)).unflatten(-1, (len(self.names), self.groups))
        return torch.sigmoid(scores) if self.kind == "sigmoid" else torch.softmax(scores, -2)

    def extra_repr(self) -> str:
        return f"{', '.join(self.names)}, {self.kind}"


class Hybrid(Joint):
    """Any named memories, each normalised before they are mixed, as else the larger would decide.

    gate: "sigmoid", each source on its own, or "softmax", as shares of 1. per: one gate a "token", a "head" (`heads` equal parts of the
    channels), or a "channel". start: the gates at first, in (0, 1), one for all or by name; by default .9 for attention and .1 for the
    rest, so that a block begins as if without memory.
    """

    def __init__(
        self,
        memories: Mapping[str, nn.Module],
        gate: Kind = "sigmoid",
        per: Per = "token",
        heads: int = 1,
        start: float | Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.memories = Memories("Hybrid", memories)
        self.dim = dim = self.memories.dim
        if gate not in ("sigmoid", "softmax"):
            raise ValueError(f'Hybrid: gate must be "sigmoid" or "softmax", got {gate!r}.')
        if per not in ("token", "head", "channel"):
            raise ValueError(f'Hybrid: per must be "token", "head" or "channel", got {per!r}.')
        check_count("Hybrid", "heads", heads)
        if dim % heads:
            raise ValueError(f"Hybrid: dim must be a multiple of heads, got {dim} and {heads}.")
        groups = {"token": 1, "head": heads, "channel": dim}[per]
        self.norm = nn.RMSNorm(dim)
        # what is read may be tiny, so the floor of the norm is too
        self.norms = nn.ModuleList(nn.RMSNorm(dim, eps=1e-6) for _ in memories)
        self.gate = Gate(dim, self.memories.names, _shares(self.memories, start), gate, groups)

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
        """x + what the gates let through, and the states after the last token. The rest as for each of the memories.

        mode "write-only" gives zeros.
        """
        self.memories.check(x, state, mask, mode)
        x = only(x, mask)
        normed = self.norm(x)
        given, after = self.memories(normed, state, mask, mode, Told(boundary, surprise, items))
        if mode == "write-only":
            return torch.zeros_like(x), after
        sources = [norm(y) for norm, y in zip(self.norms, given, strict=True)]
        gates = self.gate(normed, sources)
        mixed = torch.stack([source.unflatten(-1, (self.gate.groups, -1)) for source in sources], 2) * gates[..., None]
        return only(x + mixed.sum(2).flatten(2), mask), after


def _shares(memories: Memories, start: float | Mapping[str, float] | None) -> tuple[float, ...]:
    default = {name: 0.9 if isinstance(layer, Attention) else 0.1 for name, layer in memories.layers.items()}
    if isinstance(start, Mapping):
        unknown = start.keys() - default.keys()
        if unknown:
            raise ValueError(f"Hybrid: start names {', '.join(sorted(unknown))}; there are {', '.join(default)}.")
        default |= start
    elif start is not None:
        default = dict.fromkeys(default, float(start))
    for name, share in default.items():
        if not 0 < share < 1:
            raise ValueError(f"Hybrid: the start of {name} must be in (0, 1), got {share}.")
    return tuple(default.values())


@dataclass
class GateTrace:
    """The gates of one block, call after call."""

    names: tuple[str, ...]
    calls: list[Tensor] = field(default_factory=list)

    @property
    def gates(self) -> Tensor:
        """[batch, time, source]: the mean over heads or channels, all calls one after the other."""
        return torch.cat([call.mean(-1) for call in self.calls], 1)

    @property
    def mean(self) -> dict[str, float]:
        """The mean of each source over all tokens."""
        means = torch.cat([call.mean(-1).flatten(0, 1) for call in self.calls]).mean(0)
        return {name: float(value) for name, value in zip(self.names, means, strict=True)}

    @property
    def entropy(self) -> Tensor:
        """[batch, time], in nats, of the shares of the sources; log(number of sources) if all count alike."""
        gates = self.gates
        shares = gates / gates.sum(-1, keepdim=True)
        return -torch.xlogy(shares, shares).sum(-1)


@contextmanager
def record_gates(model: nn.Module) -> Iterator[dict[str, GateTrace]]:
    """The gates of all blocks of a model that are used meanwhile, detached, by the path of each block.

    `with record_gates(model) as traces: model(x)`, then `traces["blocks.1"].mean`. ValueError if the model has none.
    """
    gates = {name.removesuffix("gate").removesuffix("."): module for name, module in model.named_modules() if isinstance(module, Gate)}
    if not gates:
        raise ValueError("record_gates: the model has no gated block; use Hybrid.")
    traces = {name: GateTrace(gate.names) for name, gate in gates.items()}

    def note(trace: GateTrace) -> Any:
        return lambda module, inputs, found: trace.calls.append(found.detach().float().cpu())

    hooks = [gate.register_forward_hook(note(traces[name])) for name, gate in gates.items()]
    try:
        yield traces
    finally:
        for hook in hooks:
            hook.remove()
