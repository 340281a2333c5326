"""The Energy Transformer block: forward against its matrix products and against hamux, forward and backward against autograd of the energy.

The floor of the forward pass is its products alone: projections, scores, both mixes and the way back. It gives no answer, so it has
nothing to check. Before times are taken, tokens and the energies along the way must agree with float64, and all gradients too.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ammon.nn.energy_transformer import EnergyTransformer
from benchmarks.peer import Peer
from benchmarks.report import Report, Row
from benchmarks.timing import Unequal, here, race

BATCH, TOKENS, DIM, HEADS, ENTRIES, MEMORIES, STEPS = 16, 64, 256, 4, 64, 1024, 5
# largest difference from float64, relative to the largest entry of its tensor
TOLERANCE = 1e-4


def products(g: Tensor, v: Tensor, matrix: Tensor, parts: Tensor, attention: Tensor, passes: int = 1) -> None:
    """The floor: what the steps multiply, with factors that are at hand. Forward and backward multiply three times as much."""
    for _ in range(STEPS * passes):
        _ = g @ matrix.T
        _ = torch.bmm(parts, parts.mT)
        _ = torch.bmm(attention, parts)
        _ = torch.bmm(attention.mT, parts)
        _ = v @ matrix


def shown(x: Tensor, gamma: Tensor, delta: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    normal: Tensor = gamma * centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + eps) + delta
    return normal


def energy(g: Tensor, queries: Tensor, keys: Tensor, patterns: Tensor) -> Tensor:
    """The energy as the paper writes it."""
    beta = queries.shape[1] ** -0.5
    q, k = torch.einsum("btd,hyd->bthy", g, queries), torch.einsum("btd,hyd->bthy", g, keys)
    scores = beta * torch.einsum("bqhy,bkhy->bhqk", q, k)
    hidden = torch.einsum("btd,md->btm", g, patterns)
    total: Tensor = -torch.logsumexp(scores, -1).sum((1, 2)) / beta - torch.relu(hidden).square().sum((1, 2)) / 2
    return total


def by_autograd(layer: EnergyTransformer, x: Tensor, differentiable: bool) -> Tensor:
    """The same steps, the slope of each by autograd of the energy."""
    norm, weights = layer.norm, (layer.attention.queries, layer.attention.keys, layer.patterns.patterns)
    for _ in range(layer.steps):
        g = shown(x, norm.gamma, norm.delta, norm.eps)  # type: ignore[arg-type]
        if not differentiable:
            g = g.detach().requires_grad_()
        (slope,) = torch.autograd.grad(energy(g, *weights).sum(), g, create_graph=differentiable)
        x = x - layer.step * slope
    return x


def forward(layer: EnergyTransformer, x: Tensor) -> Tensor:
    with torch.no_grad():
        y: Tensor = layer(x)
        return y


def both(layer: EnergyTransformer, x: Tensor, push: Tensor, plain: bool) -> list[Tensor]:
    """y, and the gradients of x and of all parameters."""
    inputs = [x, *layer.parameters()]
    y = by_autograd(layer, x, True) if plain else layer(x)
    return [y.detach(), *torch.autograd.grad(y, inputs, push)]


def measure(quick: bool, threads: int) -> Report:
    torch.manual_seed(0)
    layer = EnergyTransformer(DIM, HEADS, head_dim=ENTRIES, memories=MEMORIES, steps=STEPS)
    x, push = torch.randn(BATCH, TOKENS, DIM), torch.randn(BATCH, TOKENS, DIM)
    rounds = 3 if quick else 15
    weights: dict[str, Any] = {
        "queries": layer.attention.queries.detach().numpy(),
        "keys": layer.attention.keys.detach().numpy(),
        "patterns": layer.patterns.patterns.detach().numpy(),
    }
    inputs: dict[str, Any] = {
        "x": x.numpy(),
        **weights,
        "step": np.float32(layer.step),
        "steps": np.asarray(STEPS),
        "eps": np.asarray(layer.norm.eps),
    }
    rows_of_matrix = 2 * HEADS * ENTRIES + MEMORIES
    matrix, v, g = torch.randn(rows_of_matrix, DIM), torch.randn(BATCH * TOKENS, rows_of_matrix), x.reshape(-1, DIM)
    parts, attention = torch.randn(BATCH * HEADS, TOKENS, ENTRIES), torch.rand(BATCH * HEADS, TOKENS, TOKENS)
    truth = layer.double().descend(x.double(), tolerance=0.0)
    true_tokens, true_energies = truth.tokens.detach(), truth.energies.detach()
    wide = x.double().requires_grad_()
    true_gradients = both(layer, wide, push.double(), plain=True)
    layer.float()
    errors = {"ours, along the way": _error(layer.descend(x, tolerance=0.0).energies, true_energies)}
    with Peer("benchmarks.energy_transformer_peer", {**inputs, "watch": np.asarray(True)}, threads) as watched:
        errors["hamux, along the way"] = _error(torch.as_tensor(watched.turn().result), true_energies)
    _refuse(errors)
    with Peer("benchmarks.energy_transformer_peer", {**inputs, "watch": np.asarray(False)}, threads) as hamux:
        ways = {
            "ours": here(partial(forward, layer, x)),
            "floor": here(partial(products, g, v, matrix, parts, attention)),
            "autograd": here(partial(by_autograd, layer, x, False)),
            "hamux": hamux.turn,
        }
        one_way = race(ways, partial(_check_tokens, true_tokens, errors), repeats=rounds)
    needed = x.clone().requires_grad_()
    passes = {
        "ours": here(partial(both, layer, needed, push, False)),
        "autograd": here(partial(both, layer, needed, push, True)),
        "floor": here(partial(products, g, v, matrix, parts, attention, 3)),
    }
    two_ways = race(passes, partial(_check_gradients, true_gradients, errors), repeats=rounds)
    return Report(
        "Energy Transformer",
        [
            Row("forward", one_way["ours"], "its matrix products", one_way["floor"], "cost", 1.5),
            Row("forward", one_way["ours"], "hamux (JAX, jitted)", one_way["hamux"], "gain", 1.0),
            Row("forward", one_way["ours"], "autograd of the energy", one_way["autograd"]),
            Row("forward and backward", two_ways["ours"], "autograd of the energy", two_ways["autograd"], "gain", 2.0),
            Row("forward and backward", two_ways["ours"], "its matrix products", two_ways["floor"], "cost"),
        ],
        f"B = {BATCH}, T = {TOKENS}, D = {DIM}, H = {HEADS}, head {ENTRIES}, M = {MEMORIES}, {STEPS} steps, float32; {threads} threads, "
        f"hamux in its own process; 3 to {rounds} turns; median (least), least processor time.",
        [
            f"Largest error against float64, relative to the largest entry (refused above {TOLERANCE:g}): "
            + ", ".join(f"{name} {error:.0e}" for name, error in errors.items())
            + ".",
            f"First call (jit): hamux {one_way['hamux'].first:.2g} s, ours {one_way['ours'].first:.2g} s.",
        ],
    )


def _error(result: Tensor, truth: Tensor) -> float:
    return float((result.detach().double() - truth).abs().max() / truth.abs().max())


def _refuse(errors: dict[str, float]) -> None:
    for name, error in errors.items():
        # not (error <= ...): a NaN is refused too
        if not error <= TOLERANCE:
            raise Unequal(f"energy_transformer: {name} is off by {error:.1e} of the largest entry; {TOLERANCE:g} is allowed.")


def _check_tokens(truth: Tensor, errors: dict[str, float], results: dict[str, Any]) -> None:
    errors |= {name: _error(torch.as_tensor(result), truth) for name, result in results.items() if name != "floor"}
    _refuse(errors)


def _check_gradients(truth: list[Tensor], errors: dict[str, float], results: dict[str, Any]) -> None:
    for name in ("ours", "autograd"):
        errors[f"{name}, gradients"] = max(_error(a, b) for a, b in zip(results[name], truth, strict=True))
    _refuse(errors)
