"""hamux's side of `energy_network`: two layers and a linear synapse, descended by x <- x - step dE/dx̂, jitted as one scan.

With `energies` the result is the energy before each step and after the last [step + 1, batch], else the visible states [batch, dim].
"""

from collections.abc import Callable
from typing import Any

import hamux
import jax
import jax.numpy as jnp

from benchmarks.peer import Arrays, serve


def network(weight: Any, beta: Any) -> Any:
    """The network of `energy_network.network`, written with hamux's own layers and synapse, vectorised over the batch."""
    neurons = {
        "visible": hamux.NeuronLayer(hamux.lagr_identity, (weight.shape[0],)),
        "hidden": hamux.NeuronLayer(lambda x: hamux.lagr_softmax(x, beta=beta), (weight.shape[1],)),
    }
    return hamux.HAM(neurons, {"weight": hamux.LinearSynapse(weight)}, [(("visible", "hidden"), "weight")]).vectorize()


def work(inputs: Arrays) -> Callable[[], Any]:
    weight, visible, hidden, beta, step = (jnp.asarray(inputs[name]) for name in ("weight", "visible", "hidden", "beta", "step"))
    steps, energies = int(inputs["steps"]), bool(inputs["energies"])

    def recall(weight: Any, visible: Any, hidden: Any, beta: Any, step: Any) -> Any:
        ham = network(weight, beta)

        def once(states: Any, _: None) -> Any:
            activations = ham.activations(states)
            pull = ham.dEdact(activations, states)
            energy = ham.energy(activations, states) if energies else None
            return {name: x - step * pull[name] for name, x in states.items()}, energy

        last, along = jax.lax.scan(once, {"visible": visible, "hidden": hidden}, length=steps)
        return jnp.concatenate([along, ham.energy(ham.activations(last), last)[None]]) if energies else last["visible"]

    # everything is an argument: as constants XLA would fold them
    jitted = jax.jit(recall)
    return lambda: jitted(weight, visible, hidden, beta, step).block_until_ready()


if __name__ == "__main__":
    serve(work)
