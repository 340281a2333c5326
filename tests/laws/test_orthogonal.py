"""A momentum made orthogonal (Muon): Newton-Schulz steps against singular values, and what a memory that moves along it obeys."""

import pytest
import torch
from torch import Tensor, nn

from ammon.learning.fast_weights import Functional, Gates, Held, Mlp
from ammon.learning.gated_scan import GatedScan
from ammon.learning.orthogonal import orthogonal
from ammon.learning.surprise import Surprise, open_gates

SHAPES = [(4, 4), (3, 7), (7, 3), (1, 5), (5, 1)]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_singular_vectors_stay_and_singular_values_go_through_the_polynomial(shape: tuple[int, int], steps: int) -> None:
    matrices = draw(2, 3, *shape)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    values = values / values.norm(dim=-1, keepdim=True)
    for _ in range(steps):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    torch.testing.assert_close(orthogonal(matrices, steps), left * values[..., None, :] @ right, rtol=1e-10, atol=1e-11)


def test_five_steps_bring_all_but_the_least_singular_values_into_the_known_band() -> None:
    # from .0017 of the norm to all of it
    sizes = torch.logspace(-2.75, 0, 400, dtype=torch.float64)
    found = []
    for size in sizes:
        rest = torch.sqrt(1 - size.square())
        found.append(torch.linalg.svdvals(orthogonal(torch.diag(torch.stack([size, rest])), 5)))
    values = torch.stack(found)[:-1]
    assert float(values.min()) > 0.68
    assert float(values.max()) < 1.21
    # those of a wide random matrix are all near its norm over the square root of their number
    wide = torch.linalg.svdvals(orthogonal(draw(50, 16, 64), 5))
    assert float(wide.min()) > 0.68
    assert float(wide.max()) < 1.14


def test_it_is_the_step_of_torchs_muon() -> None:
    from torch.optim import Muon

    # without momentum and decay its step is Newton-Schulz of the gradient, in bfloat16, times sqrt(rows / columns) if that is above 1
    weight = nn.Parameter(torch.zeros(4, 9))
    weight.grad = draw(4, 9).float()
    Muon([weight], lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=False, ns_steps=5).step()
    torch.testing.assert_close(-weight.detach(), orthogonal(weight.grad, 5), rtol=0, atol=5 * torch.finfo(torch.bfloat16).eps)


def test_size_is_lost_and_nothing_stays_nothing() -> None:
    matrices = draw(2, 4, 3)
    torch.testing.assert_close(orthogonal(matrices * 1e-3, 5), orthogonal(matrices * 1e3, 5), rtol=1e-10, atol=1e-12)
    nothing = torch.zeros(2, 4, 3, dtype=torch.float64, requires_grad=True)
    found = orthogonal(nothing, 5)
    assert not found.any()
    (slope,) = torch.autograd.grad(found.sum(), nothing)
    assert bool(slope.isfinite().all())


def held(network: Mlp | Functional, batch: int, heads: int, dim: int) -> Held:
    weights = tuple(w.double().expand(batch, *w.shape) for w in network.initial(heads, dim))
    return Held(weights, weights, tuple(torch.zeros_like(w) for w in weights), torch.zeros(batch, dtype=torch.int64))


def given(batch: int, heads: int, time: int, dim: int) -> tuple[Tensor, Tensor, Gates]:
    step, momentum, decay = torch.sigmoid(draw(3, batch, heads, time, seed=3))
    return draw(batch, heads, time, dim, seed=1), draw(batch, heads, time, dim, seed=2), open_gates(step, momentum, decay)


def test_without_a_step_no_weight_moves_but_for_its_decay() -> None:
    keys, values, gates = given(2, 2, 9, 3)
    start = held(Mlp(2, 2), 2, 2, 3)
    still = gates._replace(step=torch.zeros_like(gates.step), decay=torch.zeros_like(gates.decay))
    _, after = Surprise(4, orthogonal=5).learn(Mlp(2, 2), start, keys, values, still)
    for begun, ended in zip(start.weights, after.weights, strict=True):
        assert torch.equal(begun, ended)
    assert all(bool(part.any()) for part in after.momentum)


def test_the_first_step_is_as_large_as_its_gate_whatever_the_error() -> None:
    keys, values, gates = given(1, 1, 1, 3)
    for size in (1e-3, 1.0, 1e3):
        _, after = Surprise(1, orthogonal=5).learn(Mlp(1), held(Mlp(1), 1, 1, 3), keys, size * values, gates)
        # a matrix of rank 1: its one singular value goes from 1 to .7
        value = float(torch.linalg.matrix_norm(after.weights[0], 2)) / float(gates.step)
        assert value == pytest.approx(0.7, abs=0.03)


def test_vectors_of_a_network_move_along_their_momentum_as_it_is() -> None:
    class Affine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.eye(3, dtype=torch.float64))
            self.shift = nn.Parameter(torch.zeros(3, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.matrix + self.shift

    network = Functional(Affine())
    keys, values, gates = given(2, 1, 1, 3)
    start = held(network, 2, 1, 3)
    _, after = Surprise(1, orthogonal=5).learn(network, start, keys, values, gates)
    error = 2 * (keys - values)[:, :, 0]
    torch.testing.assert_close(after.weights[1], -gates.step * error, rtol=1e-12, atol=1e-12)
    truth = (1 - gates.decay)[..., None] * start.weights[0] - gates.step[..., None] * orthogonal(keys.mT @ error[:, :, None], 5)
    torch.testing.assert_close(after.weights[0], truth, rtol=1e-10, atol=1e-12)


def test_it_chooses_the_scan_and_the_dual_form_is_refused_in_one_sentence() -> None:
    assert Surprise(4, orthogonal=5).form_of(Mlp(2)) == GatedScan(5)
    with pytest.raises(ValueError, match=r'Surprise: the dual form.* with orthogonal = 5 they are not; leave it out or use form="scan"'):
        Surprise(4, form="dual", orthogonal=5)
    with pytest.raises(ValueError, match="dual form, compiled or not"):
        Surprise(4, compiled=True, orthogonal=5)
    with pytest.raises(ValueError, match="orthogonal must be a whole number of at least 1"):
        Surprise(4, orthogonal=0)
