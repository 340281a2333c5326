"""Laws of TODAM (Murdock 1982): its trace, the means and variances of recognition, recall by correlation and clean-up."""

import math
from pathlib import Path

import pytest
import torch
from scipy.stats import chi2, t
from torch import Tensor

import ammon as am
from ammon.memories.todam import TodamMemory, recognition
from ammon.parts.binding import convolve


def _items(count: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(count, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) / math.sqrt(dim)


@pytest.mark.parametrize("hetero", [True, False])
def test_the_trace_is_murdocks_recursion_in_pieces_and_at_once(hetero: bool) -> None:
    f, g = _items(7, 16), _items(7, 16, seed=1)
    at_once, pieces = (TodamMemory(16, 0.9, 0.3, 0.4, 0.7) for _ in range(2))
    at_once.write(f, g if hetero else None)
    for part in (slice(0, 3), slice(3, 4), slice(4, 7)):
        pieces.write(f[part], g[part] if hetero else None)
    trace = torch.zeros(16, dtype=torch.float64)
    for a, b in zip(f, g, strict=True):
        trace = 0.9 * trace + 0.3 * a + (0.4 * b + 0.7 * convolve(a, b) if hetero else 0.7 * convolve(a, a))
    torch.testing.assert_close(at_once.trace, trace)
    torch.testing.assert_close(pieces.trace, trace)
    torch.testing.assert_close(at_once.familiarity(f), f @ trace)


def test_recognition_has_the_means_and_the_d_prime_of_the_theory() -> None:
    """Familiarity of old items has mean γ₁ α^lag, of new ones 0, and new ones the variance (γ₁² + γ₂² + γ₃²) Σ α^2j / dim.

    400 traces of 12 pairs, 256 entries; Student's t and chi-squared at p > .001. d' so measured is within 10 %, four standard errors.
    """
    dim, studied, draws = 256, 12, 400
    retention, item, partner, association = 0.9, 0.6, 0.3, 0.8
    old, new = [], []
    for draw in range(draws):
        rows = _items(2 * studied + 1, dim, draw)
        memory = TodamMemory(dim, retention, item, partner, association)
        memory.write(rows[:studied], rows[studied:-1])
        old.append(memory.familiarity(rows[:studied]).flip(0))
        new.append(memory.familiarity(rows[-1:])[0])
    old_scores, new_scores = torch.stack(old), torch.stack(new)
    limit = float(t.ppf(1 - 0.0005, draws - 1))
    for lag in (0, 3, 11):
        scores = old_scores[:, lag]
        assert abs(float(scores.mean()) - item * retention**lag) < limit * float(scores.std()) / math.sqrt(draws)
    assert abs(float(new_scores.mean())) < limit * float(new_scores.std()) / math.sqrt(draws)
    variance = (item**2 + partner**2 + association**2) * sum(retention ** (2 * j) for j in range(studied)) / dim
    ratio = (draws - 1) * float(new_scores.var()) / variance
    assert chi2.ppf(0.0005, draws - 1) < ratio < chi2.ppf(0.9995, draws - 1)
    for lag in (0, 3, 11):
        measured = float(old_scores[:, lag].mean() - new_scores.mean()) / float(new_scores.std())
        theory = recognition(dim, studied, lag, retention, item, partner, association)
        assert theory == pytest.approx(item * retention**lag / math.sqrt(variance))
        assert measured == pytest.approx(theory, abs=0.1 * recognition(dim, studied, 0, retention, item, partner, association))


def test_a_partner_is_called_up_by_correlation_and_clean_up_of_a_lexicon() -> None:
    dim = 1024
    f, g, others = _items(5, dim), _items(5, dim, seed=1), _items(50, dim, seed=2)
    lexicon = am.modern_hopfield(dim)
    lexicon.write(others)
    memory = TodamMemory(dim, clean_up=lexicon)
    memory.write(f, g)
    recall = memory.recall(f)
    torch.testing.assert_close(recall.state, g, rtol=0, atol=1e-6)
    # without the association an item calls up nothing of its partner
    apart = TodamMemory(dim, association=0.0)
    apart.write(f, g)
    assert float((apart.unbound(f) * g).sum(-1).abs().max()) < 0.3
    assert float((memory.unbound(f) * g).sum(-1).min()) > 0.5


def test_without_values_an_item_is_its_own_partner_and_comes_back(tmp_path: Path) -> None:
    f = _items(4, 1024)
    memory = TodamMemory(1024, clean_up=am.modern_hopfield(1024))
    memory.write(f)
    torch.testing.assert_close(memory.recall(f).state, f, rtol=0, atol=1e-6)
    am.save(memory, tmp_path / "todam")
    loaded = am.load(tmp_path / "todam")
    assert torch.equal(loaded.recall(f).state, memory.recall(f).state)


def test_what_it_cannot_take_is_refused() -> None:
    for wrong, message in (
        ({"retention": 0.0}, "retention must be in"),
        ({"item": -1.0}, "item must be >= 0"),
        ({"clean_up": am.modern_hopfield(5)}, "clean-up has dim 5, the memory 4"),
    ):
        with pytest.raises(ValueError, match=message):
            TodamMemory(4, **wrong)  # type: ignore[arg-type]
    memory = TodamMemory(4)
    with pytest.raises(ValueError, match="the memory is empty"):
        memory.familiarity(torch.ones(1, 4))
    with pytest.raises(ValueError, match="values have dim 5, the memory 4"):
        memory.write(torch.ones(1, 4), torch.ones(1, 5))
    memory.write(torch.ones(1, 4), torch.ones(1, 3))
    with pytest.raises(ValueError, match="called up once; got steps=2"):
        memory.recall(torch.ones(1, 4), steps=2)
    for call in (memory.energy, memory.weights):
        with pytest.raises(TypeError):
            call(torch.ones(1, 4))
    with pytest.raises(ValueError, match="lag must be from 0 to 2"):
        recognition(10, 3, 3, 1.0, 1.0, 1.0, 1.0)
