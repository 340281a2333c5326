"""Laws of the store of episodes: context is that of CMR, words are BM25, scans are exact, lists are long enough."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from ammon.dynamics.drift import drift_along
from ammon.episodes.base import Postings
from ammon.episodes.blend import Blend
from ammon.episodes.context import Drift, Spread
from ammon.episodes.dates import Named, named, periods
from ammon.episodes.embed import Hashing
from ammon.episodes.matrix import KeyMatrix
from ammon.episodes.records import Scope, moment
from ammon.episodes.stem import stem
from ammon.episodes.store import Episodes
from ammon.episodes.tuning import climb
from ammon.episodes.words import bm25, terms
from ammon.parts.separations import Entmax, Maximum
from ammon.parts.similarity import Cosine, Dot, Euclidean, Manhattan, Similarity

# the examples of his paper, step by step: a word and its stem
PORTER = """
caresses caress ponies poni ties ti caress caress cats cat feed feed agreed agre plastered plaster bled bled motoring motor
sing sing conflated conflat troubled troubl sized size hopping hop tanned tan falling fall hissing hiss fizzed fizz failing
fail filing file happy happi sky sky relational relat conditional condit rational ration valenci valenc digitizer digit
conformabli conform radicalli radic differentli differ vileli vile analogousli analog vietnamization vietnam predication
predic operator oper feudalism feudal decisiveness decis hopefulness hope callousness callous formaliti formal sensitiviti
sensit sensibiliti sensibl triplicate triplic formative form formalize formal electriciti electr electrical electr hopeful
hope goodness good revival reviv allowance allow inference infer airliner airlin gyroscopic gyroscop adjustable adjust
defensible defens irritant irrit replacement replac adjustment adjust dependent depend adoption adopt homologou homolog
communism commun activate activ angulariti angular homologous homolog effective effect bowdlerize bowdler probate probat rate
rate cease ceas controll control roll roll
"""


def contexts(count: int, beta: float) -> torch.Tensor:
    """The contexts [moment, item] of CMR along `count` localist items, which begins with an item of its own."""
    items = torch.eye(count + 1, dtype=torch.float64)
    return drift_along(items[0], items[1:], beta)


# -- context


@pytest.mark.parametrize("beta", [0.3, 0.6, 0.9])
def test_spread_is_one_reinstatement_of_cmr_with_localist_items(beta: float, tmp_path: Path) -> None:
    count, hit = 15, 6
    rho = math.sqrt(1 - beta**2)
    moments = contexts(count, beta)
    # a hit reinstates the context of its moment, which is compared with that of every other: ρ^lag on both sides
    overlaps = moments @ moments[hit]
    lags = torch.arange(count, dtype=torch.float64) - hit
    torch.testing.assert_close(overlaps, rho ** lags.abs(), atol=1e-12, rtol=0)
    # so the spread with ρ of CMR and equal sides is this step, up to the factor of a step
    spread = Spread(forward=rho, backward=rho, rho=rho, reach=count)
    with Episodes.open(tmp_path / "a.db") as store:
        ids = store.remember(keys=torch.eye(count))
        found = store._engine.around([ids[hit]], count, Scope())
        gains = dict(zip(found.ids.tolist(), spread.kernel(found.lags).tolist()))
        for place, one in enumerate(ids):
            if place != hit:
                assert gains[one] == pytest.approx(float(overlaps[place]), abs=1e-12)


def test_the_forward_side_is_larger_where_the_cue_holds_the_item_too(tmp_path: Path) -> None:
    # CMR's recalled item brings back its context of study and its own, new one, which only later contexts hold (Howard & Kahana 2002)
    beta, count, hit, share = 0.5, 15, 6, 0.4
    rho = math.sqrt(1 - beta**2)
    moments, own = contexts(count, beta), torch.eye(count + 1, dtype=torch.float64)[hit + 1]
    overlaps = moments @ (moments[hit] + share * own)
    spread = Spread(forward=rho * (1 + share * beta), backward=rho, rho=rho, reach=count)
    lags = torch.arange(count) - hit
    others = lags != 0
    torch.testing.assert_close(spread.kernel(lags[others]), overlaps[others], atol=1e-12, rtol=0)


@pytest.mark.parametrize("beta", [0.2, 0.7])
def test_the_match_of_a_cue_with_contexts_is_an_exponential_filter_of_its_matches_with_items(beta: float) -> None:
    # hop 0: q·c_t = β Σ ρ^(t-i) q·x_i, so no context vector need be kept
    generator = torch.Generator().manual_seed(0)
    count, dim, rho = 12, 40, math.sqrt(1 - beta**2)
    items = torch.linalg.qr(torch.randn(dim, count + 1, generator=generator, dtype=torch.float64))[0].T
    cue = torch.randn(dim, generator=generator, dtype=torch.float64)
    matches = drift_along(items[0], items[1:], beta) @ cue
    filtered, state = [], float(items[0] @ cue)
    for score in (items[1:] @ cue).tolist():
        state = rho * state + beta * score
        filtered.append(state)
    torch.testing.assert_close(matches, torch.tensor(filtered, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("hits", "threshold"), [(10, 0.4), (10, 1.2), (80, 0.4)])
def test_spread_adds_what_the_formula_says(hits: int, threshold: float, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    keys, cue = torch.randn(80, 12, generator=generator), torch.randn(12, generator=generator)
    sessions = [f"s{n // 20}" for n in range(80)]
    blend = Blend(content=0.7, context=Spread(0.5, 0.3, 0.7, 6), hits=hits, threshold=threshold)
    with Episodes.open(tmp_path / "a.db") as store:
        ids = store.remember(keys=keys, session=sessions)
        found = store.recall(cue, k=80, blend=blend)
    scores = torch.nn.functional.cosine_similarity(keys.double(), cue.double()[None], dim=-1)
    s = 0.7 * (scores - scores.mean()) / scores.std(correction=0)
    expected = s.clone()
    first = s.argsort(descending=True)
    level = max(threshold, float(s[first[hits]])) if hits < 80 else threshold
    for i in first[:hits].tolist():
        for t in range(80):
            lag = t - i
            if lag and abs(lag) <= 6 and sessions[t] == sessions[i]:
                expected[t] += max(float(s[i]) - level, 0.0) * (0.5 if lag > 0 else 0.3) * 0.7 ** (abs(lag) - 1)
    order = expected.argsort(descending=True)
    assert [e.id for e in found.episodes] == [ids[n] for n in order]
    torch.testing.assert_close(found.scores.double(), expected[order], atol=1e-5, rtol=0)


def test_drift_gives_the_overlap_of_drifting_contexts(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(2)
    keys = torch.randn(12, 8, generator=generator)
    cue = keys[5] + 0.05 * torch.randn(8, generator=generator)
    drift = Drift(beta=0.5, weight=0.3, reach=12)
    blend = Blend(content=1.0, words=0.0, context=drift, hits=1, threshold=0.0)
    with Episodes.open(tmp_path / "a.db") as store:
        ids = store.remember(keys=keys, session="one")
        store.remember(keys=torch.randn(12, 8, generator=generator), session="two")
        found = {item.episode.id: item for item in store.recall(cue, k=24, blend=blend)}
    # c_t = ρ c_{t-1} + β x_t of unit length, by a plain loop from the session's beginning
    context, moments = torch.zeros(8, dtype=torch.float64), []
    for key in keys.double():
        x = key / key.norm()
        overlap = float(context @ x)
        rho = math.sqrt(1 + 0.25 * (overlap**2 - 1)) - 0.5 * overlap
        context = rho * context + 0.5 * x
        context = context / context.norm()
        moments.append(context)
    first, second = sorted((item.parts.content for item in found.values()), reverse=True)[:2]
    assert first == found[ids[5]].parts.content
    strength = first - second
    for place, one in enumerate(ids):
        expected = 0.0 if place == 5 else 0.3 * strength * float(moments[place] @ moments[5])
        assert found[one].parts.context == pytest.approx(expected, abs=1e-5)
    # the other session is another context; its copy of the hit came second
    assert all(found[one].parts.context == 0 for one in found if one > ids[-1])


# -- words


def test_bm25_is_the_formula_by_a_plain_loop() -> None:
    texts = [["a", "b", "b"], ["b", "c"], ["a"], ["d", "d", "d", "a", "b"], []]
    query, k1, b = ["a", "b", "d"], 0.9, 0.4
    mean = sum(map(len, texts)) / len(texts)
    frequency = {w: sum(w in text for text in texts) for w in query}
    expected = {}
    for one, text in enumerate(texts, start=1):
        score = 0.0
        for w in query:
            tf = Counter(text)[w]
            idf = math.log(1 + (len(texts) - frequency[w] + 0.5) / (frequency[w] + 0.5))
            score += idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * len(text) / mean))
        if score:
            expected[one] = score
    entries = [(n, w, Counter(text)[w], len(text)) for n, text in enumerate(texts, start=1) for w in query if w in text]
    ids, places, counts, lengths = zip(*((n, query.index(w), c, size) for n, w, c, size in entries))
    postings = Postings(
        tuple(query), tuple(frequency[w] for w in query), *map(torch.tensor, (ids, places, counts, lengths)), len(texts), mean
    )
    found, scores = bm25(postings, k1, b)
    assert dict(zip(found.tolist(), scores.tolist())) == pytest.approx(expected, rel=1e-12)


def test_the_store_ranks_words_by_bm25(tmp_path: Path) -> None:
    texts = ["red cat", "red red dog", "a blue cat in the sea", "sea", "nothing of it here"]
    with Episodes.open(tmp_path / "a.db", blend=Blend(content=0.0, words=1.0, context=None)) as store:
        ids = store.remember(texts)
        found = store.recall("red cats", k=5)
    cut = [list(terms(text)) + (["red"] if text == "red red dog" else []) for text in texts]
    mean = sum(map(len, cut)) / 5
    scores = []
    for words in cut:
        score = 0.0
        for w in ("red", "cat"):
            n = sum(w in other for other in cut)
            tf = words.count(w)
            score += math.log(1 + (5 - n + 0.5) / (n + 0.5)) * tf * 1.9 / (tf + 0.9 * (0.6 + 0.4 * len(words) / mean))
        scores.append(score)
    z = (np.array(scores) - np.mean(scores)) / np.std(scores)
    expected = dict(zip(ids, z.tolist()))
    assert {item.episode.id: item.score for item in found} == pytest.approx(expected, abs=1e-9)
    assert found.items[0].matched == ("red", "cats")


def test_stems_are_those_of_porter() -> None:
    words = PORTER.split()
    for word, right in zip(words[::2], words[1::2], strict=True):
        assert stem(word) == right, word


def test_terms_know_no_case_accents_or_possession_and_leave_function_words_out() -> None:
    assert list(terms("The CAFÉ's owners weren't hiking")) == ["cafe", "owner", "hike"]
    assert terms("Pottery, pottery and pots!") == {"potteri": "pottery", "pot": "pots"}
    assert list(terms("日本 и Привет")) == ["日", "本", "и", "привет"]
    assert terms("of the and") == {}


def test_words_shared_make_hashed_keys_alike() -> None:
    keys = Hashing(512)(["the red car drove", "a red car", "completely different words", "red car", ""])
    cosines = keys @ keys[3]
    assert float(cosines[1]) > float(cosines[0]) > 0.3 > abs(float(cosines[2]))
    assert float(keys[4].norm()) == 0.0
    assert torch.equal(Hashing(512)(["red car"])[0], keys[3])


# -- dates


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("on 8 May 2023", (2023, 5, 8)),
        ("on May 8th, 2023", (2023, 5, 8)),
        ("on the 8th of May", (None, 5, 8)),
        ("8 Sept. 2021", (2021, 9, 8)),
        ("in May 2023", (2023, 5, None)),
        ("during January", (None, 1, None)),
        ("on 2023-05-08", (2023, 5, 8)),
        ("in 2022", (2022, None, None)),
    ],
)
def test_dates_are_read_as_they_are_written(text: str, right: tuple[int | None, int | None, int | None]) -> None:
    assert named(f"What happened {text}?") == [Named(*right)]


@pytest.mark.parametrize("text", ["You may go", "March on!", "room 2023", "32 May", "2023-13-01", "I have 12 cats", "in mayhem"])
def test_what_is_no_date_is_not_read(text: str) -> None:
    assert named(text) == []


def test_a_date_without_a_year_means_every_such_day_of_the_store() -> None:
    first, last = (moment(f"{day}T00:00", "").day for day in ("2021-03-01", "2023-06-30"))
    days = [moment(f"{year}-05-08T00:00", "").day for year in (2021, 2022, 2023)]
    assert periods("on 8 May", (first, last)) == tuple((day, day) for day in days)
    assert periods("29 February", (first, last)) == ()
    assert periods("the other day", (first, last)) is None


# -- keys


@pytest.mark.parametrize("similarity", [Cosine(), Dot(), Euclidean(), Manhattan()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("masked", [None, 0.5, 0.05])
def test_the_scan_is_the_similarity_of_every_key(similarity: Similarity, masked: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    keys, cue = torch.randn(500, 9, generator=generator), torch.randn(9, generator=generator)
    matrix = KeyMatrix(9, similarity)
    for start in (0, 1, 7, 300):
        matrix.append(keys[start : {0: 1, 1: 7, 7: 300, 300: 500}[start]].numpy())
    mask = None if masked is None else torch.rand(500, generator=generator) < masked
    rows = torch.arange(500) if mask is None else mask.nonzero().flatten()
    truth = similarity(cue[None].double(), keys[rows].double())[0]
    found = matrix.nearest(cue, 10, mask)
    order = truth.argsort(descending=True)[:10]
    assert found.rows.tolist() == rows[order].tolist()
    torch.testing.assert_close(found.scores.double(), truth[order], atol=1e-5, rtol=1e-5)
    assert found.mean == pytest.approx(float(truth.mean()), abs=1e-5)
    assert found.deviation == pytest.approx(float(truth.std(correction=0)), rel=1e-4)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("near", [False, True])
def test_the_coarse_scan_finds_what_the_exact_one_finds(near: bool, masked: bool) -> None:
    generator = torch.Generator().manual_seed(4)
    keys = torch.randn(3000, 32, generator=generator)
    cue = torch.randn(32, generator=generator)
    if near:
        # differences that bfloat16 cannot hold
        keys = cue + 1e-3 * keys
    mask = torch.rand(3000, generator=generator) < 0.6 if masked else None
    exact, coarse = KeyMatrix(32, Cosine()), KeyMatrix(32, Cosine(), large=10)
    for matrix in (exact, coarse):
        matrix.append(keys[:2000].numpy())
        matrix.nearest(cue, 5)
        matrix.append(keys[2000:].numpy())
        matrix.overwrite(np.array([3, 50]), (cue + torch.randn(2, 32, generator=torch.Generator().manual_seed(9)) * 1e-5).numpy())
    one, other = exact.nearest(cue, 20, mask), coarse.nearest(cue, 20, mask)
    # a gathered row and one of a product may differ in the last bits, and rows closer than that may change places
    torch.testing.assert_close(one.scores, other.scores, atol=3e-7, rtol=0)
    assert one.rows[0] == other.rows[0]
    assert other.mean == pytest.approx(one.mean, abs=2e-3)


def test_the_coarse_scan_follows_rows_that_are_taken_out() -> None:
    keys = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
    matrix = KeyMatrix(8, Dot(), large=10)
    matrix.append(keys.numpy())
    matrix.nearest(keys[0], 3)
    keep = np.arange(100) % 2 == 0
    matrix.keep(keep)
    assert matrix.nearest(keys[4], 1).rows.tolist() == [int((keys[::2] @ keys[4]).argmax())]


def test_the_approximate_index_is_a_cache_that_follows_and_can_be_deleted(tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    keys = torch.randn(400, 16, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "a.db"

    def agree() -> None:
        with Episodes.open(path) as exact, Episodes.open(path, approximate=True) as store:
            for cue in keys[::50]:
                one, other = exact.recall(cue, k=5), store.recall(cue, k=5)
                assert [e.id for e in one.episodes] == [e.id for e in other.episodes]
                torch.testing.assert_close(one.scores, other.scores, atol=1e-4, rtol=0)

    with Episodes.open(path) as store:
        ids = store.remember(keys=keys[:300])
    agree()
    saved = path.with_name("a.db.usearch")
    assert saved.exists()
    with Episodes.open(path) as store:
        store.remember(keys=keys[300:])
        store.forget(ids[50])
        store.update(ids[100], key=-keys[100])
    agree()
    saved.write_bytes(b"damaged")
    agree()
    saved.unlink()
    agree()
    with pytest.raises(ValueError, match="an approximate index serves Cosine and Dot"):
        Episodes.open(path, approximate=True, similarity=Euclidean())


# -- recall


def test_separation_weighs_what_was_recalled(tmp_path: Path) -> None:
    for separation in (Maximum(), Entmax(2.0)):
        with Episodes.open(tmp_path / f"{type(separation).__name__}.db", separation=separation) as store:
            store.remember(keys=torch.eye(6))
            found = store.recall(torch.tensor([1.0, 0.2, 0.1, 0.0, 0.0, 0.0]), k=6)
            torch.testing.assert_close(found.weights, separation.weights(found.scores))
            assert float(found.weights[0]) == pytest.approx(1.0)


def test_names_of_speakers_do_not_drown_what_is_said(tmp_path: Path) -> None:
    seen: list[str] = []

    def embedder(texts: list[str]) -> torch.Tensor:
        seen.extend(texts)
        return Hashing(64)(texts)

    with Episodes.open(tmp_path / "a.db", embedder=embedder) as store:
        store.remember(["Hi Ann, is Ann's brother Will here?", "He will be, Bob Lee."], speaker=["Bob Lee", "Ann"])
        store.recall("What did Ann tell Bob about Annabel?")
        assert [" ".join(text.split()) for text in seen[1:3]] == ["Hi , is brother Will here?", "He will be, ."]
        assert " ".join(seen[-1].split()) == "What did tell about Annabel?"
    with Episodes.open(tmp_path / "b.db", embedder=embedder, strip_names=False) as store:
        store.remember("Hi Ann", speaker="Ann")
        assert seen[-1] == "Hi Ann"


def test_tuning_finds_the_weights_that_answer(tmp_path: Path) -> None:
    # the answers have the words of the questions, and keys that say the opposite
    texts = [f"thing{n} place{n}" for n in range(40)]
    keys = torch.eye(40, 64)

    def embedder(asked: list[str]) -> torch.Tensor:
        return torch.stack([keys[(int(text.split("thing")[1].split()[0]) + 7) % 40] if "thing" in text else keys[0] for text in asked])

    blend = Blend(content=1.0, words=0.0, context=None)
    with Episodes.open(tmp_path / "a.db", embedder=embedder, blend=blend) as store:
        ids = store.remember(texts, keys=keys)
        questions = [(f"where is thing{n}", [ids[n]]) for n in range(40)]
        tuned = store.tune(questions, k=1)
        assert store.blend == blend
        assert sum(store.recall(text, k=1).episodes[0].id == right[0] for text, right in questions) == 0
        assert sum(store.recall(text, k=1, blend=tuned).episodes[0].id == right[0] for text, right in questions) == 40
        with pytest.raises(ValueError, match="at least one right id"):
            store.tune([("a", [])])
        with pytest.raises(ValueError, match="there is no episode 999"):
            store.tune([("a", [999])])


def test_tuning_moves_only_for_a_gain() -> None:
    assert climb(Blend(), lambda blend: 0.0) == Blend()
    found = climb(Blend(), lambda blend: blend.date + (blend.context.forward if isinstance(blend.context, Spread) else 0.0))
    assert (found.date, found.context.forward if isinstance(found.context, Spread) else None) == (3.0, 1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Blend(words=-1.0), "words must be a finite number of at least 0"),
        (lambda: Blend(content=0.0, words=0.0), "both 0"),
        (lambda: Blend(length=1.5), "in \\[0, 1\\]"),
        (lambda: Blend(date=math.nan), "date must be"),
        (lambda: Spread(rho=1.5), "rho in \\[0, 1\\]"),
        (lambda: Spread(reach=-1), "reach must be"),
        (lambda: Drift(beta=0.0), "beta in \\(0, 1\\]"),
        (lambda: Hashing(3), "at least 16"),
    ],
)
def test_weights_that_make_no_sense_are_refused(make: type, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_neighbours_are_the_same_from_the_file_and_from_memory_whatever_is_written_between(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    with Episodes.open(tmp_path / "a.db", durability="NORMAL") as known, Episodes.open(tmp_path / "a.db") as writer:
        for step in range(5):
            count = 30
            names = torch.randint(3, (count,), generator=generator).tolist()
            # equal times too, and earlier ones than are there
            times = torch.randint(20, (count,), generator=generator).tolist()
            writer.remember(keys=torch.randn(count, 8, generator=generator), session=[f"s{name}" for name in names], time=times)
            if step == 2:
                writer.forget(list(range(10, 25)))
                writer.update(31, time=7, session="s1")
            if step == 4:
                writer.forget(session="s0")
            known.recall(torch.randn(8, generator=generator))
            ids = [*(episode.id for episode in list(known.iterate())[::4]), 12]
            with Episodes.open(tmp_path / "a.db") as fresh:
                for reach in (1, 4, 100):
                    one, other = (store._engine.around(ids, reach, Scope()) for store in (known, fresh))
                    pairs = [sorted(zip(found.of_ids.tolist(), found.lags.tolist(), found.ids.tolist())) for found in (one, other)]
                    assert pairs[0] == pairs[1]
                    assert len(pairs[0]) > len(ids) - 2
