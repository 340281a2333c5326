"""StoredPatterns: a memory as a synapse, E = -L(similarity(g, patterns)); the hidden layer of a memory, eliminated.

Any similarity × separation of `ammon.parts`. Activations [batch, *shape], patterns [pattern, *axes], the last axes of the layer.
"""

import torch
from torch import Tensor

from ammon.energies.base import Places, Shape, Synapse
from ammon.energies.synapses import check_joined, count, hold
from ammon.parts.lagrangians import Lagrangian
from ammon.parts.retrieve import pool, retrieve
from ammon.parts.separations import Softmax
from ammon.parts.similarity import Dot, Euclidean, Similarity
from ammon.shapes import Energies


class StoredPatterns(Synapse):
    """Patterns that draw a layer as a memory of this similarity and separation would; softmax of dot products by default.

    Patterns of the layer's whole shape are compared with the layer; patterns of its last axes only, with each of its parts (tokens),
    and the energies of the parts are summed. The separation need not be convex.
    With distances the energy is -L(-|g - ξ|²/2) - |g|²/2: the square is already that of a layer of identity neurons, and counts once.
    """

    patterns: Tensor

    def __init__(
        self, patterns: Tensor, similarity: Similarity | None = None, separation: Lagrangian | None = None, learnable: bool = False
    ) -> None:
        super().__init__()
        hold(self, "patterns", patterns, learnable)
        if patterns.ndim < 2 or not len(patterns):
            raise ValueError(f"StoredPatterns: patterns must be [pattern, dim] with at least one row, got {list(patterns.shape)}.")
        self.similarity, self.separation, self.learnable = similarity or Dot(), separation or Softmax(), learnable

    def forward(self, *activations: Tensor) -> Energies:
        # sums over many patterns and parts in at least float32
        g = activations[0].to(torch.promote_types(activations[0].dtype, torch.float32))
        with torch.autocast(g.device.type, enabled=False):
            rows, keys = self._rows(g)
            parts = count(tuple(g.shape[1:])) // keys.shape[1]
            energy = -pool(rows, keys.to(g.dtype), self.similarity, self.separation).reshape(len(g), parts).sum(-1)
            return (energy - g.square().flatten(1).sum(-1) / 2 if self._inside else energy).to(activations[0].dtype)

    def pulls(self, *activations: Tensor, at: Places = None) -> tuple[Tensor, ...]:
        if at is not None and not at:
            return ()
        rows, keys = self._rows(activations[0])
        # softmax mixes without holding its scores; its weights sum to 1, so distances leave nothing but the mixture
        if isinstance(self.separation, Softmax) and isinstance(self.similarity, Dot | Euclidean):
            return (retrieve(rows, keys, keys, self.similarity, self.separation).reshape(activations[0].shape),)
        weights = self.separation.activation(self.similarity(rows, keys))
        pulled = self.similarity.pull(rows, keys, weights)
        return ((pulled + rows if self._inside else pulled).reshape(activations[0].shape),)

    def check(self, where: str, shapes: tuple[Shape, ...]) -> None:
        check_joined(where, shapes, 1)
        axes = tuple(self.patterns.shape[1:])
        if shapes[0][-len(axes) :] != axes:
            raise ValueError(f"{where}: the patterns are {list(axes)}, which are not the last axes of the layer, {list(shapes[0])}.")

    def extra_repr(self) -> str:
        return f"patterns={len(self.patterns)}"

    @property
    def _inside(self) -> bool:
        return self.similarity.potential == "inside"

    def _rows(self, activation: Tensor) -> tuple[Tensor, Tensor]:
        rows = activation.flatten(activation.ndim - self.patterns.ndim + 1)
        return rows.flatten(0, -2), self.patterns.flatten(1)
