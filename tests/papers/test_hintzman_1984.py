"""Hintzman 1984 (MINERVA 2): echo intensity and content, the encoding probability, and three normalisers.

Features are -1, 0 and +1; a trace keeps each feature with probability L.
"""

from typing import get_args

import pytest
import torch
from scipy.stats import binom, ttest_1samp

import ammon as am
from ammon.parts.corruption import Encoding
from ammon.parts.lagrangians import Identity
from ammon.parts.separations import Power
from ammon.parts.similarity import Dot, Relevant

NORMALISERS = get_args(Relevant)


def features(rows: int, dim: int, generator: torch.Generator) -> torch.Tensor:
    """-1, 0 or +1, each with chance 1/3 (Hintzman's items)."""
    return torch.randint(-1, 2, (rows, dim), generator=generator).double()


def echo(probe: list[float], traces: list[list[float]], normaliser: str) -> tuple[float, list[float]]:
    """Echo intensity and content, feature by feature as the paper writes them."""
    intensity, content = 0.0, [0.0] * len(probe)
    for trace in traces:
        product = sum(p * f for p, f in zip(probe, trace, strict=True))
        if normaliser == "either":
            relevant: float = sum(p != 0 or f != 0 for p, f in zip(probe, trace, strict=True))
        elif normaliser == "both":
            relevant = sum(p != 0 and f != 0 for p, f in zip(probe, trace, strict=True))
        else:
            relevant = (sum(p * p for p in probe) * sum(f * f for f in trace)) ** 0.5
        activation = (product / relevant) ** 3 if relevant else 0.0
        intensity += activation
        content = [c + activation * f for c, f in zip(content, trace, strict=True)]
    return intensity, content


@pytest.mark.parametrize("normaliser", NORMALISERS)
@pytest.mark.parametrize("chance", [0.2, 0.7, 1.0])
def test_echoes_are_those_of_the_plain_loop(normaliser: Relevant, chance: float) -> None:
    """Hintzman 1984, eq. 1-4: S = Σ P T / N_R, A = S³, I = Σ A, C = Σ A T; 17 traces of 23 features, one of them empty."""
    generator = torch.Generator().manual_seed(84)
    items = features(17, 23, generator)
    traces = Encoding(chance)(items, generator=generator)
    traces[5] = 0
    memory = am.minerva2(23, normaliser)
    memory.write(traces)
    probes = torch.cat([items, features(4, 23, generator), torch.zeros(1, 23, dtype=torch.float64)])
    loop = [echo(probe, traces.tolist(), normaliser) for probe in probes.tolist()]
    torch.testing.assert_close(memory.intensity(probes), torch.tensor([i for i, _ in loop], dtype=torch.float64))
    torch.testing.assert_close(memory.recall(probes).state, torch.tensor([c for _, c in loop], dtype=torch.float64))


@pytest.mark.parametrize("chance", [0.3, 0.7])
@pytest.mark.parametrize("repetitions", [0, 1, 4])
def test_mean_echo_intensity_grows_by_the_cube_of_what_was_encoded(repetitions: int, chance: float) -> None:
    """Frequency judgements: an item of k features stored m times has mean intensity m E[(B/k)³], B ~ Binomial(k, L); others add 0.

    20 features without zeros among 10 other items, 150 runs. Tolerance: Student's t, p > .001.
    """
    generator = torch.Generator().manual_seed(20)
    intensities = []
    for _ in range(150):
        items = am.random_patterns(11, 20, generator=generator, dtype=torch.float64)
        stored = torch.cat([items[1:], items[:1].expand(repetitions, -1)])
        memory = am.minerva2(20)
        memory.write(Encoding(chance)(stored, generator=generator))
        intensities.append(memory.intensity(items[:1]).item())
    kept = torch.arange(21)
    cube = float((torch.from_numpy(binom.pmf(kept.numpy(), 20, chance)) * (kept / 20) ** 3).sum())
    assert ttest_1samp(intensities, repetitions * cube).pvalue > 0.001


def test_normalisers_count_what_they_say() -> None:
    """One probe and one trace: 2 shared features, 1 of the probe only, 1 of the trace only, product 2: S = 2/4, 2/2, 2/3."""
    probe = torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    trace = torch.tensor([[1.0, 1.0, 0.0, -1.0, 0.0]], dtype=torch.float64)
    for normaliser, similarity in zip(NORMALISERS, (2 / 4, 2 / 2, 2 / 3), strict=True):
        memory = am.minerva2(5, normaliser)
        memory.write(trace)
        assert memory.intensity(probe).item() == pytest.approx(similarity**3, rel=1e-12)


def alignment(normaliser: Relevant, traces: torch.Tensor, probes: torch.Tensor) -> float:
    """The smallest cosine between the echo and Σ (ξ·x)³ ξ, one step of a dense memory of n = 4 without its sign."""
    dim = traces.shape[1]
    minerva, dense = am.minerva2(dim, normaliser), am.AssociativeMemory(dim, Dot(), Power(4), Identity())
    for memory in (minerva, dense):
        memory.write(traces)
    return torch.cosine_similarity(minerva.recall(probes).state, dense.recall(probes).state).min().item()


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_without_zeros_the_echo_is_the_update_of_a_dense_memory_of_degree_4(normaliser: Relevant) -> None:
    """L = 1 and features ±1, so all norms are equal: the same up to scale (here 20^-3)."""
    generator = torch.Generator().manual_seed(4)
    traces, probes = (am.random_patterns(rows, 20, generator=generator, dtype=torch.float64) for rows in (12, 30))
    assert alignment(normaliser, traces, probes) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_with_zeros_the_echo_is_another_memory(normaliser: Relevant) -> None:
    """Encoding with L < 1 sets features to 0: traces then differ in their norms, and pairs in what is relevant."""
    generator = torch.Generator().manual_seed(4)
    traces, probes = (Encoding(0.6)(am.random_patterns(rows, 20, generator=generator), generator=generator).double() for rows in (12, 30))
    assert alignment(normaliser, traces, probes) < 0.999


def test_a_probe_without_zeros_makes_every_feature_relevant() -> None:
    """Hintzman's own N_R then is the number of features, so the echo is a dense memory's of degree 4 though the traces have zeros."""
    generator = torch.Generator().manual_seed(4)
    items, probes = (am.random_patterns(rows, 20, generator=generator, dtype=torch.float64) for rows in (12, 30))
    traces = Encoding(0.6)(items, generator=generator)
    assert alignment("either", traces, probes) == pytest.approx(1, abs=1e-12)
    assert alignment("both", traces, probes) < 0.999


def test_unequal_norms_matter_to_the_cosine_and_equal_ones_to_it_alone() -> None:
    """Without zeros a count of features is constant, whatever the norms; with equal norms the cosine is, wherever the zeros are."""
    generator = torch.Generator().manual_seed(5)
    probes = am.random_patterns(30, 20, generator=generator, dtype=torch.float64)
    unequal = am.random_patterns(12, 20, generator=generator, dtype=torch.float64) * torch.arange(1, 13)[:, None]
    assert alignment("either", unequal, probes) == pytest.approx(1, abs=1e-12)
    assert alignment("cosine", unequal, probes) < 0.999
    items = am.random_patterns(12, 20, generator=generator, dtype=torch.float64)
    kept = torch.rand(42, 20, generator=generator).argsort(-1) < 12
    equal, sparse_probes = items * kept[:12], probes * kept[12:]
    assert alignment("cosine", equal, sparse_probes) == pytest.approx(1, abs=1e-12)
    assert alignment("either", equal, sparse_probes) < 0.999
