"""Laws of CMR: probabilities sum to 1, gradients are those of finite differences, batches do not mix, draws are from the likelihood."""

import itertools
from dataclasses import replace

import pytest
import torch
from scipy.stats import chi2

from ammon.cmr.choice import PowerChoice, RatioStop, SoftmaxChoice, StrengthStop
from ammon.cmr.layers import ContextCue, Features, ItemCue, Items, Pool, cosine_similarity
from ammon.cmr.likelihood import ClippedFloor, SmoothFloor
from ammon.cmr.lists import NONE, OTHER, Lists, once
from ammon.cmr.model import CMR

BASE = {
    "beta_enc": 0.6, "beta_start": 0.3, "beta_rec": 0.8, "learn_fc": 0.3, "learn_cf": 0.4, "primacy_scale": 0.7, "primacy_decay": 0.9,
    "temperature": 0.4, "stop_scale": 0.15, "stop_growth": 0.3,
}  # fmt: skip
POWER = {name: value for name, value in BASE.items() if name != "temperature"} | {"sensitivity": 2.0}


def recalled(sequences: list[tuple[int, ...]], length: int) -> Lists:
    most = max(map(len, sequences))
    rows = torch.tensor([[*sequence, *[NONE] * (most - len(sequence))] for sequence in sequences], dtype=torch.int64)
    return replace(once([length] * len(sequences)), recalls=rows.reshape(len(sequences), most))


def all_orders(length: int) -> list[tuple[int, ...]]:
    return [order for count in range(length + 1) for order in itertools.permutations(range(length), count)]


def random_lists(count: int, length: int, seed: int = 0) -> Lists:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.stack([torch.randperm(length, generator=generator) for _ in range(count)])
    keep = torch.randint(0, length + 1, (count, 1), generator=generator)
    return replace(once([length] * count, torch.arange(count) % 3), recalls=torch.where(torch.arange(length) < keep, rows, NONE))


@pytest.mark.parametrize("floor", [SmoothFloor(), SmoothFloor(0.1), SmoothFloor(0.0)])
@pytest.mark.parametrize(
    ("model", "values"),
    [
        (CMR(), BASE),
        (CMR(stop=StrengthStop()), BASE),
        (CMR(stop=RatioStop()), BASE),
        (CMR(choice=PowerChoice()), POWER),
        (CMR(association="previous", primacy="multiplicative"), {**BASE, "beta_distract": 0.3, "beta_retention": 0.5}),
        (CMR(semantics=ItemCue(Pool(("item 1", "item 2", "item 3", "item 4"), torch.rand(4, 4).double()))), {**BASE, "semantic": 0.4}),
    ],
)
def test_the_probabilities_of_all_that_may_be_recalled_sum_to_1(model: CMR, values: dict[str, float], floor: SmoothFloor) -> None:
    lists = recalled(all_orders(4), 4)
    # the stop probability is at least 1e-6, also where nothing but stopping is left, so at most that is missing
    total = replace(model, floor=floor).log_likelihood(lists, values).lists.exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-12)


def test_with_all_events_each_next_event_sums_to_1() -> None:
    model, values = CMR(events="all"), {**BASE, "repeat_penalty": 1.0, "intrusion_support": 0.2}
    so_far = (1, 1, OTHER)
    lists = recalled([so_far, *[(*so_far, unit) for unit in (0, 1, 2, OTHER)]], 3)
    events = model.log_likelihood(lists, values).events
    assert float(events[0, 3].exp() + events[1:, 3].exp().sum()) == pytest.approx(1, abs=1e-12)


def test_with_repeats_and_intrusions_made_impossible_the_events_are_those_of_unique_recalls() -> None:
    lists = recalled([(2, 0), (1,), ()], 3)
    off = {**BASE, "repeat_penalty": 1e3, "intrusion_support": 0.0}
    power = {**POWER, "repeat_penalty": 1e3, "intrusion_support": 0.0}
    plain = CMR(choice=PowerChoice(), floor=SmoothFloor(0.0)).log_likelihood(lists, POWER).lists
    with_all = CMR(choice=PowerChoice(), floor=SmoothFloor(0.0), events="all").log_likelihood(lists, power).lists
    torch.testing.assert_close(with_all, plain, rtol=1e-9, atol=0)
    # the softmax gives an intrusion of support 0 the weight 1 of any such item
    assert bool((CMR(events="all").log_likelihood(lists, off).lists[:2] < CMR().log_likelihood(lists, BASE).lists[:2]).all())


@pytest.mark.parametrize("model", [CMR(), CMR(stop=StrengthStop()), CMR(stop=RatioStop()), CMR(events="all")])
@pytest.mark.parametrize("choice", [SoftmaxChoice(), PowerChoice()])
def test_gradients_are_those_of_finite_differences(model: CMR, choice: SoftmaxChoice | PowerChoice) -> None:
    model = replace(model, choice=choice)
    values = BASE if isinstance(choice, SoftmaxChoice) else POWER
    more = {"beta_distract": 0.2, "beta_retention": 0.3, "shared_cf": 0.02, "pre_fc": 0.6, "pre_cf": 0.5}
    more |= {"repeat_penalty": 1.0, "intrusion_support": 0.2} if model.events == "all" else {}
    names = [*values, *more]
    lists = random_lists(3, 4)
    inputs = [torch.full((2,), value, dtype=torch.float64, requires_grad=True) for value in {**values, **more}.values()]

    def total(*given: torch.Tensor) -> torch.Tensor:
        return model.log_likelihood(lists, dict(zip(names, given, strict=True))).total

    assert torch.autograd.gradcheck(total, inputs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("floor", [SmoothFloor(), SmoothFloor(0.0), ClippedFloor()])
@pytest.mark.parametrize("choice", [SoftmaxChoice(), PowerChoice()])
@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize(
    "more",
    [{}, {"learn_fc": 0.0}, {"learn_fc": 1.0, "learn_cf": 1.0}, {"learn_cf": 0.0}, {"stop_scale": 0.0},
     {"stop_scale": 5.0, "stop_growth": 900.0},
     {"primacy_scale": 0.0}, {"pre_fc": 0.0, "pre_cf": 0.0, "learn_fc": 0.0, "learn_cf": 0.0}, {"beta_start": 1.0}, {"temperature": 1e-4}],
)  # fmt: skip
def test_nothing_is_nan_at_the_edges(beta: float, choice: SoftmaxChoice | PowerChoice, floor: SmoothFloor, more: dict[str, float]) -> None:
    values = {**(BASE if isinstance(choice, SoftmaxChoice) else POWER), "beta_enc": beta, "beta_rec": beta, "beta_distract": beta, **more}
    if isinstance(choice, PowerChoice):
        values.pop("temperature", None)
    lists = recalled([(), (2, 1, 0), (0,), (1, 2)], 3)  # nothing recalled, all recalled
    given = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in values.items()}
    found = CMR(choice=choice, floor=floor).log_likelihood(lists, given)
    assert torch.isfinite(found.events).all()
    assert (found.events <= 0).all()
    found.total.backward()
    for name, value in given.items():
        assert value.grad is None or torch.isfinite(value.grad), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_of_the_values_is_kept(dtype: torch.dtype) -> None:
    values = {**BASE, "beta_enc": torch.tensor([0.3, 0.6], dtype=dtype)}
    found = CMR().log_likelihood(random_lists(5, 6), values)
    assert found.events.dtype == dtype
    exact = CMR().log_likelihood(random_lists(5, 6), {**BASE, "beta_enc": torch.tensor([0.3, 0.6], dtype=torch.float64)})
    torch.testing.assert_close(found.lists.double(), exact.lists, rtol=1e-4 if dtype == torch.float32 else 1e-6, atol=1e-4)


def test_a_batch_of_vectors_is_each_vector_alone() -> None:
    lists = random_lists(7, 5)
    many = {name: value * torch.linspace(0.5, 1.0, 6, dtype=torch.float64).reshape(2, 3) for name, value in BASE.items()}
    together = CMR().log_likelihood(lists, many).lists
    assert together.shape == (2, 3, 7)
    for i, j in itertools.product(range(2), range(3)):
        alone = CMR().log_likelihood(lists, {name: value[i, j] for name, value in many.items()}).lists
        torch.testing.assert_close(together[i, j], alone, rtol=0, atol=1e-13)


def test_with_values_for_each_subject_each_list_has_those_of_its_own() -> None:
    lists = random_lists(7, 5)
    own = {**BASE, "beta_enc": torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)}
    found = CMR().log_likelihood(lists, own, per_subject=True)
    everyone = CMR().log_likelihood(lists, own).lists
    torch.testing.assert_close(found.lists, everyone[lists.subject, torch.arange(7)], rtol=0, atol=1e-13)
    torch.testing.assert_close(found.subjects.sum(), found.total, rtol=1e-14, atol=0)


def test_lists_of_different_lengths_padded_together_are_each_list_alone() -> None:
    parts = [recalled([(2, 0), (1,)], 3), recalled([(4, 3, 0), ()], 6), recalled([(0,)], 1)]
    most = 6
    together = replace(
        once([3, 3, 6, 6, 1]),
        recalls=torch.cat([torch.nn.functional.pad(part.recalls, (0, most - part.recalls.shape[1]), value=NONE) for part in parts]),
    )
    alone = torch.cat([CMR().log_likelihood(part, BASE).lists for part in parts])
    torch.testing.assert_close(CMR().log_likelihood(together, BASE).lists, alone, rtol=0, atol=1e-13)


def test_the_order_of_the_pool_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    names, scores = tuple("abcdef"), torch.rand(6, 6, generator=generator, dtype=torch.float64)
    items = torch.stack([torch.randperm(6, generator=generator)[:4] for _ in range(5)])
    lists = replace(
        once([4] * 5, names=names, items=items), recalls=torch.tensor([[1, 3, NONE], [0, 1, 2], [3, NONE, NONE], [2, 0, NONE], [NONE] * 3])
    )
    order = torch.randperm(6, generator=generator)
    shuffled = replace(lists, names=tuple(names[i] for i in order), items=torch.argsort(order)[items])
    back = torch.randperm(6, generator=generator)
    pool, moved = Pool(names, scores), Pool(tuple(names[i] for i in back), scores[back][:, back])
    for first, second in ((ContextCue(pool), ContextCue(moved)), (ItemCue(pool), ItemCue(moved))):
        one = CMR(semantics=first).log_likelihood(lists, {**BASE, "semantic": 0.3}).lists
        two = CMR(semantics=second).log_likelihood(shuffled, {**BASE, "semantic": 0.3}).lists
        torch.testing.assert_close(one, two, rtol=0, atol=1e-13)
    features = torch.rand(6, 3, generator=generator, dtype=torch.float64)
    one = CMR((Features(Pool(names, features)),)).log_likelihood(lists, BASE).lists
    two = CMR((Features(Pool(moved.names, features[back])),)).log_likelihood(shuffled, BASE).lists
    torch.testing.assert_close(one, two, rtol=0, atol=1e-13)


def test_similarity_of_orthonormal_vectors_is_the_identity_and_gives_localist_cmr() -> None:
    vectors = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    names = [f"item {n + 1}" for n in range(5)]
    similarity = cosine_similarity(names, 3 * vectors)
    torch.testing.assert_close(similarity.rows, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-14)
    lists = random_lists(6, 5)
    cued = CMR(semantics=ContextCue(similarity)).log_likelihood(lists, {**BASE, "pre_cf": 0.0, "semantic": 0.6}).lists
    torch.testing.assert_close(cued, CMR().log_likelihood(lists, {**BASE, "pre_cf": 0.6}).lists, rtol=1e-12, atol=0)
    # the same items as distributed patterns: contexts are turned, nothing else changes
    turned = CMR((Features(Pool(tuple(names), vectors)),)).log_likelihood(lists, BASE).lists
    torch.testing.assert_close(turned, CMR().log_likelihood(lists, BASE).lists, rtol=1e-12, atol=0)


def test_semantics_of_weight_0_is_none() -> None:
    pool = Pool(tuple(f"item {n + 1}" for n in range(5)), torch.rand(5, 5).double())
    lists = random_lists(6, 5)
    for semantics in (ContextCue(pool), ItemCue(pool)):
        found = CMR(semantics=semantics).log_likelihood(lists, {**BASE, "semantic": 0.0}).lists
        torch.testing.assert_close(found, CMR().log_likelihood(lists, BASE).lists, rtol=1e-13, atol=0)


@pytest.mark.parametrize("events", ["unique", "all"])
@pytest.mark.parametrize("cue", [False, True])
def test_sequences_are_drawn_as_often_as_the_likelihood_says(events: str, cue: bool) -> None:
    pool = Pool(("item 1", "item 2", "item 3"), torch.tensor([[1.0, 0.2, 0.9], [0.2, 1.0, 0.0], [0.9, 0.0, 1.0]], dtype=torch.float64))
    model = CMR(events=events, semantics=ItemCue(pool) if cue else None)  # type: ignore[arg-type]
    values = {**BASE, "stop_scale": 0.3, **({"semantic": 0.4} if cue else {})}
    values |= {"repeat_penalty": 0.5, "intrusion_support": 0.2} if events == "all" else {}
    draws = 40_000
    drawn = model.simulate(once([3]).times(draws), values, generator=torch.Generator().manual_seed(0)).lists
    sequences, counts = torch.unique(drawn.recalls, dim=0, return_counts=True)
    chances = model.log_likelihood(replace(once([3] * len(sequences)), recalls=sequences), values).lists.exp()
    # Pearson's test; what is expected fewer than 10 times, and what never came, is one class
    often = chances * draws >= 10
    expected = torch.cat([chances[often], 1 - chances[often].sum(0, keepdim=True)]) * draws
    observed = torch.cat([counts[often], (draws - counts[often].sum()).reshape(1)])
    classes = expected > 1e-6
    statistic = float(((observed - expected).square() / expected)[classes].sum())
    assert chi2.sf(statistic, int(classes.sum()) - 1) > 1e-3


def test_a_simulation_gives_each_subject_its_own_parameters_and_repeats_with_its_seed() -> None:
    lists = once([6] * 600, torch.arange(600) % 2)
    values = {**BASE, "stop_scale": torch.tensor([0.9, 0.001], dtype=torch.float64)}
    first, again = (CMR().simulate(lists, values, generator=torch.Generator().manual_seed(1), per_subject=True).lists for _ in range(2))
    assert torch.equal(first.recalls, again.recalls)
    few, many = first.num_recalls[lists.subject == 0].double().mean(), first.num_recalls[lists.subject == 1].double().mean()
    assert few < 1 < 4 < many
    assert torch.equal(first.clean().recalls, first.recalls)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"needs beta_enc"),
        ({**BASE, "beta_encc": 0.5}, r"no parameter is called 'beta_encc'; did you mean beta_enc"),
        ({**BASE, "beta_enc": 1.2}, r"beta_enc .* at least 0 and at most 1, got 1.2"),
        ({**BASE, "beta_enc": float("nan")}, r"beta_enc .* got nan"),
        ({**BASE, "beta_enc.source": 0.5}, r"'beta_enc.source' names a context layer .* it has temporal"),
        ({**BASE, "beta_enc": torch.rand(2), "beta_rec": torch.rand(3)}, r"one shape"),
    ],
)
def test_wrong_parameters_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CMR().log_likelihood(random_lists(2, 3), values)


def test_lists_that_the_model_cannot_have_made_are_refused_by_name() -> None:
    lists = recalled([(0, 1), (1, 1), (2, OTHER)], 3)
    with pytest.raises(ValueError, match=r"subject 1, list 2: item 'item 2' is recalled again as recall 2 \(1 more such lists\)"):
        CMR().log_likelihood(lists, BASE)
    with pytest.raises(ValueError, match=r"subject 1, list 3: recall 2 is of an item that was not studied, which"):
        CMR().log_likelihood(lists.at([0, 2]), BASE)
    for cue in (ItemCue, ContextCue):
        with pytest.raises(ValueError, match=rf"{cue.__name__}: the similarity must be \[item, item\], got rows of shape \[3, 2\]"):
            cue(Pool(("a", "b", "c"), torch.ones(3, 2)))
    with pytest.raises(ValueError, match=r"subject 1, list 1: item 'item 3' has no row"):
        CMR(semantics=ItemCue(Pool(("item 1", "item 2"), torch.eye(2)))).log_likelihood(lists.clean(), {**BASE, "semantic": 1.0})
    with pytest.raises(ValueError, match=r"list 1: recalls names unit 3, the list has units 0 to 2"):
        recalled([(3,)], 3)
    with pytest.raises(ValueError, match=r"layer"):
        CMR((Items(), Items()))
    cleaned = lists.clean()
    assert cleaned.recalls.tolist() == [[0, 1], [1, NONE], [2, NONE]]
