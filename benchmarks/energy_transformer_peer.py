"""hamux's side of `energy_transformer`: tokens as one layer of neurons, attention and patterns as two synapses over it, jitted.

A layer of hamux is one item, so the batch is its vectorised twin. Its dE/dĝ holds x, the neurons' own part, which the Energy Transformer
leaves out: it is taken away again.
"""

from collections.abc import Callable
from typing import Any

import hamux
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peer import Arrays, serve


def descend(x: Any, queries: Any, keys: Any, patterns: Any, step: Any, steps: int, eps: float, watch: bool) -> Any:
    """The tokens [batch, token, dim] after the steps; if watched, the energies [step + 1, batch] instead."""
    dim, beta = x.shape[-1], queries.shape[1] ** -0.5

    def layer_norm(x: Any) -> Any:
        return dim * jnp.sqrt(x.var(-1) + eps).sum()

    def attention(g: Any) -> Any:
        scores = beta * jnp.einsum("qhy,khy->hqk", jnp.einsum("td,hyd->thy", g, queries), jnp.einsum("td,hyd->thy", g, keys))
        return -jax.nn.logsumexp(scores, -1).sum() / beta

    def stored(g: Any) -> Any:
        return -jnp.square(jax.nn.relu(g @ patterns.T)).sum() / 2

    neurons = {"tokens": hamux.NeuronLayer(layer_norm, x.shape[1:])}
    synapses = {"attention": attention, "stored": stored}
    single = hamux.HAM(neurons, synapses, [(("tokens",), "attention"), (("tokens",), "stored")])
    ham = single.vectorize()

    def body(tokens: Any, _: Any) -> Any:
        states = {"tokens": tokens}
        slope = ham.dEdact(ham.activations(states), states)["tokens"] - tokens
        return tokens - step * slope, None

    def energy(tokens: Any) -> Any:
        shown = ham.activations({"tokens": tokens})["tokens"]
        return jax.vmap(lambda g: attention(g) + stored(g))(shown)

    if not watch:
        return jax.lax.scan(body, x, None, length=steps)[0]
    energies = [energy(x)]
    for _ in range(steps):
        x = body(x, None)[0]
        energies.append(energy(x))
    return jnp.stack(energies)


def work(inputs: Arrays) -> Callable[[], Any]:
    arrays = tuple(jnp.asarray(inputs[name]) for name in ("x", "queries", "keys", "patterns", "step"))
    jitted = jax.jit(descend, static_argnums=(5, 6, 7))
    steps, eps, watch = int(inputs["steps"]), float(inputs["eps"]), bool(inputs["watch"])
    return lambda: np.asarray(jitted(*arrays, steps, eps, watch).block_until_ready())


if __name__ == "__main__":
    serve(work)
