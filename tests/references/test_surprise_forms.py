"""Forms of a memory that learns by surprise against the paper's recurrence, by autograd, one sample and token at a time."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ammon.learning.fast_weights import Functional, Gates, Held, Mlp, Network
from ammon.learning.surprise import FORMS, Surprise

BATCH, HEADS, DIM = 2, 2, 3


def _draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


class Case:
    """Leaves that gradients are asked for, and what a memory makes of them."""

    def __init__(self, network: Mlp, time: int, masked: bool) -> None:
        self.network, self.time = network, time
        self.keys, self.values, self.queries = (_draw(BATCH, HEADS, time, DIM, seed=seed) for seed in (0, 1, 2))
        self.raw = _draw(3, BATCH, HEADS, time, seed=3)
        torch.manual_seed(4)
        initial = [torch.randn_like(w, dtype=torch.float64) * 0.7 for w in network.initial(HEADS, DIM)]
        self.weights = [w.expand(BATCH, *w.shape).clone().requires_grad_() for w in initial]
        self.momentum = [(0.1 * torch.randn_like(w)).detach().requires_grad_() for w in self.weights]
        # rows of different lengths
        self.count = torch.tensor([time, max(1, time // 2)]) if masked else None
        self.leaves = [self.keys, self.values, self.queries, self.raw, *self.weights, *self.momentum]

    def gates(self, chunk: int) -> tuple[Tensor, Tensor, Tensor]:
        step, momentum, decay = torch.sigmoid(self.raw)
        return 0.2 * step / chunk, momentum, decay

    def paper(self, chunk: int, limit: float | None, orthogonal: int | None = None) -> list[Tensor]:
        """Behrouz et al. 2024, eq. 8 to 15, with all gradients of a chunk at its first weights; orthogonal: 2025, eq. 32-33."""
        outputs = torch.zeros(BATCH, HEADS, self.time, DIM, dtype=torch.float64)
        rows, ends, stores = [], [], []
        steps, etas, alphas = self.gates(chunk)
        for b in range(BATCH):
            for h in range(HEADS):
                weights, momentum = [w[b, h] for w in self.weights], [s[b, h] for s in self.momentum]
                for t in range(self.time if self.count is None else int(self.count[b])):
                    if t % chunk == 0:
                        anchor = weights
                    loss = (self.value(anchor, self.keys[b, h, t]) - self.values[b, h, t]).square().sum()
                    gradient = torch.autograd.grad(loss, anchor, create_graph=True)
                    if limit is not None:
                        norm = torch.cat([part.flatten() for part in gradient]).norm()
                        gradient = tuple(part / torch.sqrt(1 + (norm / limit) ** 2) for part in gradient)
                    if orthogonal is None:
                        momentum = [etas[b, h, t] * s - steps[b, h, t] * u for s, u in zip(momentum, gradient)]
                        moves = momentum
                    else:
                        momentum = [etas[b, h, t] * s - u for s, u in zip(momentum, gradient)]
                        moves = [steps[b, h, t] * _newton_schulz(s, orthogonal) for s in momentum]
                    weights = [(1 - alphas[b, h, t]) * w + s for w, s in zip(weights, moves)]
                    rows.append(self.value(weights, self.queries[b, h, t]))
                    ends.append((b, h, t))
                stores.append((weights, momentum))
        outputs = outputs.index_put(tuple(torch.tensor(ends).T), torch.stack(rows))
        shape = (BATCH, HEADS)
        parts = range(len(self.weights))
        return [outputs] + [torch.stack([s[which][p] for s in stores]).unflatten(0, shape) for which in (0, 1) for p in parts]

    def value(self, weights: list[Tensor], x: Tensor) -> Tensor:
        h = x
        for w in weights[:-1]:
            h = h @ w
            h = h * torch.sigmoid(h)
        h = h @ weights[-1]
        if self.network.residual:
            h = x + (h - h.mean()) / torch.sqrt(h.var(correction=0) + 1e-5)
        return h

    def ours(self, rule: Surprise, network: Network | None = None) -> list[Tensor]:
        step, momentum, decay = self.gates(rule.chunk)
        gates = Gates(step, momentum, decay, torch.ones_like(step))
        held = Held(tuple(self.weights), tuple(self.weights), tuple(self.momentum), torch.zeros(BATCH, dtype=torch.int64))
        read, after = rule.learn(network or self.network, held, self.keys, self.values, gates, self.queries, count=self.count, aligned=True)
        assert read is not None
        if self.count is not None:
            read = torch.where((torch.arange(self.time) < self.count[:, None])[:, None, :, None], read, torch.zeros_like(read))
        return [read, *after.weights, *after.momentum]


def _newton_schulz(matrix: Tensor, steps: int) -> Tensor:
    """As it is written: X / |X|, then X ← a X + b X Xᵀ X + c X Xᵀ X Xᵀ X."""
    x = matrix / matrix.square().sum().sqrt()
    for _ in range(steps):
        cube = x @ x.mT @ x
        x = 3.4445 * x - 4.7750 * cube + 2.0315 * x @ x.mT @ cube
    return x


def _gradients(results: list[Tensor], leaves: list[Tensor]) -> tuple[Tensor, ...]:
    # every entry of every result counts, each with a weight of its own
    total = sum(
        (result * torch.linspace(-1, 1, result.numel(), dtype=torch.float64).cos().reshape(result.shape)).sum() for result in results
    )
    return torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)


# 64: one whole chunk and a part of the next
LENGTHS = {1: 9, 7: 16, 16: 19, 64: 67}


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("chunk", LENGTHS)
@pytest.mark.parametrize("masked", [False, True])
def test_all_forms_are_the_recurrence_of_the_paper_in_values_and_gradients(depth: int, chunk: int, masked: bool) -> None:
    case = Case(Mlp(depth, expansion=2), LENGTHS[chunk], masked)
    _check(case, chunk, None)


@pytest.mark.parametrize("limit", [None, 0.5])
def test_with_a_norm_a_residual_and_a_limit_too(limit: float | None) -> None:
    _check(Case(Mlp(2, expansion=2, residual=True), 12, True), 5, limit)
    _check(Case(Mlp(1, residual=True), 12, True), 5, limit)
    _check(Case(Mlp(4, expansion=1), 12, True), 5, limit)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("chunk", [1, 7, 16])
@pytest.mark.parametrize("masked", [False, True])
def test_with_an_orthogonal_momentum_scan_and_loop_are_the_recurrence(depth: int, chunk: int, masked: bool) -> None:
    _check(Case(Mlp(depth, expansion=2), LENGTHS[chunk], masked), chunk, None, 5)


def test_an_orthogonal_momentum_goes_with_a_limit_and_a_residual_too() -> None:
    _check(Case(Mlp(2, expansion=2, residual=True), 12, True), 5, 0.5, 3)


def _check(case: Case, chunk: int, limit: float | None, orthogonal: int | None = None) -> None:
    truth = case.paper(chunk, limit, orthogonal)
    gradients = _gradients(truth, case.leaves)
    for form in FORMS if orthogonal is None else ("scan", "loop"):
        found = case.ours(Surprise(chunk, limit, form, orthogonal=orthogonal))
        # rounding of float64 over up to 67 tokens; seen: below 1e-13
        for mine, theirs in zip(found, truth, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-11, msg=lambda text, form=form: f"{form}: {text}")
        for mine, theirs in zip(_gradients(found, case.leaves), gradients, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10, msg=lambda text, form=form: f"{form}, gradient: {text}")


def test_a_module_of_the_user_learns_as_the_same_network_of_ours() -> None:
    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Parameter(torch.randn(DIM, 2 * DIM, dtype=torch.float64))
            self.second = torch.nn.Parameter(torch.randn(2 * DIM, DIM, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return functional.silu(x @ self.first) @ self.second

    own = Functional(Own())
    assert [list(w.shape) for w in own.initial(HEADS, DIM)] == [[HEADS, DIM, 2 * DIM], [HEADS, 2 * DIM, DIM]]
    case = Case(Mlp(2, expansion=2), 12, True)
    truth = case.ours(Surprise(5))
    for form in ("scan", "loop", None):
        for mine, theirs in zip(case.ours(Surprise(5, form=form), own), truth, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-11)
    with pytest.raises(ValueError, match="dual form is known for Mlp"):
        case.ours(Surprise(5, form="dual"), own)
    with pytest.raises(ValueError, match="has buffers"):
        Functional(torch.nn.BatchNorm1d(3))
