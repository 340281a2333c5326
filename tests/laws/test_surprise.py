"""Limits of a memory that learns by surprise: Hebb, the delta rule, closed gates, long use."""

import pytest
import torch
from torch import Tensor

from ammon.learning.dual_form import products
from ammon.learning.fast_weights import Gates, Held, Mlp
from ammon.learning.gated_scan import scan
from ammon.learning.surprise import Surprise, open_gates
from ammon.nn.neural import NeuralMemory, delta_net
from ammon.nn.packing import packing


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _held(*weights: Tensor) -> Held:
    return Held(weights, weights, tuple(torch.zeros_like(w) for w in weights), torch.zeros(len(weights[0]), dtype=torch.int64))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13])
def test_products_between_two_tokens_are_those_of_the_plain_loop_even_with_closed_gates(size: int) -> None:
    gates = _draw(2, size).sigmoid()
    gates[1, size // 2] = 0
    gates.requires_grad_()
    truth = torch.stack(
        [
            torch.stack(
                [torch.stack([row[i + 1 : t + 1].prod() if i <= t else row.new_zeros(()) for i in range(size)]) for t in range(size)]
            )
            for row in gates
        ]
    )
    found = products(gates)
    torch.testing.assert_close(found, truth)
    if size == 1:
        return
    weight = _draw(*truth.shape, seed=1)
    (mine,), (theirs,) = (torch.autograd.grad((weight * p).sum(), gates, retain_graph=True) for p in (found, truth))
    torch.testing.assert_close(mine, theirs)


def test_a_scan_is_the_plain_recursion() -> None:
    gates, added, start = _draw(2, 3, 11), _draw(2, 3, 11, 4, seed=1), _draw(2, 3, 4, seed=2)
    found, now = scan(gates, added, start), start
    for t in range(11):
        now = gates[:, :, t, None] * now + added[:, :, t]
        torch.testing.assert_close(found[:, :, t], now)


def test_one_chunk_from_an_empty_linear_memory_is_hebbs_rule() -> None:
    keys, values, one = _draw(1, 1, 9, 4), _draw(1, 1, 9, 4, seed=1), torch.ones(1, 1, 9, dtype=torch.float64)
    gates = open_gates(0.5 * one, 0 * one, 0 * one)
    _, held = Surprise(9).learn(Mlp(1), _held(torch.zeros(1, 1, 4, 4, dtype=torch.float64)), keys, values, gates)
    torch.testing.assert_close(held.weights[0], keys.mT @ values)


def test_chunks_of_1_in_a_linear_memory_are_the_delta_rule() -> None:
    keys, values, beta = _draw(1, 1, 9, 4), _draw(1, 1, 9, 4, seed=1), _draw(1, 1, 9, seed=2).sigmoid()
    gates = open_gates(beta / 2, 0 * beta, 0 * beta)
    _, held = Surprise(1).learn(Mlp(1), _held(torch.zeros(1, 1, 4, 4, dtype=torch.float64)), keys, values, gates)
    matrix = torch.zeros(4, 4, dtype=torch.float64)
    for k, v, b in zip(keys[0, 0], values[0, 0], beta[0, 0], strict=True):
        matrix = matrix - b * torch.outer(matrix @ k - v, k)
    torch.testing.assert_close(held.weights[0][0, 0].mT, matrix)


def test_the_layer_delta_net_with_unit_keys_and_an_open_gate_recalls_what_it_wrote_last() -> None:
    torch.manual_seed(0)
    layer = delta_net(6, convolution=1).double()
    # the gate is open
    torch.nn.init.zeros_(layer.gate.weight)
    torch.nn.init.constant_(layer.gate.bias, 40.0)
    x = _draw(2, 5, 6, seed=3)
    _, state = layer(x)
    _, keys, values, _ = layer._rows(x, state.tail, packing(None))
    # keys are of length 1 up to the 1e-6 under the root
    torch.testing.assert_close(keys[:, :, -1:] @ state.weights[0], values[:, :, -1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["dual", "scan", "loop"])
def test_gates_that_are_closed_or_wide_open_give_no_nan_and_full_decay_forgets_all(form: str) -> None:
    keys, values = _draw(1, 1, 8, 3), _draw(1, 1, 8, 3, seed=1)
    weights = [(0.5 * _draw(1, 1, 3, 6, seed=2)).requires_grad_(), (0.5 * _draw(1, 1, 6, 3, seed=3)).requires_grad_()]
    raw = torch.tensor(
        [[0.0, 1, 0, 1, 1, 0, 1, 0], [1, 0, 1, 1, 0, 0, 1, 0], [0, 0, 1, 0, 1, 1, 0, 1]], dtype=torch.float64
    ).requires_grad_()
    step, momentum, decay = raw[:, None, None]
    read, held = Surprise(8, form=form).learn(Mlp(2), _held(*weights), keys, values, open_gates(0.1 * step, momentum, decay), keys)
    assert read is not None
    # at the last token all is forgotten and momentum and step are closed
    assert not any(w.any() for w in held.weights)
    gradients = torch.autograd.grad(read.square().sum(), [*weights, raw])
    assert all(bool(g.isfinite().all()) for g in gradients)


def test_a_limit_keeps_each_tokens_gradient_below_it() -> None:
    keys, values = 100 * _draw(1, 1, 1, 3), _draw(1, 1, 1, 3, seed=1)
    weights = [_draw(1, 1, 3, 6, seed=2), _draw(1, 1, 6, 3, seed=3)]
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    _, held = Surprise(1, limit=0.7).learn(Mlp(2), _held(*weights), keys, values, Gates(one, 0 * one, 0 * one, one))
    size = torch.cat([s.flatten() for s in held.momentum]).norm()
    # far above the limit the gradient has its norm
    torch.testing.assert_close(float(size), 0.7, rtol=1e-5, atol=0)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("chunk", [1, 16, 64])
def test_a_memory_of_any_depth_stays_finite_over_a_long_stream_of_large_tokens(depth: int, chunk: int) -> None:
    torch.manual_seed(0)
    time = 128 if chunk == 1 else 4096
    layer = NeuralMemory(16, 2, Mlp(depth, 2), Surprise(chunk, limit=1.0))
    y, state = layer(30 * torch.randn(2, time, 16))
    (gradient,) = torch.autograd.grad(y.square().mean(), [layer.project.weight])
    assert all(bool(t.isfinite().all()) for t in [y, gradient, *state.named().values()])


def test_a_gradient_of_the_gradient_is_that_of_the_scan() -> None:
    torch.manual_seed(0)
    x, found = _draw(2, 10, 8), []
    layer = NeuralMemory(8, 2, Mlp(2, 2), Surprise(4, limit=1.0)).double()
    scan = NeuralMemory(8, 2, Mlp(2, 2), Surprise(4, limit=1.0, form="scan")).double()
    scan.load_state_dict(layer.state_dict())
    for memory in (layer, scan):
        weights = list(memory.parameters())
        first = torch.autograd.grad(memory(x)[0].square().sum(), weights, create_graph=True)
        found.append(torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), weights))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
