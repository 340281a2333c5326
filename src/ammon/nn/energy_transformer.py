"""The Energy Transformer block: tokens that descend one energy, of attention and of stored patterns (Hoover et al. 2023).

x [batch, token, dim] are the tokens' states, g = ∇L(x) what they show of them, L the Lagrangian of the layer norm. Both energies push from
the same g: x ← x - α dE/dg. As L is convex, dE/dt = -ẋ · ∇²L ẋ ≤ 0; `safe_step` says up to which α a whole step goes down too.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ammon.dynamics.backtracking import Backtracking, Place, held_to
from ammon.dynamics.settle import changes, default_tolerance, settle
from ammon.energies.stored import StoredPatterns
from ammon.nn.state import check_input
from ammon.nn.token_descent import Plan, descend
from ammon.nn.token_energies import AttentionEnergy
from ammon.parts.lagrangians import LayerNorm
from ammon.parts.separations import Relu
from ammon.shapes import check_count, check_positive

# a step that does not go down is halved so often at most: then it is below rounding
HALVINGS = 40


@dataclass(frozen=True)
class Descent:
    """What a descent that watches its energy gives, item by item."""

    tokens: Tensor  # [batch, token, dim]
    energies: Tensor  # [step + 1, batch], of the start first; an item that has stopped keeps its last
    steps: Tensor  # [batch], steps that were made
    converged: Tensor  # [batch], the last one moved no entry of g beyond the tolerance
    cycled: Tensor  # [batch], g returned to where it was two steps ago, as too large a step may make it
    trajectory: Tensor | None = None  # [step + 1, batch, token, dim], the start first, if asked for


class EnergyTransformer(nn.Module):
    """`steps` steps down one energy.

    own: a query also sees the key of its own token, as in the released weights; the paper's sum leaves it out.
    fast: hand-written passes forward and backward; without them plain operations, which torch.func and second derivatives need.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 4,
        *,
        head_dim: int = 64,
        memories: int | None = None,
        steps: int = 12,
        step: float = 0.1,
        own: bool = True,
        fast: bool = True,
    ) -> None:
        super().__init__()
        check_count("EnergyTransformer", "dim", dim)
        check_count("EnergyTransformer", "steps", steps)
        check_positive("EnergyTransformer", "step", step)
        self.dim, self.steps, self.step, self.own, self.fast = dim, steps, float(step), own, fast
        self.norm = LayerNorm(delta=torch.zeros(dim), learnable=True)
        self.attention = AttentionEnergy(dim, heads, head_dim)
        memories = 4 * dim if memories is None else memories
        check_count("EnergyTransformer", "memories", memories)
        # E = -½ Σ_B Σ_m relu(ξ_m · g_B)², a dense memory that all tokens share (eq. 7): concave in g, so any step of its own goes down
        self.patterns = StoredPatterns(torch.randn(memories, dim) / math.sqrt(dim), separation=Relu(), learnable=True)

    def forward(self, x: Tensor, *, mask: Tensor | None = None, edges: Tensor | None = None) -> Tensor:
        """The tokens after `steps` steps. mask [batch, token]: True where a token is there; the others give zeros and are seen by none.

        edges [batch, token, token]: True where the first token (the query) may see the second (the key); None: everywhere.
        """
        x, seen = self._admit(x, mask, edges)
        if not x.numel():
            return x
        if not self.fast or torch.compiler.is_compiling() or torch.is_autocast_enabled(x.device.type):
            for _ in range(self.steps):
                x = x + self.step * self._pull(x, mask, seen)
            return x
        attention = self.attention
        heads, entries, dim = attention.queries.shape
        matrix = torch.cat([attention.queries.view(-1, dim), attention.keys.view(-1, dim), self.patterns.patterns])
        scale = torch.as_tensor(self.norm.gamma, dtype=x.dtype, device=x.device).expand(dim).contiguous()
        plan = Plan(heads, entries, attention.beta, self.step, self.steps, self.norm.eps, mask, seen)
        return descend(x.contiguous(), matrix, scale, self.norm.delta, plan)

    def energy(self, x: Tensor, *, mask: Tensor | None = None, edges: Tensor | None = None) -> Tensor:
        """E [batch] of tokens x, in at least float32: the one that all steps descend."""
        return sum(self.terms(x, mask=mask, edges=edges).values(), x.new_zeros(()))

    def terms(self, x: Tensor, *, mask: Tensor | None = None, edges: Tensor | None = None) -> dict[str, Tensor]:
        """The energy's parts [batch] by name; they sum to it."""
        x, seen = self._admit(x, mask, edges)
        return self._terms(self._shown(x, mask), seen)

    def descend(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        edges: Tensor | None = None,
        steps: int | None = None,
        tolerance: float | None = None,
        backtrack: bool = False,
        keep: bool = False,
    ) -> Descent:
        """At most `steps` steps, each item until no entry of g moves by more than the tolerance, with the energies along the way.

        It is g that comes to rest: x may go on along the directions that the layer norm does not show, its mean and its length.
        backtrack: a step that would raise the energy of an item is halved until it does not, so that none ever rises; later steps grow
        back to the layer's own. tolerance: eps^(3/4) of the dtype by default. keep: hold the trajectory. Gradients pass through every step.
        """
        x, seen = self._admit(x, mask, edges)
        now = self._total(x, mask, seen)
        energies = [now]

        def look(state: Tensor, rows: Tensor) -> Place:
            there, keys = _rows(mask, rows), _rows(seen, rows)
            g = self._shown(state, there)
            drift, terms = self._drift(g, keys), torch.stack(list(self._terms(g, keys).values()))
            scale = terms.abs().sum(0) + (drift * g).abs().sum((1, 2))
            return Place(terms.sum(0), 16 * torch.finfo(terms.dtype).eps * scale, g.flatten(1), drift.flatten(1))

        def move(state: Tensor, drift: Tensor, size: Tensor, rows: Tensor) -> Tensor:
            return state + size[:, None, None] * drift.view_as(state)

        first = torch.full((len(x),), self.step, dtype=x.dtype, device=x.device)
        search = Backtracking("EnergyTransformer.descend", look, move, first, self.step, HALVINGS)

        def update(state: Tensor, rows: Tensor) -> Tensor:
            nonlocal now
            there, keys = _rows(mask, rows), _rows(seen, rows)
            found = search.find(state, rows) if backtrack else None
            if found is None:
                new = move(state, self._pull(state, there, keys), first[rows], rows)
            elif torch.is_grad_enabled():
                new = held_to(found, move(state, self._pull(state, there, keys), search.taken[rows], rows))
            else:
                new = found
            now = now.index_copy(0, rows, self._total(new, there, keys))
            energies.append(now)
            return new

        def shown(state: Tensor, rows: Tensor) -> Tensor:
            return self._shown(state, _rows(mask, rows))

        judge = changes(default_tolerance(x.dtype) if tolerance is None else tolerance, shown)
        found = settle(update, x, steps=self.steps if steps is None else steps, judge=judge, keep=keep)
        return Descent(found.state, torch.stack(energies), found.steps, found.converged, found.cycled, found.trajectory)

    @torch.no_grad()
    def safe_step(self, x: Tensor, *, mask: Tensor | None = None, edges: Tensor | None = None) -> Tensor:
        """A step [batch] up to which the energy cannot rise from here: s / (2 γ Σ_h |W_Kᵀ W_Q| √c), s the least root of var + ε of a token.

        c: the largest sum over queries of the attention that one key gets. The patterns' energy is concave, so it asks for nothing;
        derived in docs/energy_transformer.md. infinite where no query sees a key.
        """
        x, seen = self._admit(x, mask, edges)
        received = self.attention.weights(self._shown(x, mask), seen).sum(-2).amax(-1)
        # |W_Kᵀ W_Q| from the triangles of both: entries × entries instead of dim × dim
        triangles = (torch.linalg.qr(weight.mT.double(), mode="r").R for weight in (self.attention.keys, self.attention.queries))
        first, second = triangles
        norms = torch.linalg.matrix_norm(first @ second.mT, 2)
        curvature = (norms * received.double().sqrt()).sum(-1)
        spread = (x.double().var(-1, correction=0) + self.norm.eps).sqrt()
        if mask is not None:
            spread = spread.masked_fill(~mask, torch.inf)
        safe: Tensor = spread.amin(-1) / (2 * float(self.norm.gamma) * curvature)
        return safe.to(x.dtype)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, steps={self.steps}, step={self.step:g}, own={self.own}"

    def _admit(self, x: Tensor, mask: Tensor | None, edges: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """x, zero where no token is, and which query sees which key, [batch or 1, 1, query, key] or None for all."""
        check_input("EnergyTransformer", x, mask, self.dim, "read-write")
        if x.dtype != self.patterns.patterns.dtype and not torch.is_autocast_enabled(x.device.type):
            raise TypeError(
                f"EnergyTransformer: x is {x.dtype}, the layer {self.patterns.patterns.dtype}; bring both to one, e.g. layer.to(x.dtype)."
            )
        tokens = x.shape[1]
        seen = None
        if edges is not None:
            if not isinstance(edges, Tensor) or edges.dtype != torch.bool:
                got = f"{edges.dtype} tensor" if isinstance(edges, Tensor) else type(edges).__name__
                raise TypeError(
                    f"EnergyTransformer: edges must be a bool tensor, True where a token may see another, got a {got}; use edges.bool()."
                )
            if edges.shape != (len(x), tokens, tokens):
                raise ValueError(
                    f"EnergyTransformer: edges must be [batch, token, token] = {[len(x), tokens, tokens]}, got {list(edges.shape)}."
                )
            seen = edges[:, None]
        if not self.own:
            others = ~torch.eye(tokens, dtype=torch.bool, device=x.device)
            seen = others[None, None] if seen is None else seen & others
        if mask is not None:
            both = (mask[:, :, None] & mask[:, None])[:, None]
            seen = both if seen is None else seen & both
            x = torch.where(mask[..., None], x, torch.zeros_like(x))
        return x, seen

    def _shown(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """g = ∇L(x), zero where no token is."""
        if not x.numel():
            return x
        g = self.norm.activation(x)
        return g if mask is None else torch.where(mask[..., None], g, torch.zeros_like(g))

    def _pull(self, x: Tensor, mask: Tensor | None, seen: Tensor | None) -> Tensor:
        return self._drift(self._shown(x, mask), seen)

    def _drift(self, g: Tensor, seen: Tensor | None) -> Tensor:
        """-dE/dg."""
        return self.attention.pull(g, seen) + self.patterns.pulls(g)[0]

    def _terms(self, g: Tensor, seen: Tensor | None) -> dict[str, Tensor]:
        wide = g.to(torch.promote_types(g.dtype, torch.float32))
        return {"attention": self.attention(g, seen), "patterns": self.patterns(wide)}

    def _total(self, x: Tensor, mask: Tensor | None, seen: Tensor | None) -> Tensor:
        return torch.stack(list(self._terms(self._shown(x, mask), seen).values())).sum(0)


def _rows(tensor: Tensor | None, rows: Tensor) -> Tensor | None:
    return tensor if tensor is None or len(tensor) == 1 else tensor[rows]
