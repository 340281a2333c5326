"""hamux's side of `softmax_recall`: the modern Hopfield memory as a HAM, one step of x <- x - dE/dx̂, jitted.

A layer of neurons with the identity Lagrangian and one synapse over it, -logsumexp(β Ξ x̂)/β: then dE/dx̂ = x - Ξᵀ softmax(β Ξ x).
"""

from collections.abc import Callable
from typing import Any

import hamux
import jax
import jax.numpy as jnp

from benchmarks.peer import Arrays, serve


def step(cues: Any, patterns: Any, beta: Any) -> Any:
    """The states [batch, dim] after one step; written with hamux's own layers, vectorised over the batch."""

    def stored(unit: Any) -> Any:
        return -jax.nn.logsumexp(beta * (patterns @ unit)) / beta

    layer = hamux.NeuronLayer(hamux.lagr_identity, (cues.shape[-1],))
    ham = hamux.HAM({"state": layer}, {"stored": stored}, [(("state",), "stored")]).vectorize()
    states = {"state": cues}
    return cues - ham.dEdact(ham.activations(states), states)["state"]


def work(inputs: Arrays) -> Callable[[], Any]:
    cues, patterns, beta = (jnp.asarray(inputs[name]) for name in ("cues", "patterns", "beta"))
    # patterns and cues are arguments: as constants XLA would fold them
    jitted = jax.jit(step)
    return lambda: jitted(cues, patterns, beta).block_until_ready()


if __name__ == "__main__":
    serve(work)
