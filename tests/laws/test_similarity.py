"""Laws of every similarity: it equals a plain loop, and its pull is the gradient of the weighted scores."""

import pytest
import torch

from ammon.parts.similarity import Cosine, Dot, Euclidean, Hamming, Manhattan, NormalisedDot, Similarity

PLAIN = {
    "dot": (Dot(), lambda x, k: x @ k),
    "cosine": (Cosine(), lambda x, k: x @ k / (x.norm() * k.norm())),
    "euclidean": (Euclidean(), lambda x, k: -((x - k) ** 2).sum() / 2),
    "manhattan": (Manhattan(), lambda x, k: -(x - k).abs().sum()),
    "hamming": (Hamming(), lambda x, k: -(x != k).double().sum()),
    "hintzman": (NormalisedDot(), lambda x, k: x @ k / max(1, int(((x != 0) | (k != 0)).sum()))),
    "arndt_hirshman": (NormalisedDot("both"), lambda x, k: x @ k / max(1, int(((x != 0) & (k != 0)).sum()))),
    "minerva_cosine": (NormalisedDot("cosine"), lambda x, k: x @ k / (x.norm() * k.norm())),
}
WITH_GRADIENT = [name for name in PLAIN if name != "hamming"]


def _rows(*shape: int, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    # zeros, as incompletely encoded traces have them
    return torch.where(torch.rand(shape, generator=torch.Generator().manual_seed(seed + 1)) < 0.2, torch.zeros_like(rows), rows)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_scores_equal_the_plain_loop(name: str, lead: tuple[int, ...]) -> None:
    similarity, plain = PLAIN[name]
    cues, keys = _rows(*lead, 5, 7), _rows(*lead, 4, 7, seed=2)
    cues[..., 0, :] = keys[..., 1, :]
    truth = torch.stack(
        [
            torch.stack([torch.stack([plain(x, k) for k in keys_]) for x in cues_])
            for cues_, keys_ in zip(cues.reshape(-1, 5, 7), keys.reshape(-1, 4, 7), strict=True)
        ]
    )
    torch.testing.assert_close(similarity(cues, keys), truth.reshape(*lead, 5, 4))


@pytest.mark.parametrize("name", WITH_GRADIENT)
def test_the_pull_is_the_gradient_of_the_weighted_scores(name: str) -> None:
    similarity = PLAIN[name][0]
    cues, keys, weights = _rows(5, 7).requires_grad_(), _rows(4, 7, seed=2), torch.randn(5, 4, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weights * similarity(cues, keys)).sum(), cues)
    torch.testing.assert_close(similarity.pull(cues, keys, weights), gradient)


def test_a_similarity_without_gradient_says_so() -> None:
    with pytest.raises(TypeError, match="no gradient"):
        Hamming().pull(torch.ones(1, 3), torch.ones(2, 3), torch.ones(1, 2))


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_keep_their_dtype_and_are_near_the_exact_ones(name: str, dtype: torch.dtype) -> None:
    similarity = PLAIN[name][0]
    cues, keys = _rows(5, 40).to(dtype), _rows(4, 40, seed=2).to(dtype)
    scores, exact = similarity(cues, keys), similarity(cues.double(), keys.double())
    assert scores.dtype == dtype
    size = float(cues.double().norm(dim=-1).max() * keys.double().norm(dim=-1).max())
    assert (scores.double() - exact).abs().max() <= 4 * torch.finfo(dtype).eps * max(size, float(exact.abs().max()))


def test_distances_far_from_the_origin_keep_their_digits() -> None:
    cues, keys = torch.rand(5, 20), torch.rand(6, 20)
    far, near = Euclidean()(cues + 1000, keys + 1000), Euclidean()((cues + 1000).double(), (keys + 1000).double())
    torch.testing.assert_close(far.double(), near, rtol=1e-4, atol=1e-4)


def test_a_distance_is_never_negative() -> None:
    keys = 100 * torch.randn(50, 30)
    assert (Euclidean()(keys, keys) <= 0).all()


@pytest.mark.parametrize("similarity", [Cosine(), NormalisedDot(), NormalisedDot("both"), NormalisedDot("cosine")])
def test_an_empty_row_scores_0_and_not_nan(similarity: Similarity) -> None:
    scores = similarity(torch.zeros(1, 4), torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]]))
    assert (scores == 0).all()


def test_an_unknown_normaliser_is_refused() -> None:
    with pytest.raises(Exception, match="relevant"):
        NormalisedDot("neither")  # type: ignore[arg-type]
