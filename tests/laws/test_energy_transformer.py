"""The Energy Transformer block: one energy, its gradient, and a descent that keeps its word."""

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from ammon.energies.attention import Attention
from ammon.nn.energy_transformer import EnergyTransformer

BATCH, TOKENS, DIM = 3, 7, 10

# own key, mask, edges
CASES = [(own, masked, some) for own in (True, False) for masked in (False, True) for some in (False, True)]
each_case = pytest.mark.parametrize(("own", "masked", "some"), CASES)


def make(seed: int = 0, spread: float = 1.0, **given: Any) -> EnergyTransformer:
    torch.manual_seed(seed)
    layer = EnergyTransformer(DIM, 2, **{"head_dim": 3, "memories": 13, "steps": 4, **given}).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(spread)
        layer.norm.delta.normal_()
        layer.norm.gamma.fill_(1.3)
    return layer


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def conditions(masked: bool, some: bool) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    given = {}
    if masked:
        given["mask"] = torch.rand(BATCH, TOKENS, generator=generator) < 0.7
    if some:
        given["edges"] = torch.rand(BATCH, TOKENS, TOKENS, generator=generator) < 0.4
        # one query sees nothing at all
        given["edges"][0, 2] = False
    return given


def energy_by_loops(layer: EnergyTransformer, x: Tensor, mask: Tensor | None = None, edges: Tensor | None = None) -> Tensor:
    """The paper's sums as they are written, token by token."""
    g = layer.norm.activation(x)
    beta, total = layer.attention.beta, []
    for item in range(len(x)):
        there = [t for t in range(x.shape[1]) if mask is None or mask[item, t]]
        energy = torch.zeros((), dtype=x.dtype)
        for queries, keys in zip(layer.attention.queries, layer.attention.keys, strict=True):
            for c in there:
                terms = [
                    beta * torch.dot(keys @ g[item, b], queries @ g[item, c])
                    for b in there
                    if (layer.own or b != c) and (edges is None or edges[item, c, b])
                ]
                if terms:
                    energy = energy - torch.logsumexp(torch.stack(terms), 0) / beta
        for t in there:
            energy = energy - (layer.patterns.patterns @ g[item, t]).relu().square().sum() / 2
        total.append(energy)
    return torch.stack(total)


def step_by_autograd(layer: EnergyTransformer, x: Tensor, create_graph: bool = False, **given: Tensor) -> Tensor:
    """x - α dE/dg, the derivative taken by autograd of the sums as they are written."""
    # the inverse of the norm is not needed: at fixed weights the energy of g is asked for by a norm that changes nothing
    g = layer.norm.activation(x)
    if not create_graph:
        g = g.detach().requires_grad_()
    norm, layer.norm = layer.norm, Unchanged()  # type: ignore[assignment]
    energy = energy_by_loops(layer, g, **given)
    layer.norm = norm
    (slope,) = torch.autograd.grad(energy.sum(), g, create_graph=create_graph)
    return x - layer.step * slope


class Unchanged(nn.Module):
    def activation(self, x: Tensor) -> Tensor:
        return x


def there(x: Tensor, given: dict[str, Tensor]) -> Tensor:
    return torch.where(given["mask"][..., None], x, 0.0) if "mask" in given else x


@each_case
def test_the_energy_is_that_of_the_paper_summed_token_by_token(own: bool, masked: bool, some: bool) -> None:
    layer, x, given = make(own=own), draw(BATCH, TOKENS, DIM), conditions(masked, some)
    energy = layer.energy(x, **given)
    torch.testing.assert_close(energy, energy_by_loops(layer, x, **given), rtol=1e-12, atol=0)
    torch.testing.assert_close(energy, sum(layer.terms(x, **given).values()), rtol=0, atol=0)


@pytest.mark.parametrize("own", [True, False])
def test_the_energy_and_its_pull_are_those_of_the_attention_synapse(own: bool) -> None:
    layer, x = make(own=own).requires_grad_(False), draw(BATCH, TOKENS, DIM)
    synapse = Attention(layer.attention.queries.mT, layer.attention.keys.mT, others=not own)
    g = layer.norm.activation(x)
    torch.testing.assert_close(layer.terms(x)["attention"], synapse(g, g), rtol=1e-12, atol=0)
    seen = None if own else ~torch.eye(TOKENS, dtype=torch.bool)[None, None]
    towards = sum(synapse.pulls(g, g))
    torch.testing.assert_close(layer.attention.pull(g, seen), towards, rtol=1e-11, atol=1e-11)


@each_case
@pytest.mark.parametrize("fast", [True, False])
def test_a_step_is_the_gradient_by_autograd_of_the_one_energy(own: bool, masked: bool, some: bool, fast: bool) -> None:
    layer, x, given = make(own=own, steps=3, fast=fast), draw(BATCH, TOKENS, DIM), conditions(masked, some)
    slow = there(x, given)
    for _ in range(3):
        slow = step_by_autograd(layer, slow, **given)
    torch.testing.assert_close(layer(x, **given), slow, rtol=1e-12, atol=1e-12)


@each_case
def test_the_fast_backward_pass_is_autograd_through_autograd(own: bool, masked: bool, some: bool) -> None:
    layer, given = make(own=own, steps=3), conditions(masked, some)
    x, push = draw(BATCH, TOKENS, DIM).requires_grad_(), draw(BATCH, TOKENS, DIM, seed=2)
    slow = there(x, given)
    for _ in range(3):
        slow = step_by_autograd(layer, slow, create_graph=True, **given)
    inputs = [x, *layer.parameters()]
    fast = torch.autograd.grad(layer(x, **given), inputs, push)
    for ours, truth in zip(fast, torch.autograd.grad(slow, inputs, there(push, given)), strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-10, atol=1e-10)


def test_gradients_of_input_and_all_parameters_agree_with_finite_differences() -> None:
    layer = make(own=False, steps=2)
    x, edges = draw(1, 4, DIM).requires_grad_(), torch.ones(1, 4, 4, dtype=torch.bool).tril()
    names = [name for name, _ in layer.named_parameters()]

    def of(x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        values = dict(zip(names, parameters, strict=True))
        given = {"edges": edges}
        return torch.func.functional_call(layer, values, (x,), given), _energy(layer, values, x, edges)

    torch.autograd.gradcheck(of, (x, *layer.parameters()), fast_mode=True)


def _energy(layer: EnergyTransformer, values: dict[str, Tensor], x: Tensor, edges: Tensor) -> Tensor:
    class Energy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.layer.energy(x, edges=edges)

    return torch.func.functional_call(Energy(), {f"layer.{name}": value for name, value in values.items()}, (x,))


def test_second_derivatives_and_vmap_go_through_the_plain_form() -> None:
    layer, x = make(steps=1, fast=False), draw(BATCH, TOKENS, DIM)
    each = torch.func.vmap(torch.func.grad(lambda item: layer.energy(item[None]).sum()))(x)
    whole = torch.func.grad(lambda x: layer.energy(x).sum())(x)
    torch.testing.assert_close(each, whole, rtol=1e-11, atol=1e-11)
    torch.autograd.gradgradcheck(layer, (draw(1, 3, DIM).requires_grad_(),), fast_mode=True)
    # not silently none
    with pytest.raises(RuntimeError, match="has no second derivatives; make the layer with fast=False"):
        torch.autograd.grad(make(steps=1)(x.requires_grad_()).sum(), x, create_graph=True)


def test_what_tokens_show_is_the_gradient_of_the_layer_norms_lagrangian_for_many_tokens_and_a_bias() -> None:
    layer, x = make(), draw(BATCH, TOKENS, DIM).requires_grad_()
    (slope,) = torch.autograd.grad(layer.norm.value(x).sum(), x)
    torch.testing.assert_close(slope, layer.norm.activation(x), rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), spread=st.floats(0.1, 30), own=st.booleans(), case=st.sampled_from(CASES))
def test_up_to_the_safe_step_the_energy_never_rises(seed: int, spread: float, own: bool, case: tuple[bool, bool, bool]) -> None:
    layer, given = make(seed, spread, own=own, fast=False), conditions(*case[1:])
    x = there(draw(BATCH, TOKENS, DIM, seed=seed) * (1 + seed % 5), given)
    for _ in range(3):
        safe = layer.safe_step(x, **given)
        assert bool((safe > 0).all())
        before = layer.energy(x, **given)
        layer.step = 1.0
        moved = x + safe.clamp_max(1e3)[:, None, None] * (step_of(layer, x, given))
        after = layer.energy(moved, **given)
        assert bool((after <= before + 1e-11 * before.abs()).all())
        x = moved


def step_of(layer: EnergyTransformer, x: Tensor, given: dict[str, Tensor]) -> Tensor:
    """-dE/dg."""
    steps, layer.steps = layer.steps, 1
    moved = (layer(x, **given) - x) / layer.step
    layer.steps = steps
    return moved


def repelling(**given: Any) -> EnergyTransformer:
    """Queries that are minus the keys: a token that sees itself goes up its own |W g|² if its step is too large."""
    layer = make(spread=3.0, **given).requires_grad_(False)
    layer.attention.queries.copy_(-layer.attention.keys)
    layer.patterns.patterns.zero_()
    layer.norm.delta.zero_()
    return layer


ITSELF = torch.eye(TOKENS, dtype=torch.bool).expand(BATCH, -1, -1)


def test_beyond_the_safe_step_the_energy_may_rise_so_the_bound_says_something() -> None:
    layer, x = repelling(fast=False), draw(BATCH, TOKENS, DIM)
    push, safe = step_of(layer, x, {"edges": ITSELF}), layer.safe_step(x, edges=ITSELF)
    before = layer.energy(x, edges=ITSELF)
    after = [layer.energy(x + factor * safe[:, None, None] * push, edges=ITSELF) for factor in (1, 1000)]
    assert bool((after[0] < before).all())
    assert bool((after[1] > before).all())


@pytest.mark.parametrize("step", [0.01, 1.0, 100.0, 1e5])
def test_patterns_alone_go_down_by_any_step(step: float) -> None:
    layer, x = make(step=step, spread=4.0), draw(BATCH, TOKENS, DIM)
    nobody = torch.zeros(BATCH, TOKENS, TOKENS, dtype=torch.bool)
    assert bool(layer.safe_step(x, edges=nobody).isinf().all())
    energies = layer.descend(x, edges=nobody, steps=20, tolerance=0.0).energies
    assert bool((energies.diff(dim=0) <= 1e-12 * energies[1:].abs()).all())


@each_case
def test_with_backtracking_the_energy_never_rises_however_large_the_step(own: bool, masked: bool, some: bool) -> None:
    layer, x, given = repelling(own=own, step=50.0), draw(BATCH, TOKENS, DIM), conditions(masked, some)
    found = layer.descend(x, steps=40, tolerance=0.0, backtrack=True, **given)
    assert bool((found.energies.diff(dim=0) <= 1e-12 * found.energies[1:].abs()).all())
    torch.testing.assert_close(found.energies[-1], layer.energy(found.tokens, **given), rtol=1e-12, atol=1e-12)


def test_backtracking_turns_a_step_that_rises_into_one_that_falls() -> None:
    layer, x = repelling(step=50.0), draw(BATCH, TOKENS, DIM)
    rising = layer.descend(x, edges=ITSELF, steps=20, tolerance=0.0)
    assert bool((rising.energies[1] > rising.energies[0]).all())
    falling = layer.descend(x, edges=ITSELF, steps=20, tolerance=0.0, backtrack=True)
    assert bool((falling.energies.diff(dim=0) <= 1e-12 * falling.energies[1:].abs()).all())
    assert bool((falling.energies[-1] < 0.1 * falling.energies[0]).all())


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    step=st.floats(0.01, 1e3),
    case=st.sampled_from(CASES),
    dtype=st.sampled_from([torch.float64, torch.float32]),
)
def test_backtracking_lowers_the_energy_of_any_layer_from_any_step(
    seed: int, step: float, case: tuple[bool, bool, bool], dtype: torch.dtype
) -> None:
    layer, given = make(seed, 1 + seed % 7, own=case[0], step=step).to(dtype).requires_grad_(False), conditions(*case[1:])
    found = layer.descend(draw(BATCH, TOKENS, DIM, seed=seed).to(dtype), steps=12, tolerance=0.0, backtrack=True, **given)
    lowest = found.energies.cummin(0).values
    # rises cannot add up: all are within rounding of the lowest energy that was passed
    assert bool((found.energies - lowest <= 64 * torch.finfo(dtype).eps * lowest.abs()).all())
    assert bool((found.energies[-1] < found.energies[0]).all())


def test_gradients_pass_through_steps_of_the_sizes_that_backtracking_found() -> None:
    layer, x = repelling(step=0.2), draw(BATCH, TOKENS, DIM).requires_grad_()
    (found,) = torch.autograd.grad(layer.descend(x, edges=ITSELF, steps=1, tolerance=0.0, backtrack=True).tokens.square().sum(), x)
    with torch.no_grad():
        moved = layer.descend(x, edges=ITSELF, steps=1, tolerance=0.0, backtrack=True).tokens - x
    push = step_of(layer, x, {"edges": ITSELF})
    size = (moved.flatten(1).norm(dim=-1) / push.flatten(1).norm(dim=-1)).detach()
    assert bool((size < 0.19).all())
    (truth,) = torch.autograd.grad((x + size[:, None, None] * push).square().sum(), x)
    torch.testing.assert_close(found, truth, rtol=1e-9, atol=1e-9)


def test_a_descent_of_as_many_steps_is_the_layer_and_its_energies_are_those_of_its_trajectory() -> None:
    layer, x, given = make(), draw(BATCH, TOKENS, DIM), conditions(True, True)
    found = layer.descend(x, tolerance=0.0, keep=True, **given)
    torch.testing.assert_close(found.tokens, layer(x, **given), rtol=1e-12, atol=1e-12)
    assert found.trajectory is not None
    assert found.trajectory.shape == (layer.steps + 1, BATCH, TOKENS, DIM)
    truth = torch.stack([layer.energy(tokens, **given) for tokens in found.trajectory])
    torch.testing.assert_close(found.energies, truth, rtol=1e-12, atol=1e-12)
    assert found.steps.tolist() == [layer.steps] * BATCH


def test_a_descent_stops_item_by_item_where_what_the_tokens_show_comes_to_rest() -> None:
    layer, x, tolerance = make(step=0.5).requires_grad_(False), draw(BATCH, TOKENS, DIM), 1e-3
    found = layer.descend(x, steps=500, tolerance=tolerance)
    assert bool(found.converged.all())
    assert len(set(found.steps.tolist())) > 1
    for item in range(BATCH):
        alone = layer.descend(x[item : item + 1], steps=500, tolerance=tolerance)
        assert alone.steps[0] == found.steps[item]
        torch.testing.assert_close(alone.tokens[0], found.tokens[item], rtol=1e-9, atol=1e-9)
    # one step more moves what is shown by no more than the tolerance, though x itself goes on
    layer.steps = 1
    more = layer(found.tokens).detach()
    assert float((layer.norm.activation(more) - layer.norm.activation(found.tokens)).abs().max()) <= tolerance
    assert float((more - found.tokens).abs().max()) > 1e-2


def test_gradients_pass_through_a_descent() -> None:
    layer, x = make(), draw(BATCH, TOKENS, DIM).requires_grad_()
    inputs = [x, *layer.parameters()]
    found = torch.autograd.grad(layer.descend(x, tolerance=0.0).tokens.square().sum(), inputs)
    for ours, truth in zip(found, torch.autograd.grad(layer(x).square().sum(), inputs), strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("own", [True, False])
def test_a_permutation_of_the_tokens_permutes_the_answer(own: bool) -> None:
    layer, x, given = make(own=own), draw(BATCH, TOKENS, DIM), conditions(True, True)
    order = torch.randperm(TOKENS, generator=torch.Generator().manual_seed(3))
    turned = {"mask": given["mask"][:, order], "edges": given["edges"][:, order][:, :, order]}
    torch.testing.assert_close(layer(x[:, order], **turned), layer(x, **given)[:, order], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.energy(x[:, order], **turned), layer.energy(x, **given), rtol=1e-12, atol=0)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("own", [True, False])
def test_a_masked_token_is_as_if_it_had_not_been_even_if_it_is_nan(fast: bool, own: bool) -> None:
    layer, mask = make(fast=fast, own=own), conditions(True, False)["mask"]
    mask[2] = False
    x = draw(BATCH, TOKENS, DIM).masked_fill(~mask[..., None], torch.nan).requires_grad_()
    y = layer(x, mask=mask)
    assert not y[~mask].any()
    for item in range(BATCH):
        alone = x[item : item + 1, mask[item]]
        torch.testing.assert_close(y[item, mask[item]], layer(alone)[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(layer.energy(x, mask=mask)[item], layer.energy(alone)[0], rtol=1e-12, atol=1e-12)
    y.square().sum().backward()
    assert x.grad is not None
    assert not x.grad[~mask].any()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in layer.parameters() if parameter.grad is not None)


def test_a_token_with_no_other_to_see_has_no_attention_energy() -> None:
    layer = make(own=False)
    x = draw(BATCH, 1, DIM)
    assert not layer.terms(x)["attention"].any()
    assert bool(layer(x).isfinite().all())


def test_the_first_term_of_the_pull_is_attention_and_the_second_is_what_it_lacks() -> None:
    layer, x = make().requires_grad_(False), draw(BATCH, TOKENS, DIM)
    g, part = layer.norm.activation(x), layer.attention
    queries, keys = (torch.einsum("btd,hyd->bhty", g, weight) for weight in (part.queries, part.keys))
    first = functional.scaled_dot_product_attention(queries, keys, keys)
    attended = torch.einsum("bhty,hyd->btd", first, part.queries)
    second = torch.softmax(part.beta * queries @ keys.mT, -1).mT @ queries
    torch.testing.assert_close(part.pull(g) - attended, torch.einsum("bhty,hyd->btd", second, part.keys), rtol=1e-11, atol=1e-11)
    assert float((part.pull(g) - attended).abs().max()) > 0.1


def test_both_energies_push_from_the_same_tokens_and_in_the_units_of_the_energy() -> None:
    # others move by attention first and by patterns from there, or divide the energy by batch · tokens but not its gradient
    layer, x = make(steps=1, step=1.0), draw(BATCH, TOKENS, DIM)
    g = layer.norm.activation(x).requires_grad_()
    (slope,) = torch.autograd.grad((layer.attention(g) + layer.patterns(g)).sum(), g)
    torch.testing.assert_close(x - layer(x), slope, rtol=1e-11, atol=1e-11)
    twice = torch.cat([x, x])
    torch.testing.assert_close(layer.energy(twice), layer.energy(x).repeat(2), rtol=1e-12, atol=0)


def test_rows_never_see_each_other() -> None:
    layer, x = make(), draw(BATCH, TOKENS, DIM)
    for item in range(BATCH):
        torch.testing.assert_close(layer(x)[item], layer(x[item : item + 1])[0], rtol=1e-12, atol=1e-12)


def test_large_scores_stay_finite_in_float32() -> None:
    layer = make(spread=100.0).float()
    x = draw(BATCH, TOKENS, DIM).float()
    energy = layer.energy(x)
    assert bool(energy.isfinite().all())
    torch.testing.assert_close(energy.double(), layer.double().energy(x.double()), rtol=1e-4, atol=0)
    assert bool(layer.float()(x).isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("fast", [True, False])
def test_the_dtype_is_kept_and_the_numbers_are_near(dtype: torch.dtype, fast: bool) -> None:
    layer, x, given = make(fast=fast), draw(BATCH, TOKENS, DIM), conditions(True, True)
    truth = layer(x, **given)
    y = layer.to(dtype)(x.to(dtype), **given)
    assert y.dtype == dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(y.double(), truth, rtol=30 * eps, atol=60 * eps)
    assert layer.energy(x.to(dtype), **given).dtype == torch.float32


def test_under_autocast_the_plain_form_runs() -> None:
    layer, x = make().float(), draw(BATCH, TOKENS, DIM).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    torch.testing.assert_close(y.float(), layer(x), rtol=0.1, atol=0.2)


def test_no_tokens_give_none() -> None:
    layer = make()
    assert layer(torch.zeros(2, 0, DIM, dtype=torch.float64)).shape == (2, 0, DIM)
    assert layer.energy(torch.zeros(2, 0, DIM, dtype=torch.float64)).tolist() == [0, 0]


def test_beta_is_that_of_attention_and_the_state_is_saved() -> None:
    layer, other = make(), make(seed=5)
    assert math.isclose(layer.attention.beta, 1 / math.sqrt(3))
    other.load_state_dict(layer.state_dict())
    x = draw(BATCH, TOKENS, DIM)
    assert torch.equal(layer(x), other(x))


COMPILED = """
import torch
from ammon.energies.attention import Attention
from ammon.nn.energy_transformer import EnergyTransformer
torch.manual_seed(0)
layer = EnergyTransformer(10, 2, head_dim=3, memories=13, steps=3, own=False)
compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
x, mask = torch.randn(3, 7, 10, requires_grad=True), torch.rand(3, 7) < 0.7
edges = torch.rand(3, 7, 7) < 0.5
for given in ({}, {"mask": mask}, {"mask": mask, "edges": edges}):
    inputs = [x, *layer.parameters()]
    truth, found = layer(x, **given), compiled(x, **given)
    torch.testing.assert_close(found, truth)
    pairs = zip(torch.autograd.grad(found.square().sum(), inputs), torch.autograd.grad(truth.square().sum(), inputs))
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
"""


@pytest.mark.slow
def test_the_layer_compiles_in_one_graph() -> None:
    # a process of its own: the hooks that check shapes and types while the tests run break the graph
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_bad_input_is_refused_in_one_sentence() -> None:
    layer, x = make(), draw(BATCH, TOKENS, DIM)
    with pytest.raises(ValueError, match=r"x must be \[batch, time, 10\]"):
        layer(x[..., :4])
    with pytest.raises(TypeError, match="x must be a floating tensor"):
        layer(x.long())
    with pytest.raises(TypeError, match=r"x is torch.float32, the layer torch.float64; bring both to one"):
        layer(x.float())
    with pytest.raises(TypeError, match="edges must be a bool tensor"):
        layer(x, edges=torch.ones(BATCH, TOKENS, TOKENS))
    with pytest.raises(ValueError, match=r"edges must be \[batch, token, token\] = \[3, 7, 7\], got \[3, 7, 6\]"):
        layer(x, edges=torch.ones(BATCH, TOKENS, TOKENS - 1, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"mask must be \[batch, time\]"):
        layer(x, mask=torch.ones(BATCH, TOKENS - 1, dtype=torch.bool))
    with pytest.raises(ValueError, match="step must be positive and finite"):
        EnergyTransformer(DIM, step=0.0)
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1"):
        EnergyTransformer(DIM, steps=0)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        layer.descend(x, steps=0)
