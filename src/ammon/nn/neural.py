"""NeuralMemory: a layer whose memory is a small network per row and head that learns by surprise, in training as in use (Titans).

x [batch, time, dim] → y [batch, time, dim] and the state after it (Behrouz et al. 2024, sections 3.1 and 3.2).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ammon.learning.fast_weights import Fast, Gates, Held, Mlp, Network
from ammon.learning.surprise import Surprise, open_gates
from ammon.nn.convolution import ShortConvolution
from ammon.nn.packing import Packing, packing
from ammon.nn.state import Mode, State, check_input, check_rows_of, check_state, record, replace_rows
from ammon.shapes import check_count, check_positive


@record
class NeuralState(State):
    """What a `NeuralMemory` has learned in use. Weights and momentum [batch, head, ...] per matrix of its network."""

    anchor: tuple[Tensor, ...]  # weights at the start of the chunk
    weights: tuple[Tensor, ...]
    momentum: tuple[Tensor, ...]
    filled: Tensor  # [batch], tokens written of the chunk
    tail: Tensor  # [batch, convolution - 1, channel], last inputs of the short convolution

    @property
    def held(self) -> Held:
        return Held(self.anchor, self.weights, self.momentum, self.filled)


class NeuralMemory(nn.Module):
    """Keys, values and queries by projection, short convolution and SiLU; keys and queries of length 1; gates per token and head.

    θ = rate · σ(·) / chunk, since the gradients of a chunk add up; η = σ(·), near .9 at first; α = σ(·), near .01. Without momentum η = 0,
    without decay α = 0. What is read is normalised per head and projected. The first weights are learned parameters; the rest is state.

    network: `Mlp(depth)`, or any `Network`. convolution: its width, 1 for none. The named memories are settings: `delta_net`, `ttt`.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 1,
        network: Network | None = None,
        rule: Surprise | None = None,
        *,
        rate: float = 1.0,
        momentum: bool = True,
        decay: bool = True,
        convolution: int = 4,
        unit_values: bool = False,
    ) -> None:
        super().__init__()
        where = "NeuralMemory"
        for name, value in (("dim", dim), ("heads", heads), ("convolution", convolution)):
            check_count(where, name, value)
        check_positive(where, "rate", rate)
        if dim % heads:
            raise ValueError(f"{where}: dim must be a multiple of heads, got {dim} and {heads}.")
        self.dim, self.heads, self.rate, self.momentum, self.decay = dim, heads, rate, momentum, decay
        self.unit_values = unit_values
        self.network: Network = network or Mlp()
        self.rule = rule or Surprise()
        self.rule.form_of(self.network)
        self.project = nn.Linear(dim, 3 * dim, bias=False)
        self.convolution = ShortConvolution(3 * dim, convolution)
        self.gate = nn.Linear(dim, 3 * heads)
        self.norm = nn.RMSNorm(dim // heads, eps=1e-6)
        self.out = nn.Linear(dim, dim, bias=False)
        self.initial = nn.ParameterList(self.network.initial(heads, dim // heads))
        with torch.no_grad():
            self.gate.weight.mul_(0.1)
            for which, share in enumerate((0.5, 0.9, 0.01)):
                self.gate.bias[which * heads : (which + 1) * heads] = math.log(share / (1 - share))

    def init_state(self, batch: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> NeuralState:
        """The state of `batch` rows that have seen nothing; in float32 at least, as small steps vanish in less."""
        check_count("NeuralMemory.init_state", "batch", batch)
        like = self.out.weight
        dtype = torch.promote_types(dtype or like.dtype, torch.float32)
        weights = tuple(w.to(device, dtype).expand(batch, *w.shape) for w in self.initial)
        tail = like.new_zeros(batch, self.convolution.width - 1, 3 * self.dim, device=device, dtype=dtype)
        filled = torch.zeros(batch, dtype=torch.int64, device=tail.device)
        return NeuralState(weights, weights, tuple(torch.zeros_like(w) for w in weights), filled, tail)

    def reset(self, state: NeuralState, rows: Tensor) -> NeuralState:
        """The state with the rows [batch] that are True as if they had seen nothing."""
        check_rows_of("NeuralMemory.reset", state, rows)
        return replace_rows(state, self._fresh(state.batch), rows)

    def forward(
        self, x: Tensor, state: NeuralState | None = None, *, mask: Tensor | None = None, mode: Mode = "read-write"
    ) -> tuple[Tensor, NeuralState]:
        """What each token reads after it is written, and the state after the last.

        mask [batch, time]: True where a token is there; the others change nothing and read zeros. mode: "read-only" leaves what is
        learned as it is (only the convolution moves on), "write-only" gives zeros.
        """
        check_input("NeuralMemory", x, mask, self.dim, mode)
        aligned = state is None
        fresh = self._fresh(x.shape[0])
        if state is None:
            state = fresh
        else:
            check_state("NeuralMemory", state, fresh)
        return self.run(x, state, mask, mode, aligned)

    def run(self, x: Tensor, state: NeuralState, mask: Tensor | None, mode: Mode, aligned: bool) -> tuple[Tensor, NeuralState]:
        """`forward` without checks. aligned: it is known that all rows with tokens stand at the start of a chunk, which saves work."""
        if not x.shape[1]:
            return torch.zeros_like(x), state
        places = packing(mask)
        x_packed = places.pack(x)
        queries, keys, values, tail = self._rows(x_packed, state.tail, places)
        held, read = state.held, None
        # small steps vanish in half precision, so autocast ends here
        with torch.autocast(x.device.type, enabled=False):
            queries, keys, values = (rows.to(state.tail.dtype) for rows in (queries, keys, values))
            if mode == "read-only":
                read = self._recall(held.weights, queries)
            else:
                asked = queries if mode == "read-write" else None
                gates = self._gates(x_packed)
                read, held = self.rule.learn(self.network, held, keys, values, gates, asked, count=places.count, aligned=aligned)
        y = torch.zeros_like(x) if read is None else places.unpack(self._mix(read, x.dtype))
        return y, NeuralState(held.anchor, held.weights, held.momentum, held.filled, tail)

    @torch.no_grad()
    def surprise(self, x: Tensor, state: NeuralState | None = None, *, mask: Tensor | None = None) -> Tensor:
        """How much each token surprises as `forward` learns it: the norm of its gradient over all heads, before any limit [batch, time].

        Measured at the start of the token's chunk, so of a chunk's tokens none knows the others; 0 where the mask is. Has no gradient.
        """
        check_input("NeuralMemory.surprise", x, mask, self.dim, "read-write")
        aligned, fresh = state is None, self._fresh(x.shape[0])
        if state is None:
            state = fresh
        else:
            check_state("NeuralMemory.surprise", state, fresh)
        if not x.shape[1]:
            return x.new_zeros(x.shape[:2])
        places = packing(mask)
        rows = places.pack(x)
        _, keys, values, _ = self._rows(rows, state.tail, places)
        with torch.autocast(x.device.type, enabled=False):
            keys, values = keys.to(state.tail.dtype), values.to(state.tail.dtype)
            found = self.rule.norms(self.network, state.held, keys, values, self._gates(rows), count=places.count, aligned=aligned)
        return places.unpack(found.square().sum(1).sqrt())

    def extra_repr(self) -> str:
        return f"dim={self.dim}, heads={self.heads}, network={self.network}, rule={self.rule}, momentum={self.momentum}, decay={self.decay}"

    def _fresh(self, batch: int) -> NeuralState:
        return self.init_state(batch, self.out.weight.device)

    def _rows(self, x: Tensor, tail: Tensor, places: Packing) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys and values [batch, head, time, entry], and the tail of the convolution."""
        mixed, tail = self.convolution(self.project(x), tail, places.count)
        units = 3 if self.unit_values else 2
        if torch.compiler.is_compiling():
            return *_active(mixed, self.heads, units), tail
        return *_Active.apply(mixed, self.heads, units), tail  # type: ignore[no-untyped-call]

    def _gates(self, x: Tensor) -> Gates:
        weight, bias = self.gate.weight, self.gate.bias
        dtype = torch.promote_types(weight.dtype, torch.float32)
        opened = torch.sigmoid(functional.linear(x.to(dtype), weight.to(dtype), bias.to(dtype)))
        step, momentum, decay = opened.mT.chunk(3, 1)
        return open_gates(
            step * (self.rate / self.rule.chunk),
            momentum if self.momentum else torch.zeros_like(momentum),
            decay if self.decay else torch.zeros_like(decay),
        )

    def recall(self, weights: Fast, asked: Tensor) -> Tensor:
        """What weights [batch, head, ...] give for asked [batch, time, dim], as queries before SiLU: [batch, time, dim]. Writes nothing."""
        queries = functional.silu(asked).reshape(*asked.shape[:2], self.heads, -1).transpose(1, 2)
        with torch.autocast(asked.device.type, enabled=False):
            read = self._recall(weights, _unit(queries.to(weights[0].dtype)))
        return self._mix(read, asked.dtype)

    def _recall(self, weights: Fast, queries: Tensor) -> Tensor:
        if isinstance(self.network, Mlp):
            return self.network(weights, queries)
        per_token: Any = torch.func.vmap(self.network, in_dims=(None, 0))
        read: Tensor = torch.func.vmap(torch.func.vmap(per_token))(weights, queries)
        return read

    def _mix(self, read: Tensor, dtype: torch.dtype) -> Tensor:
        normed = self.norm(read.to(self.norm.weight.dtype))
        mixed: Tensor = self.out(normed.transpose(1, 2).flatten(2))
        return mixed.to(dtype)


def _unit(rows: Tensor) -> Tensor:
    """Rows of length 1; rows near 0 stay short, so that their gradients stay finite."""
    return rows * torch.rsqrt(rows.square().sum(-1, keepdim=True) + 1e-6)


def _parts(mixed: Tensor, heads: int) -> Tensor:
    """[batch, time, 3 · dim] as queries, keys and values [3, batch, head, time, entry]."""
    return mixed.reshape(*mixed.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)


def _active(mixed: Tensor, heads: int, units: int) -> tuple[Tensor, Tensor, Tensor]:
    """SiLU of queries, keys and values, the first `units` of them of length 1."""
    rows = functional.silu(_parts(mixed, heads))
    queries, keys, values = (_unit(part) if which < units else part for which, part in enumerate(rows))
    return queries, keys, values


class _Active(torch.autograd.Function):
    """`_active`, each part in one piece of memory as the products want it, with its gradient written into one tensor."""

    @staticmethod
    def forward(ctx: Any, mixed: Tensor, heads: int, units: int) -> tuple[Tensor, ...]:
        found, scales = [], []
        for which, part in enumerate(_parts(mixed, heads)):
            rows = torch.sigmoid(part, out=part.new_empty(part.shape)).mul_(part)
            if which < units:
                scales.append(torch.rsqrt(torch.linalg.vector_norm(rows, dim=-1, keepdim=True).square_().add_(1e-6)))
                rows.mul_(scales[-1])
            found.append(rows)
        ctx.heads, ctx.units = heads, units
        ctx.save_for_backward(mixed, *found[:units], *scales)
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        mixed, *saved = ctx.saved_tensors
        if torch.is_grad_enabled():
            (found,) = torch.autograd.grad(_active(mixed, ctx.heads, ctx.units), mixed, gradients, create_graph=True)
            return found, None, None
        to_mixed = torch.empty_like(mixed)
        for which, (to_part, part, gradient) in enumerate(zip(_parts(to_mixed, ctx.heads), _parts(mixed, ctx.heads), gradients)):
            if which < ctx.units:
                rows, scale = saved[which], saved[ctx.units + which]
                gradient = torch.addcmul(gradient, rows, (rows * gradient).sum(-1, keepdim=True), value=-1).mul_(scale)
            torch.ops.aten.silu_backward.grad_input(gradient, part, grad_input=to_part)
        return to_mixed, None, None


def delta_net(dim: int, heads: int = 1, chunk: int = 1, convolution: int = 4) -> NeuralMemory:
    """DeltaNet: a linear memory without momentum and decay, M ← M - β (M k - v) kᵀ, β in (0, 1) (Yang et al. 2024); exact at chunk 1."""
    return NeuralMemory(dim, heads, Mlp(depth=1), Surprise(chunk), rate=0.5 * chunk, momentum=False, decay=False, convolution=convolution)


def ttt(dim: int, heads: int = 1, depth: int = 1, chunk: int = 16) -> NeuralMemory:
    """TTT: x + norm(network) learns v without momentum and decay, gradients at the start of each chunk (Sun et al. 2024).

    The norm has no weights of its own and the matrices no biases, which the paper's have.
    """
    return NeuralMemory(dim, heads, Mlp(depth, residual=True), Surprise(chunk), momentum=False, decay=False)
