"""A memory that learns by surprise against titans-pytorch, where that is installed (extra `bench`), from its keys, values and gates."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ammon.learning.fast_weights import Held, Mlp
from ammon.learning.surprise import Surprise, open_gates

BATCH, TIME, ENTRIES = 2, 13, 4


class SiluMlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(ENTRIES, 2 * ENTRIES))
        self.second = nn.Parameter(torch.randn(2 * ENTRIES, ENTRIES))

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(x @ self.first) @ self.second


def _peer(heads: int, chunk: int, **settings: Any) -> Any:
    with warnings.catch_warnings():
        # its dependencies warn of their own
        warnings.simplefilter("ignore")
        titans = pytest.importorskip("titans_pytorch")
        torch.manual_seed(0)
        return titans.NeuralMemory(
            ENTRIES * heads,
            chunk_size=1,
            batch_size=chunk,
            dim_head=ENTRIES,
            heads=heads,
            model=SiluMlp(),
            mem_model_norm_add_residual=False,
            default_step_transform_max_lr=0.3,
            **settings,
        ).double()


@pytest.mark.parametrize(("heads", "chunk"), [(1, 1), (1, 4), (2, 5), (2, 13)])
def test_with_chunks_of_one_and_batches_of_b_its_memory_is_ours_with_chunks_of_b(heads: int, chunk: int) -> None:
    peer = _peer(heads, chunk)
    x = torch.randn(BATCH, TIME, ENTRIES * heads, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read, after = peer(x)
        stored, asked = peer.store_norm(x), peer.retrieve_norm(x)
        keys, values = (peer.split_kv_heads(rows) for rows in (peer.to_keys(stored), peer.to_values(stored)))
        queries = peer.split_heads(peer.to_queries(asked))

    def by_head(gate: Tensor) -> Tensor:
        return gate.reshape(BATCH, heads, TIME)

    # its loss is a mean over entries, ours a sum
    step = by_head(peer.adaptive_step_transform(peer.to_adaptive_step(stored))) / ENTRIES
    gates = open_gates(step, by_head(peer.to_momentum(stored).sigmoid()), by_head(peer.to_decay_factor(stored).sigmoid()))
    weights = tuple(w.expand(BATCH, *w.shape) for w in peer.memory_model_parameters)
    held = Held(weights, weights, tuple(torch.zeros_like(w) for w in weights), torch.zeros(BATCH, dtype=torch.int64))
    ours, learned = Surprise(chunk).learn(Mlp(2, 2), held, keys, values, gates, queries)
    theirs, momentum = after.states
    for name, weight, moving in zip(peer.memory_model_parameter_names, learned.weights, learned.momentum, strict=True):
        torch.testing.assert_close(weight.flatten(0, 1), theirs[name], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(moving.flatten(0, 1), momentum[name][0], rtol=1e-9, atol=1e-11)
    assert ours is not None
    if heads > 1:
        ours = ours * peer.retrieve_gate(asked)
    torch.testing.assert_close(peer.combine_heads(peer.merge_heads(ours)), read, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("chunk", [1, 4])
def test_with_steps_of_one_size_its_spectral_norm_of_surprises_is_our_orthogonal_momentum(chunk: int) -> None:
    peer = _peer(1, chunk, spectral_norm_surprises=True)
    # it has the step before the momentum, where it is lost, and none after; where all steps are alike that is ours with steps of 1
    nn.init.zeros_(peer.to_adaptive_step[0].weight)
    x = torch.randn(BATCH, TIME, ENTRIES, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, after = peer(x)
        stored = peer.store_norm(x)
        keys, values = (peer.split_kv_heads(rows) for rows in (peer.to_keys(stored), peer.to_values(stored)))
    momentum, decay = (gate(stored).sigmoid().reshape(BATCH, 1, TIME) for gate in (peer.to_momentum, peer.to_decay_factor))
    weights = tuple(w.expand(BATCH, *w.shape) for w in peer.memory_model_parameters)
    weights = tuple(w.reshape(BATCH, 1, *w.shape[-2:]) for w in weights)
    held = Held(weights, weights, tuple(torch.zeros_like(w) for w in weights), torch.zeros(BATCH, dtype=torch.int64))
    _, learned = Surprise(chunk, orthogonal=5).learn(Mlp(2, 2), held, keys, values, open_gates(torch.ones_like(decay), momentum, decay))
    for name, weight in zip(peer.memory_model_parameter_names, learned.weights, strict=True):
        torch.testing.assert_close(weight.flatten(0, 1), after.states[0][name], rtol=1e-8, atol=1e-10)
