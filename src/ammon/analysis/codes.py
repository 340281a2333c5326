"""Codes: which on-off states of hidden threshold units are fixed points, all 2^hidden of them judged without being listed.

A code s in {0, 1}^hidden is stored by its sum of components Kᵀs and kept by threshold units if K Kᵀ s is above θ where s is 1 and not
where it is 0 (Kafraj, Krotov & Latham 2026, arXiv 2601.00984: J = K Kᵀ near the identity).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.shapes import check_positive

Components = Float[Tensor, "hidden dim"]


def margin(components: Components, theta: float = 0.5) -> float:
    """The least distance of any hidden unit's field to θ on the right side, over all 2^hidden codes. Positive: every code is a fixed point.

    Exact, in the time of one product: a unit that is on is worst off with all that pull it down, one that is off with all that pull it up.
    """
    check_positive("margin", "theta", theta)
    gram = components @ components.mT
    own = gram.diagonal()
    others = gram - torch.diag(own)
    on = own + others.clamp_max(0).sum(-1) - theta
    off = theta - others.clamp_min(0).sum(-1)
    return float(torch.minimum(on, off).amin())


def unstable_fraction(num_hidden: int, dim: int, theta: float = 0.5) -> float:
    """How often one hidden unit of a random code is wrong after one step, for components with independent normal entries of variance 1/dim.

    A unit's field is its own state, and for each other unit that is on a number of variance 1/dim; its own weight varies by 2/dim.
    """
    chance = torch.arange(num_hidden, dtype=torch.float64)
    n = torch.tensor(float(num_hidden - 1), dtype=torch.float64)
    weight = torch.exp(torch.lgamma(n + 1) - torch.lgamma(chance + 1) - torch.lgamma(n - chance + 1) - n * math.log(2))
    off = torch.erfc(theta / torch.sqrt(2 * chance / dim)) / 2
    on = torch.erfc((1 - theta) / torch.sqrt(2 * (chance + 2) / dim)) / 2
    return float((weight * (off + on) / 2).sum())
