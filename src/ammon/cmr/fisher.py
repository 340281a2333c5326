"""Information: how much lists can tell about parameters, before anybody has recalled them (Fisher 1922).

The score, the slope of the log likelihood at the true values, has the mean 0 and the covariance I(values). No unbiased estimate is less
uncertain than I⁻¹ (Cramér 1946, Rao 1945), and those of maximum likelihood reach it as lists grow many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.cmr.lists import Lists
from ammon.shapes import check_count

if TYPE_CHECKING:
    from ammon.cmr.model import CMR


def information(
    model: "CMR", lists: Lists, values: Mapping[str, Any], names: Sequence[str], *, generator: torch.Generator, copies: int = 100
) -> Float[Tensor, "subject parameter parameter"]:
    """Fisher information about `names` in all the lists of each subject, the other values known.

    The mean outer product of scores of simulated recalls; what the lists recalled is ignored. values: numbers, or tensors [subject].
    copies: simulations of each list. ValueError for a name without a value.
    """
    check_count("information", "copies", copies)
    missing = [name for name in names if name not in values]
    if missing or not names:
        raise ValueError(f"information: parameters that have values are needed, got {missing[0] if missing else 'no name'!r}.")
    people, count = len(lists.subjects), len(lists)
    # every list with values of its own has a score of its own
    alone = replace(lists, subject=torch.arange(count), subjects=tuple(range(count)))
    wide = {name: torch.as_tensor(value, dtype=torch.float64).expand(people)[lists.subject] for name, value in values.items()}
    total = torch.zeros(people, len(names), len(names), dtype=torch.float64)
    for _ in range(copies):
        drawn = model.simulate(alone, wide, generator=generator, per_subject=True).lists
        with torch.enable_grad():
            leaves = {name: wide[name].clone().requires_grad_() for name in names}
            likely = model.log_likelihood(drawn, {**wide, **leaves}, per_subject=True).total
            slopes = torch.autograd.grad(likely, list(leaves.values()), allow_unused=True)
        # a parameter that nothing depends on has no slope
        score = torch.stack([torch.zeros(count).to(total) if slope is None else slope for slope in slopes], -1)
        total.index_add_(0, lists.subject, score.unsqueeze(-1) * score.unsqueeze(-2))
    return total / copies


def uncertainty(
    matrices: Float[Tensor, "*subject parameter parameter"],
) -> tuple[Float[Tensor, "*subject parameter"], Float[Tensor, "*subject parameter parameter"]]:
    """Least standard errors, and the correlations of the errors: near ±1 where two parameters can hardly be told apart.

    Where they cannot be told apart at all the errors are huge; a parameter without information has an infinite one, and no correlation.
    """
    scale = matrices.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
    told = scale > 0
    size = torch.where(told, scale, 1)
    # on a unit diagonal parameters of different widths compare, and rounding is 1e-16 of each eigenvalue
    unit = matrices / size.unsqueeze(-1) / size.unsqueeze(-2) + torch.diag_embed((~told).to(matrices))
    eigenvalues, vectors = torch.linalg.eigh(unit)
    inverse = vectors / eigenvalues.clamp_min(1e-14).unsqueeze(-2) @ vectors.mT
    spread = inverse.diagonal(dim1=-2, dim2=-1).sqrt()
    return torch.where(told, spread / size, torch.inf), inverse / spread.unsqueeze(-1) / spread.unsqueeze(-2)
