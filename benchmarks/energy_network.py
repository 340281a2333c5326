"""Recall of a network of two layers: how near it is to its matrix products, and how it compares with hamux of the same energy."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

import ammon as am
from ammon.analysis.lyapunov import energies_along
from ammon.dynamics.descend import Descent
from ammon.dynamics.integrators import Euler
from ammon.energies.synapses import Dense
from benchmarks.peer import Peer
from benchmarks.report import Report, Row
from benchmarks.timing import Unequal, here, race

BATCH, STEPS, STEP = 256, 20, 0.5
# visible and hidden neurons: a memory of 1,024 images, and one of fewer, longer rows
SIZES = ((784, 1024), (2048, 512))
BETA = 8.0
# largest difference of energies and states, relative to their size
TOLERANCE = 2e-5


def network(weight: Tensor) -> am.EnergyNetwork:
    neurons = {"visible": am.Neurons(weight.shape[0]), "hidden": am.Neurons(weight.shape[1], am.Softmax(BETA))}
    return am.EnergyNetwork(neurons, {"weight": Dense(weight)}, [(("visible", "hidden"), "weight")])


@torch.no_grad()
def ours(net: am.EnergyNetwork, states: dict[str, Tensor], keep: bool = False) -> Descent:
    # no item stops early, as none does in the peer
    return am.descend(net, states, integrator=Euler(STEP), steps=STEPS, tolerance=0.0, keep=keep)


def visible(net: am.EnergyNetwork, states: dict[str, Tensor]) -> Tensor:
    return ours(net, states).states["visible"]


@torch.no_grad()
def plain(weight: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
    """The formula as it is written, nothing watched."""
    for _ in range(STEPS):
        weights = torch.softmax(BETA * hidden, -1)
        visible, hidden = visible + STEP * (weights @ weight.T - visible), hidden + STEP * (visible @ weight - hidden)
    return visible


@torch.no_grad()
def products(weight: Tensor, visible: Tensor, hidden: Tensor) -> None:
    """The floor: the two matrix products of each step alone."""
    for _ in range(STEPS):
        _ = hidden @ weight.T
        _ = visible @ weight


def measure(quick: bool, threads: int) -> Report:
    rows, errors, rounds = [], [], 3 if quick else 15
    for dim, hidden in SIZES[:1] if quick else SIZES:
        generator = torch.Generator().manual_seed(0)
        weight = normalize(torch.randn(dim, hidden, generator=generator), dim=0)
        cue = weight.T[:BATCH] + 0.5 * normalize(torch.randn(BATCH, dim, generator=generator), dim=-1)
        net, states = network(weight), {"visible": cue, "hidden": cue @ weight}
        given = {"weight": weight.numpy(), **{name: x.numpy() for name, x in states.items()}}
        numbers = {"beta": np.float32(BETA), "step": np.float32(STEP), "steps": np.int64(STEPS)}
        given |= {name: np.asarray(number) for name, number in numbers.items()}
        along = energies_along(net, ours(net, states, keep=True))
        with Peer("benchmarks.hamux_network_peer", given | {"energies": np.asarray(True)}, threads) as watched:
            errors.append(f"{dim} × {hidden}: energies {_apart('energies', along, watched.turn().result):.0e}")
        truth = ours(network(weight.double()), {name: x.double() for name, x in states.items()}).states["visible"]
        with Peer("benchmarks.hamux_network_peer", given | {"energies": np.asarray(False)}, threads) as hamux:
            ways = {
                "ours": here(partial(visible, net, states)),
                "plain": here(partial(plain, weight, *states.values())),
                "floor": here(partial(products, weight, *states.values())),
                "hamux": hamux.turn,
            }
            timings = race(ways, partial(_check, truth), repeats=rounds)
        work, own = f"{dim} × {hidden}", timings["ours"]
        rows += [
            Row(work, own, "its matrix products", timings["floor"], "cost"),
            Row(work, own, "plain torch, nothing watched", timings["plain"]),
            Row(work, own, "hamux (JAX, jitted scan)", timings["hamux"], "gain", 1.0),
        ]
    return Report(
        "Recall of a network of two layers",
        rows,
        f"visible × hidden neurons, softmax hidden (β = {BETA:g}), B = {BATCH} cues, {STEPS} Euler steps of {STEP:g} tau, float32; "
        f"{threads} threads each, hamux in its own process; 3 to {rounds} turns each; median (least), least processor time.",
        [f"Along the way ours and hamux's are equal within {TOLERANCE:g} of their size: {'; '.join(errors)}."],
    )


def _apart(what: str, mine: Tensor, theirs: Any) -> float:
    error = float((mine.double() - torch.as_tensor(theirs).double()).abs().max() / mine.double().abs().max())
    # not (error <= ...): a NaN is refused too
    if not error <= TOLERANCE:
        raise Unequal(f"energy_network: the {what} differ by {error:.1e} of their size; {TOLERANCE:g} is allowed.")
    return error


def _check(truth: Tensor, results: dict[str, Any]) -> None:
    for name in ("ours", "plain", "hamux"):
        _apart(f"states of {name}", truth, results[name])
