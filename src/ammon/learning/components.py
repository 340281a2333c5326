"""Components: rows whose sums over on and off hidden units are the patterns, learned with a threshold by gradient descent.

The training of the threshold network of Kafraj, Krotov & Latham 2026 (arXiv 2601.00984): |x - Kᵀσ(β(K x - θ))|² over the patterns, σ a
sharp sigmoid in place of the step that recall uses. Patterns [pattern, dim] give components K [hidden, dim]. The gradient is that of a
cost of the whole network, so the rule is not local.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ammon.learning.base import wide
from ammon.shapes import Rows, check_count, check_positive, check_rows


class Components(NamedTuple):
    """What was learned: write `matrix` into a memory with the separation Step(float(theta))."""

    matrix: Float[Tensor, "hidden dim"]
    theta: Tensor  # the threshold
    loss: Float[Tensor, " step"]  # mean squared length of what is left of a pattern, before each step


@dataclass(frozen=True)
class ComponentLearning:
    """sharpness: that of the sigmoid at the end; it starts at a tenth of it, or gradients die in units that are off for all patterns.

    steps: of Adam, with this rate, each on all patterns or on so many drawn anew (batch). theta: where the threshold starts; it is
    learned too unless hold_theta.
    """

    num_hidden: int
    steps: int = 1500
    batch: int | None = None
    rate: float = 0.01
    sharpness: float = 20.0
    theta: float = 0.5
    hold_theta: bool = False
    seed: int = 0
    local: ClassVar[bool] = False
    online: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_count("ComponentLearning", "num_hidden", self.num_hidden)
        check_count("ComponentLearning", "steps", self.steps)
        if self.batch is not None:
            check_count("ComponentLearning", "batch", self.batch)
        for name in ("rate", "sharpness", "theta"):
            check_positive("ComponentLearning", name, getattr(self, name))

    def learn(self, patterns: Rows) -> Components:
        """From all patterns together; sharpness and theta are measured in their squared length, so bring them to a length of a few ones."""
        check_rows("ComponentLearning.learn", "pattern", patterns, None)
        if not len(patterns):
            raise ValueError("ComponentLearning.learn: there are no patterns to learn from; give at least one row.")
        rows = wide(patterns.detach())
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.randn(self.num_hidden, rows.shape[1], generator=generator)
        matrix = (0.1 * functional.normalize(drawn, dim=-1)).to(rows).requires_grad_()
        theta = torch.tensor(self.theta).to(rows).requires_grad_(not self.hold_theta)
        optimiser = torch.optim.Adam([matrix] if self.hold_theta else [matrix, theta], lr=self.rate)
        losses = []
        with torch.enable_grad():
            for step in range(self.steps):
                sharpness = self.sharpness * 10 ** (step / max(1, self.steps - 1) - 1)
                some = rows if self.batch is None else rows[torch.randint(len(rows), (self.batch,), generator=generator).to(rows.device)]
                on = torch.sigmoid(sharpness * (some @ matrix.mT - theta))
                loss = (some - on @ matrix).square().sum(-1).mean()
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                losses.append(loss.detach())
        return Components(matrix.detach().to(patterns.dtype), theta.detach(), torch.stack(losses))
