"""Implicit: gradients through a fixed point x = f(x), without the steps that led there.

dx/dθ = (I - J)⁻¹ ∂f/∂θ with J = ∂f/∂x, so the backward pass solves (I - Jᵀ) v = gradient by GMRES, all items of the batch at
once, each with its own Krylov space (Bai, Kolter & Koltun 2019; Saad & Schultz 1986). States [batch, ...].
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor


def implicit(update: Callable[[Tensor], Tensor], state: Tensor, *, max_krylov: int = 64) -> Tensor:
    """`update(state)`, whose gradient is that of the fixed point of `update` at `state`."""
    new = update(state.detach())
    if not new.requires_grad:
        return new
    with torch.enable_grad():
        point = state.detach().requires_grad_()
        image = update(point)

    def solve(gradient: Tensor) -> Tensor:
        def operator(v: Tensor) -> Tensor:
            (pulled,) = torch.autograd.grad(image, point, v, retain_graph=True, allow_unused=True)
            return v if pulled is None else v - pulled

        solution, residual = gmres(operator, gradient, max_krylov)
        worst = float(residual.max())
        if worst > 1e-3:
            warnings.warn(
                f"implicit: the linear solve stopped at a relative residual of {worst:.1e}; the fixed point is nearly unstable.",
                stacklevel=2,
            )
        return solution

    new.register_hook(solve)  # type: ignore[no-untyped-call]
    return new


def gmres(operator: Callable[[Tensor], Tensor], target: Tensor, max_krylov: int) -> tuple[Tensor, Tensor]:
    """Solve operator(v) = target for every item: v and the relative residual [batch]. The operator must act item by item."""
    shape, target = target.shape, target.flatten(1)
    size = min(max_krylov, target.shape[1])
    tiny = torch.finfo(target.dtype).tiny
    # squares of small gradients would vanish: each item is solved in units of its largest entry
    unit = target.abs().amax(-1, keepdim=True).clamp_min(tiny)
    target = target / unit
    length = torch.linalg.vector_norm(target, dim=-1)
    basis = [target / length.clamp_min(tiny).unsqueeze(-1)]
    hessenberg = target.new_zeros(len(target), size + 1, size)
    first = target.new_zeros(len(target), size + 1, 1)
    first[:, 0, 0] = length
    rtol = 10 * torch.finfo(target.dtype).eps
    solution, residual = target.new_zeros(len(target), 0, 1), torch.ones_like(length)
    for k in range(size):
        new = operator(basis[k].reshape(shape)).flatten(1)
        # twice, since one pass of Gram-Schmidt loses orthogonality in float32
        for _ in range(2):
            for j, vector in enumerate(basis):
                along = (new * vector).sum(-1)
                hessenberg[:, j, k] += along
                new = new - along.unsqueeze(-1) * vector
        norm = torch.linalg.vector_norm(new, dim=-1)
        # an exhausted Krylov space leaves only rounding, which must not be scaled up to a direction
        norm = torch.where(norm > rtol * hessenberg[:, : k + 1, k].abs().amax(-1), norm, torch.zeros_like(norm))
        hessenberg[:, k + 1, k] = norm
        basis.append(torch.where(norm.unsqueeze(-1) > 0, new / norm.clamp_min(tiny).unsqueeze(-1), torch.zeros_like(new)))
        small, right = hessenberg[:, : k + 2, : k + 1], first[:, : k + 2]
        solution = torch.linalg.pinv(small) @ right
        residual = torch.linalg.vector_norm((small @ solution - right).squeeze(-1), dim=-1) / length.clamp_min(tiny)
        if bool((residual <= rtol).all()):
            break
    mixed = (torch.stack(basis[: solution.shape[1]], -1) @ solution).squeeze(-1) * unit
    return mixed.reshape(shape), residual
