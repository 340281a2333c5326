"""Plan: how a model is trained, as plain numbers. The learning rate is a function of the step, so nothing of it needs to be kept."""

import math
from dataclasses import dataclass

from torch import nn, optim

from ammon.shapes import check_count, check_positive


@dataclass(frozen=True)
class Plan:
    """So many steps of AdamW. The rate rises over `warmup` steps, then falls along a cosine to `final` times `rate` (1: stays).

    decay: of weights, on matrices only. clip: the largest norm of the gradient, None for any. every: steps between two rows of metrics,
    measurements and checkpoints. patience: measurements in a row without a smaller held-out loss after which training stops.
    """

    steps: int
    rate: float = 3e-3
    warmup: int = 0
    final: float = 0.1
    decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float | None = 1.0
    every: int = 50
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "every"):
            check_count("Plan", name, getattr(self, name))
        check_positive("Plan", "rate", self.rate)
        for name, value in (("clip", self.clip), ("patience", self.patience)):
            if value is not None:
                check_positive("Plan", name, value)
        for name, least, most in (("warmup", 0, math.inf), ("final", 0, 1), ("decay", 0, math.inf), ("seed", 0, 2**63 - 1)):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"Plan: {name} must be from {least} to {most}, got {value}.")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"Plan: betas must be from 0 to below 1, got {self.betas}.")

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, the first being 0."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        done = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.rate * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * done)))

    def optimizer(self, model: nn.Module) -> optim.AdamW:
        """AdamW over the parameters that learn; vectors and scalars do not decay."""
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        matrices = [parameter for parameter in learning if parameter.ndim >= 2]
        others = [parameter for parameter in learning if parameter.ndim < 2]
        groups = [{"params": matrices, "weight_decay": self.decay}, {"params": others, "weight_decay": 0.0}]
        return optim.AdamW([group for group in groups if group["params"]], lr=self.rate, betas=self.betas)
