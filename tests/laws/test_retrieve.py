"""Laws of the one mixing path: it is attention, chunks and the fused kernel change nothing, masks never give NaN."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from ammon.parts import retrieve as module
from ammon.parts.lagrangians import Lagrangian, Sigmoid
from ammon.parts.retrieve import pool, retrieve, weigh
from ammon.parts.separations import Entmax, Exponential, LogSumRelu, Maximum, Power, RectifiedPower, Softmax
from ammon.parts.similarity import Cosine, Dot, Euclidean, Manhattan, Similarity
from ammon.parts.top_k import TopK

SEPARATIONS = [
    Softmax(1.3),
    Entmax(1.5),
    Entmax(2.0),
    Power(3),
    RectifiedPower(2),
    Exponential(0.3),
    LogSumRelu(0.2),
    Sigmoid(),
    Maximum(),
    TopK(2),
]
SIMILARITIES = [Dot(), Cosine(), Euclidean(), Manhattan()]


def _draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def _plain(cues: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, similarity: Similarity, separation: Lagrangian) -> torch.Tensor:
    return separation.weights(similarity(cues, keys)) @ values


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_softmax_of_dot_is_attention(lead: tuple[int, ...]) -> None:
    cues, keys, values = _draw(*lead, 5, 7), _draw(*lead, 11, 7, seed=1), _draw(*lead, 11, 7, seed=2)
    torch.testing.assert_close(
        retrieve(cues, keys, values, Dot(), Softmax(0.6)), scaled_dot_product_attention(cues, keys, values, scale=0.6)
    )


@pytest.mark.parametrize("similarity", SIMILARITIES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("separation", SEPARATIONS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("value_dim", [7, 4])
def test_retrieval_equals_the_plain_way_in_values_and_gradients(
    similarity: Similarity, separation: Lagrangian, value_dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 25)
    inputs = [_draw(9, 7), _draw(11, 7, seed=1), _draw(11, value_dim, seed=2)]
    fast = [x.clone().requires_grad_() for x in inputs]
    plain = [x.clone().requires_grad_() for x in inputs]
    ours, truth = retrieve(*fast, similarity, separation), _plain(*plain, similarity, separation)
    torch.testing.assert_close(ours, truth)
    towards = _draw(9, value_dim, seed=3)
    ours.backward(towards)
    truth.backward(towards)
    for a, b in zip(fast, plain, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("similarity", [Dot(), Euclidean()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("separation", SEPARATIONS, ids=lambda s: type(s).__name__)
def test_the_pooled_value_equals_the_plain_one(similarity: Similarity, separation: Lagrangian, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 25)
    cues, keys = _draw(9, 7), _draw(11, 7, seed=1)
    torch.testing.assert_close(pool(cues, keys, similarity, separation), separation.value(similarity(cues, keys)))


def test_a_learned_gain_gets_its_gradient_on_every_path() -> None:
    cues, keys, values = _draw(5, 7), _draw(11, 7, seed=1), _draw(11, 7, seed=2)
    for similarity in (Dot(), Euclidean()):
        gradients = []
        for way in (retrieve, _plain):
            separation = Softmax(0.8, learnable=True).double()
            way(cues, keys, values, similarity, separation).square().sum().backward()
            gradients.append(separation.beta.grad)
        torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("similarity", [Dot(), Cosine(), Euclidean()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("make", [Softmax, partial(TopK, 3), Exponential], ids=["Softmax", "TopK", "Exponential"])
def test_a_gain_learned_behind_a_mask_gets_the_gradient_of_what_is_seen(similarity: Similarity, make: Callable[..., Lagrangian]) -> None:
    cues, keys, values = _draw(5, 7), _draw(11, 7, seed=1), _draw(11, 7, seed=2)
    seen = torch.arange(11) % 3 != 1
    towards, mask = _draw(5, 7, seed=3), seen.expand(5, 11)
    gradients = []
    for way in (
        lambda separation: retrieve(cues, keys, values, similarity, separation, mask=mask),
        lambda separation: weigh(cues, keys, similarity, separation, mask) @ values,
        lambda separation: _plain(cues, keys[seen], values[seen], similarity, separation),
    ):
        separation = make(beta=0.8, learnable=True).double()
        (way(separation) * towards).sum().backward()
        gradients.append(separation.beta.grad)
    torch.testing.assert_close(gradients, [gradients[-1]] * 3)


@pytest.mark.parametrize("similarity", SIMILARITIES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("separation", SEPARATIONS, ids=lambda s: type(s).__name__)
def test_a_masked_pattern_might_as_well_not_be_there(similarity: Similarity, separation: Lagrangian) -> None:
    # a shared origin keeps distances comparable when keys are removed
    cues, keys, values = _draw(2, 5, 7), _draw(2, 11, 7, seed=1), _draw(2, 11, 7, seed=2)
    shown = torch.rand(2, 5, 11, generator=torch.Generator().manual_seed(4)) < 0.5
    shown[..., 0] = True
    shown[0, 3] = False
    ours = retrieve(cues, keys, values, similarity, separation, mask=shown)
    for lead in range(2):
        for query in range(5):
            keep = shown[lead, query]
            if not keep.any():
                assert (ours[lead, query] == 0).all()
                continue
            alone = _plain(cues[lead, query : query + 1], keys[lead][keep], values[lead][keep], similarity, separation)
            torch.testing.assert_close(ours[lead, query : query + 1], alone)


def test_a_mask_and_a_bias_broadcast_over_queries_and_leading_axes() -> None:
    cues, keys, values = _draw(2, 3, 5, 7), _draw(2, 3, 11, 7, seed=1), _draw(2, 3, 11, 7, seed=2)
    mask, bias = torch.rand(2, 1, 1, 11) < 0.6, _draw(1, 3, 5, 11, seed=5)
    mask[..., 0] = True
    for separation in (Softmax(1.1), Exponential(0.2)):
        ours = retrieve(cues, keys, values, Dot(), separation, mask=mask, bias=bias)
        scores = torch.where(mask, Dot()(cues, keys) + bias, torch.tensor(-torch.inf, dtype=torch.float64))
        torch.testing.assert_close(ours, separation.weights(scores) @ values)


def test_where_nothing_has_weight_the_answer_is_what_was_asked_for() -> None:
    keys = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    cues = torch.tensor([[10.0, 10.0], [0.1, 0.0]])
    ours = retrieve(cues, keys, keys, Euclidean(), LogSumRelu(4.0), empty=cues)
    torch.testing.assert_close(ours, torch.tensor([[10.0, 10.0], [0.0, 0.0]]))
    assert (retrieve(cues, keys, keys, Euclidean(), LogSumRelu(4.0))[0] == 0).all()


def test_one_row_never_sees_another() -> None:
    cues, keys = _draw(8, 7), _draw(11, 7, seed=1)
    for separation in SEPARATIONS:
        whole = retrieve(cues, keys, keys, Dot(), separation)
        for row in range(8):
            torch.testing.assert_close(whole[row : row + 1], retrieve(cues[row : row + 1], keys, keys, Dot(), separation))


def test_large_powers_need_no_large_numbers_where_only_the_direction_counts() -> None:
    cues, keys = 100 * _draw(4, 50, dtype=torch.float32), 100 * _draw(9, 50, seed=1, dtype=torch.float32)
    for separation in (Power(30), Exponential(1.0)):
        mixed = retrieve(cues, keys, keys, Dot(), separation, scale_free=True)
        assert torch.isfinite(mixed).all()
        assert (mixed.abs().amax(-1) > 0).all()


def test_weights_too_small_to_count_are_exact_zeros() -> None:
    # numbers below 1e-38 would slow the product that follows
    weights = weigh(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]), Dot(), Softmax(45.0))
    assert weights[0, 1] == 0
    assert weights[0, 2] > 0


@pytest.mark.parametrize("separation", SEPARATIONS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("value_dim", [7, 4])
def test_a_row_that_hides_everything_gives_zeros_and_gradients_of_zero(separation: Lagrangian, value_dim: int) -> None:
    cues, keys, values = _draw(3, 7).requires_grad_(), _draw(11, 7, seed=1).requires_grad_(), _draw(11, value_dim, seed=2).requires_grad_()
    shown = torch.ones(3, 11, dtype=torch.bool)
    shown[1] = False
    mixed = retrieve(cues, keys, values, Dot(), separation, mask=shown)
    assert (mixed[1] == 0).all()
    mixed.sum().backward()
    assert values.grad.abs().sum() > 0
    # a step function such as the maximum passes no gradient to the cues at all
    for tensor in (cues, keys, values):
        assert tensor.grad is None or torch.isfinite(tensor.grad).all()
    assert cues.grad is None or (cues.grad[1] == 0).all()


def _top_k_ways(monkeypatch: pytest.MonkeyPatch, read: Callable[[], torch.Tensor]) -> list[torch.Tensor]:
    """By bringing the best values together, and by a matrix that is mostly zero."""
    found = []
    for sparse in (1, 10**9):
        monkeypatch.setattr(module, "SPARSE", sparse)
        assert module.gathers(1, 11) == (sparse == 1)
        found.append(read())
    return found


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
@pytest.mark.parametrize("exchanged", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("chunk", [2**23, 100])
def test_the_best_values_brought_together_are_those_that_all_values_give(
    lead: tuple[int, ...], exchanged: bool, masked: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    cues, keys, bias, towards = (_draw(*lead, *shape, seed=n) for n, shape in enumerate([(6, 5), (11, 5), (6, 11), (6, 4)]))
    # values as layers hold them: heads behind patterns
    values = _draw(*lead[:-1], 11, *lead[-1:], 4, seed=7).movedim(-3, -2) if exchanged and lead else _draw(*lead, 11, 4, seed=7)
    with torch.no_grad():
        # equal scores: whichever is found, both ways take the same
        keys[..., 3, :] = keys[..., 8, :]
        bias[..., 3] = bias[..., 8]
    mask = None
    if masked:
        mask = torch.rand(*lead, 6, 11, generator=torch.Generator().manual_seed(4)) < 0.6
        # nothing is seen, and fewer than k
        mask[..., 2, :], mask[..., 4, :] = False, torch.arange(11) == 5
    separation = TopK(3, 1.7, learnable=True).double()

    def read() -> torch.Tensor:
        inputs = [x.detach().requires_grad_() for x in (cues, keys, values, bias)]
        y = retrieve(*inputs[:3], Dot(), separation, mask=mask, bias=inputs[3])
        first = torch.autograd.grad((y.square() * towards).sum(), [*inputs, separation.beta], create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), [*inputs, separation.beta])
        return torch.cat([y.flatten()] + [g.flatten() for g in (*first, *second)])

    gathered, whole = _top_k_ways(monkeypatch, read)
    assert gathered.isfinite().all()
    torch.testing.assert_close(gathered, whole, rtol=1e-12, atol=1e-12)


def test_few_of_many_are_brought_together_and_many_of_few_are_not() -> None:
    counts = []
    for top, patterns in ((2, 2 * module.SPARSE), (2, 2 * module.SPARSE - 1)):
        cues, keys = torch.randn(3, 4), torch.randn(patterns, 4)
        with FlopCounterMode(display=False) as counter:
            retrieve(cues, keys, keys, Dot(), TopK(top))
        counts.append(counter.get_total_flops() - 2 * 3 * patterns * 4)
    assert counts == [2 * 3 * 2 * 4, 2 * 3 * (2 * module.SPARSE - 1) * 4]


def test_half_precision_and_broadcast_masks_are_followed_by_the_best_values(monkeypatch: pytest.MonkeyPatch) -> None:
    cues, keys, values = (_draw(2, 3, n, 5, seed=n, dtype=torch.bfloat16) for n in (6, 11, 11))
    mask = torch.rand(2, 1, 1, 11, generator=torch.Generator().manual_seed(4)) < 0.6
    gathered, whole = _top_k_ways(monkeypatch, lambda: retrieve(cues, keys, values[:, :, :11], Dot(), TopK(3), mask=mask))
    assert gathered.dtype == torch.bfloat16
    torch.testing.assert_close(gathered, whole)
