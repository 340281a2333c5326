"""The two ways to softmax without holding its scores against the plain way: all scores, one softmax, one product."""

import pytest
import torch
from torch import Tensor

from ammon.parts import attend
from ammon.parts import retrieve as module
from ammon.parts.lagrangians import Lagrangian
from ammon.parts.retrieve import pool, retrieve
from ammon.parts.separations import Softmax
from ammon.parts.similarity import Dot, Euclidean, Similarity


def _draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("similarity", [Dot(), Euclidean()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(("queries", "patterns", "dim", "value_dim"), [(1, 1, 1, 1), (7, 1000, 5, 3), (1100, 600, 4, 4), (3, 257, 33, 33)])
@pytest.mark.parametrize("beta", [1e-3, 1.0, 30.0, 1e4])
def test_running_sums_equal_the_plain_way(
    similarity: Similarity, queries: int, patterns: int, dim: int, value_dim: int, beta: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attend, "BLOCK", 1000)
    cues, keys, values = _draw(queries, dim), _draw(patterns, dim, seed=1), _draw(patterns, value_dim, seed=2)
    mixed, logarithm = attend.running(cues, keys, values, similarity, beta)
    scores = beta * similarity(cues, keys)
    # β times the rounding of a score is what a weight can lose
    torch.testing.assert_close(mixed, torch.softmax(scores, -1) @ values, rtol=1e-9, atol=1e-12 * max(1.0, beta))
    torch.testing.assert_close(logarithm, torch.logsumexp(scores, -1), rtol=1e-10, atol=1e-12 * max(1.0, beta))


@pytest.mark.parametrize("similarity", [Dot(), Euclidean()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("beta", [1.0, 40.0, 96.0, 300.0])
def test_float32_is_near_float64_whatever_the_sharpness(similarity: Similarity, beta: float) -> None:
    keys = torch.nn.functional.normalize(_draw(3000, 600), dim=-1)
    cues = keys[:20] + 0.02 * _draw(20, 600, seed=1)
    exact = attend.running(cues, keys, keys, similarity, beta)
    rounded = attend.running(cues.float(), keys.float(), keys.float(), similarity, beta)
    torch.testing.assert_close(rounded[0].double(), exact[0], rtol=0, atol=1e-6 * beta)
    torch.testing.assert_close(rounded[1].double(), exact[1], rtol=0, atol=1e-6 * beta)


def test_distances_far_from_the_origin_keep_their_digits() -> None:
    keys, cues = torch.rand(500, 20), torch.rand(9, 20)
    near = attend.running(cues + 1000, keys + 1000, keys, Euclidean(), 5.0)
    exact = attend.running((cues + 1000).double(), (keys + 1000).double(), keys.double(), Euclidean(), 5.0)
    torch.testing.assert_close(near[0].double(), exact[0], rtol=1e-3, atol=1e-4)


class _Plain(Lagrangian):
    """Softmax by another name: retrieval does not know it, so it takes the general way."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.softmax = Softmax(beta)

    def value(self, x: Tensor) -> Tensor:
        return self.softmax.value(x)

    def activation(self, x: Tensor) -> Tensor:
        return self.softmax.activation(x)


@pytest.mark.parametrize("similarity", [Dot(), Euclidean()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("dim", [6, attend.WIDE + 1])
@pytest.mark.parametrize("value_dim", ["same", 3])
def test_whichever_way_is_chosen_the_answer_is_that_of_the_general_one(
    similarity: Similarity, dim: int, value_dim: str | int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 2000)
    cues, keys = _draw(30, dim) / dim**0.5, _draw(400, dim, seed=1)
    values = keys if value_dim == "same" else _draw(400, 3, seed=2)
    torch.testing.assert_close(
        retrieve(cues, keys, values, similarity, Softmax(2.0)), retrieve(cues, keys, values, similarity, _Plain(2.0))
    )
    torch.testing.assert_close(pool(cues, keys, similarity, Softmax(2.0)), pool(cues, keys, similarity, _Plain(2.0)))


def test_no_way_holds_a_score_for_every_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    # the largest tensor that torch makes along the way, in numbers
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple | list) else [result]:
                if isinstance(tensor, Tensor):
                    largest = max(largest, tensor.numel())
            return result

    monkeypatch.setattr(module, "CHUNK", 2**16)
    monkeypatch.setattr(attend, "BLOCK", 2**16)
    cues, keys, values = (
        _draw(64, 8, dtype=torch.float32),
        _draw(20_000, 8, seed=1, dtype=torch.float32),
        _draw(20_000, 3, seed=2, dtype=torch.float32),
    )
    for similarity in (Dot(), Euclidean()):
        for separation in (Softmax(2.0), _Plain(2.0)):
            with Watch():
                retrieve(cues, keys, keys, similarity, separation)
                retrieve(cues, keys, values, similarity, separation)
                pool(cues, keys, similarity, separation)
    # the keys themselves, moved to their centre, are the largest; all scores would be 1,280,000
    assert 0 < largest <= 20_000 * 9
