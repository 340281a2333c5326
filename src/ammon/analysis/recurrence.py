"""Recurrence: how far back in a text the same words stood before. Tokens [token], distances in tokens."""

import torch
from jaxtyping import Int
from torch import Tensor


def last_occurrence(tokens: Int[Tensor, " token"], context: int) -> Int[Tensor, " token"]:
    """How many tokens ago the same token followed the same `context` tokens; 0 if it never did, or the context is not whole."""
    if context < 0:
        raise ValueError(f"last_occurrence: context must be at least 0, got {context}.")
    found = torch.zeros_like(tokens)
    if len(tokens) <= context:
        return found
    # one number for each run of tokens that differs from others
    _, kinds = torch.unique(tokens.unfold(0, context + 1, 1), dim=0, return_inverse=True)
    order = torch.argsort(kinds, stable=True)
    again = kinds[order[1:]] == kinds[order[:-1]]
    found[context + order[1:]] = torch.where(again, order[1:] - order[:-1], 0)
    return found
