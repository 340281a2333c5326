"""Denoiser: a memory among distances as the exact denoiser of what it stores, at any level of noise.

At noise σ it is one step of recall, sharpened so that f(x, σ) is the mean of the patterns from which x = ξ + σ noise may have come; for
Gaussian noise (f(x, σ) - x)/σ² is the score of the stored data (Ambrogioni 2024; Hoover et al. 2023). States [batch, dim].
"""

import math
from typing import Literal

import torch
from torch import Tensor

from ammon.dynamics.diffuse import Levels, Sample, diffuse
from ammon.energies.associative import AssociativeEnergy
from ammon.memories.associative import AssociativeMemory
from ammon.memories.checks import check_cue
from ammon.parts.lagrangians import Identity, Lagrangian
from ammon.parts.retrieve import retrieve
from ammon.parts.separations import LogSumRelu, Softmax
from ammon.parts.similarity import Euclidean, Manhattan
from ammon.shapes import Energies, States, check_count, check_positive

Kind = Literal["gaussian", "ball", "laplace"]


class Denoiser:
    """f(x, σ) of the patterns that a memory holds; what is written later counts too. Noise has variance σ² in each entry.

    The memory's parts say what noise is made of, since Bayes' rule with it is their recall: softmax over -½ distance² Gaussian noise,
    log-sum-ReLU noise that is even in a ball, softmax over Manhattan distances Laplace noise. Its own β is not used. With noise in a ball,
    states out of reach of every pattern stay where they are. TypeError for other memories.
    """

    def __init__(self, memory: AssociativeMemory) -> None:
        self.memory = memory
        kind = _kind(memory)
        if kind is None:
            parts = " × ".join(type(part).__name__ for part in (memory.similarity, memory.separation, memory.activation))
            raise TypeError(
                f"Denoiser: a memory of {parts} denoises nothing; take diffusion, log_sum_relu, "
                "or universal with Manhattan distances and Softmax."
            )
        self.kind: Kind = kind

    def __call__(self, state: States, level: float) -> States:
        """The mean of the patterns from which these states came by noise of this level. [batch, dim]"""
        check_cue(self.memory, "denoise", state, self.memory.keys.rows)
        keys = self.memory.keys.rows
        empty = state if self.kind == "ball" else None
        return retrieve(state, keys, keys, self.memory.similarity, self.separation(level), empty=empty)

    def separation(self, level: float) -> Lagrangian:
        """How recall is sharpened at this level of noise."""
        check_positive("Denoiser", "the level of noise", level)
        if self.kind == "gaussian":
            return Softmax(1 / level**2)
        if self.kind == "ball":
            # the reach sqrt(2/β) is the radius of the ball
            return LogSumRelu(2 / ((self.memory.dim + 2) * level**2))
        return Softmax(math.sqrt(2) / level)

    def score(self, state: States, level: float) -> States:
        """The gradient of log p_σ, of the stored data with Gaussian noise. TypeError for other noise, whose recall is no gradient of it."""
        if self.kind != "gaussian":
            raise TypeError(f"Denoiser.score: with {self.kind} noise recall is no score; diffuse along its flow instead.")
        return (self(state, level) - state) / level**2

    def energy(self, state: States, level: float) -> Energies:
        """The energy that recall descends at this level: -σ² log p_σ up to a constant of σ, for Gaussian noise. [batch]"""
        check_cue(self.memory, "energy", state, self.memory.keys.rows)
        energy: Tensor = AssociativeEnergy(self.memory.similarity, self.separation(level), Identity())(state, self.memory.keys.rows)
        return energy

    def log_density(self, state: States, level: float) -> Energies:
        """log p_σ of the stored data with Gaussian noise, in closed form. [batch]"""
        if self.kind != "gaussian":
            raise TypeError(f"Denoiser.log_density: the closed form is that of Gaussian noise, not of {self.kind} noise.")
        volume = math.log(len(self.memory)) + self.memory.dim / 2 * math.log(2 * math.pi * level**2)
        return -self.energy(state, level) / level**2 - volume

    def corrupt(self, clean: States, level: float, generator: torch.Generator) -> States:
        """These states with noise of this level, of the kind that recall undoes. [batch, dim]"""
        check_positive("Denoiser.corrupt", "the level of noise", level)
        dim = clean.shape[1]
        if self.kind == "laplace":
            # the difference of two exponential draws has the variance 2
            first, second = (torch.empty_like(clean).exponential_(generator=generator) for _ in range(2))
            return clean + level / math.sqrt(2) * (first - second)
        drawn = torch.empty_like(clean).normal_(generator=generator)
        if self.kind == "ball":
            radius = math.sqrt(dim + 2) * torch.empty_like(clean[:, :1]).uniform_(generator=generator) ** (1 / dim)
            drawn = radius * torch.nn.functional.normalize(drawn, dim=-1)
        return clean + level * drawn

    def generate(self, count: int, levels: Levels, *, generator: torch.Generator, noise: float = 0.0, keep: bool = False) -> Sample:
        """States drawn by diffusion: patterns drawn at random with noise levels[0], of which enough hides them, then less and less.

        noise: as in `diffuse`, the share of fresh noise on the way; ValueError unless noise is Gaussian.
        """
        check_count("Denoiser.generate", "count", count)
        if noise and self.kind != "gaussian":
            raise ValueError(
                f"Denoiser.generate: fresh noise on the way must be Gaussian, here it is {self.kind}; follow the flow, noise=0."
            )
        if not len(self.memory):
            raise ValueError("Denoiser.generate: the memory is empty; write patterns first.")
        keys = self.memory.keys.rows
        chosen = torch.randint(len(keys), (count,), generator=generator, device=keys.device)
        start = self.corrupt(keys[chosen], float(levels[0]), generator)
        return diffuse(self, start, levels, noise=noise, generator=generator, keep=keep)


def _kind(memory: AssociativeMemory) -> Kind | None:
    if not isinstance(memory, AssociativeMemory) or not isinstance(memory.activation, Identity):
        return None
    if isinstance(memory.similarity, Euclidean):
        if isinstance(memory.separation, LogSumRelu):
            return "ball"
        return "gaussian" if isinstance(memory.separation, Softmax) else None
    return "laplace" if isinstance(memory.similarity, Manhattan) and isinstance(memory.separation, Softmax) else None
