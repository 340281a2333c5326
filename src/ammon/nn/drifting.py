"""Drifting: a context per head that moves a little towards each token, so that tokens near in time have contexts that are alike.

Tokens [batch, time, dim] and the context before them [batch, head, context] give the contexts after each.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from ammon.dynamics.drift import direction, drift_along, fading
from ammon.shapes import check_count

# tokens that the fading form mixes in one product
BLOCK = 128


class Drift(nn.Module):
    """c ← ρ c + β c_in with c_in the direction of W x: β learned, one a head, so that heads may hold short and long contexts.

    form "exact": ρ keeps c at length 1 (Polyn, Norman & Kahana 2009, eq. 1-2), token after token. form "fading": ρ = sqrt(1 - β²), which
    is exact if inputs are orthogonal, with all tokens at once; what is held then is not of length 1, what is used is brought to it.
    association: an item is bound to the context "new", after it, or "previous", before it.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        size: int,
        beta: float = 0.5,
        form: Literal["exact", "fading"] = "exact",
        association: Literal["new", "previous"] = "new",
    ) -> None:
        super().__init__()
        check_count("Drift", "size", size)
        if not 0 < beta < 1:
            raise ValueError(f"Drift: beta must be in (0, 1), got {beta}; 0 would stay, 1 forget all.")
        if form not in ("exact", "fading"):
            raise ValueError(f'Drift: form must be "exact" or "fading", got {form!r}.')
        if association not in ("new", "previous"):
            raise ValueError(f'Drift: association must be "new" or "previous", got {association!r}.')
        self.heads, self.size, self.form, self.association = heads, size, form, association
        self.project = nn.Linear(dim, heads * size, bias=False)
        self.share = nn.Parameter(torch.full((heads,), math.log(beta / (1 - beta))))
        self.start = nn.Parameter(torch.randn(heads, size))

    def begin(self, batch: int, dtype: torch.dtype) -> Tensor:
        """The learned context before any token: [batch, head, context]."""
        return direction(self.start.to(dtype)).expand(batch, -1, -1)

    def forward(self, rows: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs c_in [batch, time, head, context], and contexts [batch, time + 1, head, context], the one before first, as they are held.

        A token of zeros leaves an exact context as it is.
        """
        inputs = direction(self.project(rows).unflatten(-1, (self.heads, self.size)).to(context.dtype))
        beta = torch.sigmoid(self.share.to(context.dtype))
        if self.form == "exact":
            along = drift_along(context, inputs.movedim(1, -2), beta[:, None]).movedim(-2, 1)
            return inputs, torch.cat([context.unsqueeze(1), along], 1)
        contexts = [context.unsqueeze(1)]
        for start in range(0, inputs.shape[1], BLOCK):
            some = inputs[:, start : start + BLOCK]
            steps = some.shape[1]
            powers = fading(beta, steps)
            # what is left of the context before: ρ, ρ², ...
            keep = powers[:, :, 0] * (1 - beta.square()).sqrt()[:, None]
            mixed = beta[:, None, None] * (powers @ some.transpose(1, 2)) + keep[..., None] * contexts[-1][:, -1].unsqueeze(2)
            contexts.append(mixed.transpose(1, 2))
        return inputs, torch.cat(contexts, 1)

    def used(self, contexts: Tensor) -> Tensor:
        """Contexts as they cue and are stored: of length 1."""
        return contexts if self.form == "exact" else direction(contexts)

    def extra_repr(self) -> str:
        return f"size={self.size}, form={self.form}, association={self.association}"
