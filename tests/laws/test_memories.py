"""Laws that tie memories to each other: attention, hetero- and auto-association, MINERVA 2, correlation matrices."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import ammon as am
from ammon.learning.hebb import Hebb
from ammon.parts.corruption import Encoding
from ammon.parts.lagrangians import Sign
from ammon.parts.separations import Power, Softmax
from ammon.parts.similarity import Dot


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_softmax_of_dot_is_attention() -> None:
    memory = am.AssociativeMemory(dim=8, similarity=Dot(), separation=Softmax(beta=1.0))
    patterns, cue = _draw(5, 8), _draw(3, 8, seed=1)
    memory.write(patterns)
    torch.testing.assert_close(memory.recall(cue, steps=1).state, scaled_dot_product_attention(cue, patterns, patterns, scale=1.0))
    values = _draw(5, 3, seed=2)
    hetero = am.modern_hopfield(8, beta=1.0)
    hetero.write(patterns, values)
    torch.testing.assert_close(hetero.recall(cue, steps=1).state, scaled_dot_product_attention(cue, patterns, values, scale=1.0))


@pytest.mark.parametrize(
    "name", ["modern_hopfield", "sparse_hopfield", "diffusion", "log_sum_relu", "minerva2", "universal", "large_dim_dense"]
)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_auto_and_hetero_association_agree_for_equal_steps_when_values_are_the_keys(name: str, steps: int) -> None:
    entry = am.CATALOG[name]
    patterns, cue = am.prepare(_draw(7, 6), entry.data), am.prepare(_draw(9, 6, seed=1), entry.data)
    settings = {"beta": 0.2} if name == "log_sum_relu" else {}
    auto, hetero = entry.make(6, **settings), entry.make(6, **settings)
    auto.write(patterns)
    hetero.write(patterns, patterns)
    a, b = auto.recall(cue, steps=steps, tolerance=0.0), hetero.recall(cue, steps=steps, tolerance=0.0)
    # a cue out of the reach of log-sum-ReLU stays where it is, while a value cannot be read
    reached = (b.state != 0).any(-1)
    assert reached.sum() > 4
    torch.testing.assert_close(a.state[reached], b.state[reached])


@pytest.mark.parametrize("name", ["hopfield", "dense", "rectified_dense", "exponential"])
def test_a_settled_binary_memory_reads_the_key_as_its_own_value(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    patterns = am.random_patterns(14, 50, generator=generator)
    auto, hetero = am.CATALOG[name].make(50), am.CATALOG[name].make(50)
    auto.write(patterns)
    hetero.write(patterns, patterns)
    cue = am.random_patterns(40, 50, generator=generator)
    assert torch.equal(auto.recall(cue).state, hetero.recall(cue).state)


def test_a_binary_memory_recalls_the_value_of_a_corrupted_key() -> None:
    generator = torch.Generator().manual_seed(1)
    keys, values = am.random_patterns(30, 100, generator=generator), am.random_patterns(30, 7, generator=generator)
    memory = am.dense(100)
    memory.write(keys, values)
    cue = keys.clone()
    cue[:, :10] *= -1
    recall = memory.recall(cue)
    assert recall.state.shape == (30, 7)
    assert torch.equal(recall.state, values)


def test_minerva_equals_dense_4_up_to_scale_when_no_feature_is_0() -> None:
    generator = torch.Generator().manual_seed(2)
    traces, probe = (
        am.random_patterns(8, 20, generator=generator, dtype=torch.float64),
        am.random_patterns(5, 20, generator=generator, dtype=torch.float64),
    )
    minerva, dense = am.minerva2(20), am.AssociativeMemory(20, Dot(), Power(4))
    minerva.write(traces)
    dense.write(traces)
    torch.testing.assert_close(minerva.recall(probe).state * 20**3, dense.recall(probe).state)
    # traces encoded to different degrees: the normaliser then differs from trace to trace
    incomplete = traces * (torch.arange(20) < torch.arange(4, 20, 2).unsqueeze(-1))
    probe[:, 12:] = 0
    minerva, dense = am.minerva2(20), am.AssociativeMemory(20, Dot(), Power(4))
    minerva.write(incomplete)
    dense.write(incomplete)
    alike = torch.cosine_similarity(minerva.recall(probe).state, dense.recall(probe).state)
    assert alike.min() < 0.999


def test_the_intensity_of_an_old_probe_exceeds_that_of_a_new_one() -> None:
    generator = torch.Generator().manual_seed(3)
    traces, new = am.random_patterns(20, 40, generator=generator), am.random_patterns(20, 40, generator=generator)
    memory = am.minerva2(40)
    memory.write(Encoding(0.8)(traces, generator=generator))
    torch.testing.assert_close(memory.intensity(traces), memory.weights(traces).sum(-1))
    assert memory.intensity(traces).min() > memory.intensity(new).max()


@pytest.mark.parametrize("forgetting", [0.0, 0.1])
def test_a_correlation_matrix_learns_one_by_one_as_all_at_once(forgetting: float) -> None:
    keys, values = _draw(9, 6), _draw(9, 4, seed=1)
    plain = torch.zeros(4, 6, dtype=torch.float64)
    for key, value in zip(keys, values, strict=True):
        plain = (1 - forgetting) * plain + 0.7 * torch.outer(value, key)
    whole, single = am.kohonen(6, rate=0.7, forgetting=forgetting), am.kohonen(6, rate=0.7, forgetting=forgetting)
    whole.write(keys, values)
    for row in range(9):
        single.write(keys[row : row + 1], values[row : row + 1])
    torch.testing.assert_close(whole.matrix, plain)
    torch.testing.assert_close(single.matrix, plain)
    pieces = am.kohonen(6, rate=0.7, forgetting=forgetting)
    for rows in (slice(0, 4), slice(4, 9)):
        pieces.write(keys[rows], values[rows])
    torch.testing.assert_close(pieces.matrix, plain)
    torch.testing.assert_close(whole.recall(keys).state, keys @ plain.mT)
    assert len(whole) == 9


def test_a_linear_correlation_matrix_recalls_orthonormal_keys_exactly() -> None:
    keys, values = torch.linalg.qr(_draw(6, 6)).Q[:4], _draw(4, 3, seed=1)
    memory = am.kohonen(6)
    memory.write(keys, values)
    torch.testing.assert_close(memory.recall(keys).state, values)


def test_a_hetero_associative_matrix_has_no_energy_and_one_read() -> None:
    memory = am.amari(6)
    memory.write(torch.ones(2, 6), torch.ones(2, 4))
    with pytest.raises(TypeError, match="no energy"):
        memory.energy(torch.ones(1, 6))
    with pytest.raises(ValueError, match="read once"):
        memory.recall(torch.ones(1, 6), steps=2)
    assert memory.recall(torch.ones(1, 6), steps=1).state.shape == (1, 4)


def test_asymmetric_weights_have_no_energy() -> None:
    class Asymmetric(Hebb):
        def learn(self, weights: Tensor, post: Tensor, pre: Tensor) -> Tensor:
            return super().learn(weights, post, pre).triu(1)

    memory = am.PairwiseMemory(6, Asymmetric(), Sign())
    memory.write(torch.ones(2, 6))
    with pytest.raises(TypeError, match="not symmetric"):
        memory.energy(torch.ones(1, 6))


def test_the_score_of_diffusion_is_the_gradient_of_the_smoothed_density() -> None:
    data, x, sigma = _draw(6, 3), _draw(4, 3, seed=1).requires_grad_(), 0.7
    memory = am.diffusion(3, sigma=sigma)
    memory.write(data)
    log_density = torch.logsumexp(-((x.unsqueeze(1) - data) ** 2).sum(-1) / (2 * sigma**2), -1)
    (score,) = torch.autograd.grad(log_density.sum(), x)
    torch.testing.assert_close((memory.recall(x, steps=1).state - x) / sigma**2, score)
    torch.testing.assert_close(memory.energy(x), -(sigma**2) * log_density)


def test_known_entries_lead_a_continuous_memory_to_their_pattern() -> None:
    patterns = torch.rand(20, 30, generator=torch.Generator().manual_seed(5))
    memory = am.diffusion(30)
    memory.write(patterns)
    clamp = torch.zeros(20, 30, dtype=torch.bool)
    clamp[:, :12] = True
    cue = torch.where(clamp, patterns, 0.5 * torch.ones_like(patterns))
    recall = memory.recall(cue, clamp=clamp)
    assert torch.equal(recall.state[clamp], patterns[clamp])
    torch.testing.assert_close(recall.state, patterns, atol=0.02, rtol=0)


@pytest.mark.parametrize("name", ["hopfield", "synchronous_hopfield", "dense", "rectified_dense", "exponential"])
def test_a_unit_without_a_field_becomes_plus_1(name: str) -> None:
    # a pattern and its double with the last unit turned over: nothing tells that unit what to be
    patterns = torch.ones(2, 6)
    patterns[1, -1] = -1
    memory = am.CATALOG[name].make(6)
    memory.write(patterns)
    cue = torch.ones(2, 6)
    cue[1, -1] = -1
    assert torch.equal(memory.recall(cue).state, torch.ones(2, 6))


def test_the_sign_of_0_is_plus_1() -> None:
    assert torch.equal(Sign().activation(torch.tensor([0.0, -0.0, -1e-30, 1e-30])), torch.tensor([1.0, 1.0, -1.0, 1.0]))
