"""What every engine of episodes must do: the same calls, the same answers.

A test asks for the `place` of a fresh store and opens it itself, so that it can open it again.
"""

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import torch

from ammon.episodes.blend import Blend
from ammon.episodes.context import Spread
from ammon.episodes.embed import Hashing
from ammon.episodes.store import Episodes
from ammon.memories.retention import Capacity, Old, Redundant, Unused, Weak

Fresh = Callable[[], str]


@pytest.fixture(params=["sqlite", "postgres"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Fresh:
    """Gives the place of a new store at each call."""
    if request.param == "postgres":
        places: Fresh = request.getfixturevalue("postgres_place")
        return places
    numbers = itertools.count()
    return lambda: str(tmp_path / f"store-{next(numbers)}.db")


@pytest.fixture
def place(fresh: Fresh) -> str:
    return fresh()


@pytest.fixture
def store(place: str) -> Iterator[Episodes]:
    with Episodes.open(place) as opened:
        yield opened


TALK = [
    ("monday", "Ann", "I signed up for a pottery class yesterday."),
    ("monday", "Bob", "That sounds like fun, where is it?"),
    ("monday", "Ann", "In the old mill by the river."),
    ("monday", "Bob", "I have never been there."),
    ("tuesday", "Bob", "My dog ran away this morning."),
    ("tuesday", "Ann", "Oh no! Did you find him?"),
    ("tuesday", "Bob", "Yes, the neighbours had given him a sausage."),
]


def talk(store: Episodes) -> list[int]:
    days = {"monday": "2023-05-08T12:00:00+02:00", "tuesday": "2023-06-09T09:30:00+02:00"}
    sessions, speakers, texts = zip(*TALK)
    extra = [{"number": number, "even": number % 2 == 0, "tags": ["a", "b"]} for number in range(len(TALK))]
    return store.remember(list(texts), session=list(sessions), speaker=list(speakers), time=[days[s] for s in sessions], metadata=extra)


def directions(count: int, dim: int = 24, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def by_hand(keys: torch.Tensor, cue: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cosine_similarity(keys.double(), cue.double()[None], dim=-1)


# -- writing and reading


def test_what_was_remembered_is_there_when_the_store_is_opened_again(place: str) -> None:
    with Episodes.open(place) as store:
        ids = talk(store)
        assert ids == sorted(ids)
        assert len(store) == len(TALK)
    with Episodes.open(place, create=False) as again:
        found = list(again.iterate())
        assert [(e.session, e.speaker, e.text) for e in found] == TALK
        assert [e.id for e in found] == ids
        assert found[0].time == datetime(2023, 5, 8, 10, tzinfo=UTC)
        # the clock it was read from is kept too
        assert found[0].time.utcoffset() == timedelta(hours=2)
        assert found[3].metadata == {"number": 3, "even": False, "tags": ["a", "b"]}
        assert (found[0].strength, found[0].uses, found[0].used) == (1.0, 0, None)
        assert again.check() == []


def test_one_text_is_one_episode_of_now_in_the_default_session(store: Episodes) -> None:
    before = datetime.now(UTC)
    [one] = store.remember("The kettle is on.")
    episode = store.get(one)
    assert before <= episode.time <= datetime.now(UTC)
    assert (episode.session, episode.speaker, dict(episode.metadata)) == ("default", None, {})


def test_unusual_text_comes_back_as_it_was(store: Episodes) -> None:
    texts = [
        "naïve café — “quotes”",
        "日本語の文章です",
        "emoji 🧠🪸",
        "'; DROP TABLE episodes; --",
        'NEAR("a" b) OR * ^',
        "line\none\ttwo\r\n",
        "%s {0} \\",
    ]
    ids = store.remember(texts, session="naïve; DROP", speaker="O'Brien")
    assert [store.get(one).text for one in ids] == texts
    for text, one in zip(texts, ids):
        assert store.recall(text, k=1).episodes[0].id == one
    assert store.check() == []


def test_keys_are_kept_as_they_were_given(store: Episodes) -> None:
    keys = 3 * directions(5)
    ids = store.remember(keys=keys)
    assert torch.equal(store.keys(ids), keys)
    assert torch.equal(store.keys([ids[3], ids[1]]), keys[[3, 1]])
    assert store.get(ids[0]).text is None


def test_iterate_goes_by_time_or_back_and_crosses_its_batches(store: Episodes) -> None:
    minutes = [5, 1, 3, 1, 4, 2, 3]
    start = datetime(2024, 1, 1, tzinfo=UTC)
    ids = store.remember([f"turn {n}" for n in range(7)], time=[start + timedelta(minutes=m) for m in minutes])
    right = [one for _, one in sorted(zip(minutes, ids))]
    for batch in (1, 2, 7, 100):
        assert [e.id for e in store.iterate(batch=batch)] == right
        assert [e.id for e in store.iterate(batch=batch, newest=True)] == right[::-1]


def test_conditions_choose_episodes(store: Episodes) -> None:
    ids = talk(store)

    def found(**conditions: Any) -> list[int]:
        listed = [e.id for e in store.iterate(**conditions)]
        # recall answers for the same episodes
        recalled = store.recall("what happened", k=100, **conditions)
        assert sorted(e.id for e in recalled.episodes) == listed
        assert recalled.searched == len(listed)
        return listed

    assert found() == ids
    assert found(session="monday") == ids[:4]
    assert found(speaker="Ann") == [ids[0], ids[2], ids[5]]
    assert found(since="2023-06-01") == ids[4:]
    assert found(until="2023-05-08T12:00:00+02:00") == []
    assert found(since="2023-05-08T10:00:00Z", until="2023-05-08T10:00:01Z") == ids[:4]
    assert found(where={"even": True}) == ids[::2]
    assert found(where={"number": [1, 2, 99]}) == ids[1:3]
    assert found(where={"number": 1.0}) == [ids[1]]
    assert found(where={"even": 1}) == []
    assert found(where={"number": "1"}) == []
    assert found(where={"nothing": 1}) == []
    assert found(session="monday", speaker="Ann", where={"even": True}) == [ids[0], ids[2]]


def test_sessions_and_speakers_are_named(store: Episodes) -> None:
    assert store.sessions() == []
    assert store.speakers() == []
    talk(store)
    first, last = store.sessions()
    assert (first.name, first.count, last.name, last.count) == ("tuesday", 3, "monday", 4)
    assert last.first == last.last == datetime(2023, 5, 8, 10, tzinfo=UTC)
    assert store.speakers() == ["Ann", "Bob"]
    store.forget(speaker="Bob")
    assert store.speakers() == ["Ann"]


def test_a_bookmark_is_kept_with_the_episodes_or_not_at_all(place: str) -> None:
    with Episodes.open(place, embedder=Hashing(32)) as store:
        assert store.bookmarked("file") is None
        store.remember(["a b", "c d"], bookmark=("file", 2))
        with pytest.raises(ValueError, match="empty"):
            store.remember(["e", " "], bookmark=("file", 4))
    with Episodes.open(place) as store:
        assert store.bookmarked("file") == 2
        assert len(store) == 2


# -- recall


def test_recall_by_vector_is_the_order_of_cosines(store: Episodes) -> None:
    keys, cue = directions(60), directions(1, seed=1)[0]
    ids = store.remember(keys=keys)
    found = store.recall(cue, k=60, blend=Blend(context=None))
    scores = by_hand(keys, cue)
    order = scores.argsort(descending=True)
    assert [e.id for e in found.episodes] == [ids[n] for n in order]
    torch.testing.assert_close(torch.tensor([i.similarity for i in found], dtype=torch.float64), scores[order], atol=1e-6, rtol=0)
    z = (scores - scores.mean()) / scores.std(correction=0)
    # float32 sums of 60 scores
    torch.testing.assert_close(found.scores.double(), 0.7 * z[order], atol=1e-5, rtol=0)
    assert len(store.recall(cue, k=3)) == 3


def test_equal_scores_come_in_the_order_of_writing(store: Episodes) -> None:
    ids = store.remember(["the same words"] * 30)
    assert [e.id for e in store.recall("same", k=7).episodes] == ids[:7]


def test_the_longer_list_changes_nothing(store: Episodes) -> None:
    # more episodes than candidates of the first attempt, so that the best are found without scoring all
    words = ["red", "blue", "cat", "dog", "sea", "sun", "old", "new"]
    generator = torch.Generator().manual_seed(3)
    chosen = torch.randint(0, 8, (700, 4), generator=generator)
    store.remember(
        [" ".join(words[w] for w in row) for row in chosen.tolist()], keys=directions(700), session=[f"s{n // 50}" for n in range(700)]
    )
    for seed, cue in enumerate(["red cat", "old sea dog", "new"]):
        key = directions(1, seed=seed + 5)[0]
        few, all_ = (store.recall(cue, k=k, key=key) for k in (10, 700))
        assert [e.id for e in few.episodes] == [e.id for e in all_.episodes[:10]]
        assert torch.allclose(few.scores, all_.scores[:10], atol=1e-5)


def test_a_score_is_the_sum_of_its_parts_and_says_why(store: Episodes) -> None:
    ids = talk(store)
    found = store.recall("pottery class on 8 May 2023", k=7)
    for item in found:
        assert item.score == pytest.approx(item.parts.total)
    best = found.items[0]
    assert best.episode.id == ids[0]
    assert set(best.matched) >= {"pottery", "class"}
    assert best.parts.date == Blend().date
    by_id = {item.episode.id: item for item in found}
    assert by_id[ids[1]].parts.context > 0
    assert by_id[ids[1]].reinstated_by == (ids[0],)
    # the context ends with the session, and the other day is not the day that is named
    assert (by_id[ids[4]].parts.context, by_id[ids[4]].parts.date) == (0.0, 0.0)
    assert float(found.weights.sum()) == pytest.approx(1.0)
    assert found.searched == len(TALK)


def test_a_date_means_the_day_where_it_happened(store: Episodes) -> None:
    east = timezone(timedelta(hours=10))
    ids = store.remember(["we met", "we met again"], time=[datetime(2023, 5, 9, 3, tzinfo=east), datetime(2023, 5, 8, 23, tzinfo=UTC)])
    by_id = {item.episode.id: item.parts.date for item in store.recall("who met on May 9th, 2023?")}
    assert by_id == {ids[0]: 2.0, ids[1]: 0.0}


def test_the_speaker_counts_where_asked(store: Episodes) -> None:
    talk(store)
    blend = Blend(speaker=1.0)
    for item in store.recall("what did Bob say?", k=7, blend=blend):
        assert item.parts.speaker == (1.0 if item.episode.speaker == "Bob" else 0.0)
    # two are named: no one is meant
    assert all(item.parts.speaker == 0 for item in store.recall("did Ann meet Bob?", k=7, blend=blend))


def test_context_counts_places_in_the_whole_session_but_brings_up_only_what_is_asked_for(store: Episodes) -> None:
    keys = torch.zeros(8, 16)
    keys[2, 0] = 1.0
    keys[range(8), range(8, 16)] = 0.1
    ids = store.remember(keys=keys, session="one", metadata=[{"even": n % 2 == 0} for n in range(8)])
    cue = torch.eye(16)[0]
    spread = Spread(forward=0.5, backward=0.25, rho=0.5, reach=3)
    blend = Blend(context=spread)
    hit = store.recall(cue, k=1, blend=blend).items[0]
    strength = hit.score - blend.threshold
    gains = {item.episode.id: item.parts.context for item in store.recall(cue, k=8, blend=blend)}
    right = {0: 0.125, 1: 0.25, 2: 0.0, 3: 0.5, 4: 0.25, 5: 0.125, 6: 0.0, 7: 0.0}
    assert gains == pytest.approx({ids[n]: share * strength for n, share in right.items()})
    even = store.recall(cue, k=8, where={"even": True}, blend=blend)
    strength = even.items[0].score - blend.threshold
    assert {i.episode.id: i.parts.context for i in even} == pytest.approx({ids[n]: right[n] * strength for n in (0, 2, 4, 6)})


def test_recall_of_an_empty_store_or_an_empty_choice_is_empty(store: Episodes) -> None:
    assert len(store.recall("anything")) == 0
    talk(store)
    found = store.recall("anything", since="2030-01-01")
    assert (len(found), found.searched) == (0, 0)
    assert found.scores.shape == (0,)


def test_recall_changes_nothing(store: Episodes) -> None:
    talk(store)
    before = list(store.iterate())
    first = store.recall("pottery")
    second = store.recall("pottery")
    assert list(store.iterate()) == before
    assert first.items == second.items


def test_a_store_of_given_vectors_answers_text_by_its_words(store: Episodes) -> None:
    ids = store.remember(["the red car", "a blue boat", "no colours"], keys=directions(3))
    found = store.recall("blue", k=3)
    assert found.items[0].episode.id == ids[1]
    assert found.items[0].similarity is None
    assert len(found) == 3


# -- changing


def test_what_is_forgotten_is_gone_from_every_answer(place: str) -> None:
    with Episodes.open(place) as store, Episodes.open(place) as other:
        ids = talk(store)
        other.recall("pottery")
        assert store.forget(ids[0]) == 1
        for one in (store, other):
            assert ids[0] not in [e.id for e in one.recall("pottery class", k=10).episodes]
            assert len(one) == len(TALK) - 1
            with pytest.raises(ValueError, match=f"there is no episode {ids[0]}"):
                one.get(ids[0])
        assert store.forget(session="tuesday") == 3
        assert store.forget(where={"number": 2}) == 1
        assert [e.id for e in other.iterate()] == [ids[1], ids[3]]
        assert store.check() == []
        # an id is never given again
        assert store.remember("new") > ids[-1:]


def test_an_update_is_found_by_its_new_content_only(place: str) -> None:
    with Episodes.open(place) as store, Episodes.open(place) as other:
        ids = talk(store)
        other.recall("pottery")
        after = store.update(ids[0], text="I bought a violin.", speaker="Eve", metadata={"new": True})
        assert (after.text, after.speaker, after.metadata, after.session) == ("I bought a violin.", "Eve", {"new": True}, "monday")
        for one in (store, other):
            best = one.recall("violin", k=1).items[0]
            assert (best.episode.id, best.matched) == (ids[0], ("violin",))
            assert all("pottery" not in item.matched for item in one.recall("pottery", k=10))
            assert [e.id for e in one.iterate(where={"new": True})] == [ids[0]]
            assert [e.id for e in one.iterate(where={"number": 0})] == []
        moved = store.update(ids[0], session="tuesday", time="2023-06-09T09:00:00+02:00")
        assert moved.text == "I bought a violin."
        assert [e.id for e in other.around(ids[4], 1)[0]] == [ids[0]]
        assert store.check() == []


def test_a_new_key_takes_the_place_of_the_old(store: Episodes) -> None:
    keys = directions(6)
    ids = store.remember(keys=keys)
    store.recall(keys[0])
    store.update(ids[4], key=-keys[0])
    found = store.recall(keys[0], k=6, blend=Blend(context=None))
    assert found.episodes[-1].id == ids[4]
    assert found.items[-1].similarity == pytest.approx(-1.0)


def test_neighbours_are_those_of_the_session_in_time(store: Episodes) -> None:
    ids = talk(store)
    before, after = store.around(ids[1], 2)
    assert [e.id for e in before] == [ids[0]]
    assert [e.id for e in after] == ids[2:4]


def test_use_is_counted_when_it_is_said(store: Episodes) -> None:
    ids = talk(store)
    assert store.reinforce([ids[0], ids[2]], time="2023-07-01") == 2
    assert store.reinforce(ids[0], time="2023-07-02") == 1
    episode = store.get(ids[0])
    assert (episode.uses, episode.used) == (2, datetime(2023, 7, 2, tzinfo=UTC))
    assert store.get(ids[1]).uses == 0


def test_near_duplicates_become_the_earliest_of_them(store: Episodes) -> None:
    keys = directions(4)
    noisy = keys[0] + 0.01 * directions(1, seed=2)[0]
    ids = store.remember(keys=torch.stack([keys[0], keys[1], noisy, keys[0], keys[0]]), session=["a", "a", "a", "a", "b"])
    store.reinforce([ids[2], ids[3]], time="2024-01-01")
    done = store.consolidate(merge=0.99)
    assert (done.merged, done.dropped, done.left) == (2, 0, 3)
    assert [e.id for e in store.iterate()] == [ids[0], ids[1], ids[4]]
    kept = store.get(ids[0])
    assert (kept.strength, kept.uses, kept.used) == (3.0, 2, datetime(2024, 1, 1, tzinfo=UTC))
    assert store.consolidate(merge=0.99).merged == 0
    assert store.check() == []


def test_policies_drop_by_age_use_strength_redundancy_and_number(fresh: Fresh) -> None:
    present = datetime(2024, 1, 1, tzinfo=UTC)
    ages = [400, 200, 100, 50, 10]
    keys = directions(5)
    keys[3] = keys[1] + 0.05 * keys[3]

    def left(*policies: Any) -> list[int]:
        with Episodes.open(fresh()) as store:
            ids = store.remember(keys=keys, time=[present - timedelta(days=age) for age in ages])
            store.reinforce(ids[1], time=present - timedelta(days=5))
            store.consolidate(merge=None, policies=policies, time=present)
            return [ids.index(e.id) for e in store.iterate()]

    day = 86400.0
    assert left() == [0, 1, 2, 3, 4]
    assert left(Old(150 * day)) == [2, 3, 4]
    assert left(Unused(60 * day)) == [1, 3, 4]
    assert left(Weak(2, after=60 * day)) == [3, 4]
    assert left(Redundant(0.9)) == [0, 1, 2, 4]
    assert left(Old(300 * day), Redundant(0.9)) == [1, 2, 4]
    # ln(n/(1 - d)) - d ln(age): two meetings 200 days ago weigh as one 50 days ago
    assert left(Capacity(2)) == [3, 4]
    assert left(Capacity(3)) == [1, 3, 4]


def test_a_snapshot_is_a_store_of_its_own(fresh: Fresh, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with Episodes.open(fresh()) as store:
        ids = talk(store)
        store.reinforce(ids[0], time="2023-07-01")
        store.snapshot(copy)
        store.forget(ids[1])
        with Episodes.open(copy, create=False) as copied:
            assert [(e.session, e.speaker, e.text) for e in copied.iterate()] == TALK
            assert next(iter(copied.iterate())).uses == 1
            assert [e.text for e in copied.recall("dog", k=2).episodes] == [e.text for e in store.recall("dog", k=2).episodes]
            assert torch.equal(copied.keys([e.id for e in copied.iterate()])[0], store.keys([ids[0]])[0])
            assert copied.check() == []
        store.snapshot(copy)
        with Episodes.open(copy) as copied:
            assert len(copied) == len(TALK) - 1
        assert not list(tmp_path.glob("*.partial"))


# -- bad input


def test_an_embedder_that_fails_half_way_leaves_nothing(place: str) -> None:
    calls = Hashing(32)

    def failing(texts: list[str]) -> torch.Tensor:
        if any("bad" in text for text in texts):
            raise RuntimeError("out of tokens")
        return calls(texts)

    with Episodes.open(place, embedder=failing) as store:
        with pytest.raises(RuntimeError, match="out of tokens"):
            store.remember(["good", "bad"])
        assert len(store) == 0
        store.remember("good")
        assert len(store) == 1


def test_another_embedder_or_dim_is_refused_and_both_are_named(place: str) -> None:
    with Episodes.open(place, embedder=Hashing(32)) as store:
        store.remember("hello")
        with pytest.raises(ValueError, match=r"the keys have dim 5, the store has 32 by hashing-32"):
            store.recall(torch.ones(5))
        with pytest.raises(ValueError, match=r"the keys have dim 5, the store has 32 by hashing-32"):
            store.remember(keys=torch.ones(2, 5))
    with pytest.raises(ValueError, match=r"come from hashing-32 \(dim 32\), not from hashing-64"):
        Episodes.open(place, embedder=Hashing(64))


def test_another_model_under_the_same_name_is_refused(place: str) -> None:
    class Model:
        name = "my-model"

        def __init__(self, sign: float) -> None:
            self.sign, self.inner = sign, Hashing(32)

        def __call__(self, texts: list[str]) -> torch.Tensor:
            return self.sign * self.inner(texts)

    with Episodes.open(place, embedder=Model(1.0)) as store:
        store.remember("hello")
    with Episodes.open(place, embedder=Model(-1.0)) as store, pytest.raises(ValueError, match="my-model gives other keys than when"):
        store.recall("hello")
    with Episodes.open(place) as store, pytest.raises(ValueError, match=r"come from my-model; open it with embedder="):
        store.recall("hello")


def test_two_writers_cannot_begin_a_store_with_two_embedders(place: str) -> None:
    with Episodes.open(place, embedder=Hashing(32)) as one, Episodes.open(place, embedder=Hashing(64)) as other:
        one.remember("hello")
        with pytest.raises(ValueError, match="hashing-32"):
            other.remember("hello")
        assert len(other) == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: s.remember(""), ValueError, "the text is empty"),
        (lambda s: s.remember(["a", " \n"]), ValueError, "episode 1: the text is empty"),
        (lambda s: s.remember(), ValueError, "nothing to remember"),
        (lambda s: s.remember([1]), TypeError, "must be text, got int"),
        (lambda s: s.remember("x" * 10_000_000), ValueError, "10,000,000 characters, 1,000,000 are allowed; split it"),
        (lambda s: s.remember("bell \x07"), ValueError, r"control character U\+0007 at place 5"),
        (lambda s: s.remember("nul \x00"), ValueError, r"control character U\+0000"),
        (lambda s: s.remember("half \ud800"), ValueError, r"control character U\+D800"),
        (lambda s: s.remember("a", session=""), ValueError, "the session is empty"),
        (lambda s: s.remember("a", session="s" * 501), ValueError, "501 characters, 500 are allowed"),
        (lambda s: s.remember(["a", "b"], session=["x"]), ValueError, "2 episodes came with 1 of session"),
        (lambda s: s.remember("a", time="yesterday"), ValueError, "a time such as 2023-05-08T13:56"),
        (lambda s: s.remember("a", time=float("nan")), ValueError, "within the years 1 to 9999"),
        (lambda s: s.remember("a", time=1e300), ValueError, "within the years 1 to 9999"),
        (lambda s: s.remember("a", metadata={"x": object()}), ValueError, "what JSON can hold"),
        (lambda s: s.remember("a", metadata={"x": float("nan")}), ValueError, "what JSON can hold"),
        (lambda s: s.remember("a", metadata={"x": "y" * 200_000}), ValueError, "100,000 are allowed"),
        (lambda s: s.remember("a", metadata={1: 2}), TypeError, "mapping with text as names"),
        (lambda s: s.remember(["a"], keys=torch.ones(2, 384)), ValueError, "1 texts came with 2 keys"),
        (lambda s: s.remember(keys=torch.full((1, 384), torch.nan)), ValueError, "NaN or infinite"),
        (lambda s: s.remember(keys=torch.ones(384)), ValueError, "must be rows"),
        (lambda s: s.recall(""), ValueError, "the cue is empty"),
        (lambda s: s.recall(), ValueError, "there is no cue"),
        (lambda s: s.recall("a", k=0), ValueError, "k must be a whole number of at least 1, got 0"),
        (lambda s: s.recall("a", k=-3), ValueError, "k must be a whole number of at least 1"),
        (lambda s: s.recall("a", k=2.5), ValueError, "k must be a whole number of at least 1"),
        (lambda s: s.recall(torch.full((384,), torch.nan)), ValueError, "NaN or infinite"),
        (lambda s: s.recall(object()), TypeError, "the cue must be text or a vector"),
        (lambda s: s.recall("a", session="wednesday"), ValueError, "there is no session 'wednesday'; there are: tuesday, monday"),
        (lambda s: s.recall("a", speaker="Eve"), ValueError, "there is no speaker 'Eve'; there are: Ann, Bob"),
        (lambda s: s.recall("a", since="2024-01-02", until="2024-01-01"), ValueError, "since must be before until"),
        (lambda s: s.recall("a", where=["x"]), TypeError, "where must be a mapping"),
        (lambda s: s.recall("a", where={"x": {"y": 1}}), TypeError, "text, numbers, true, false or null"),
        (lambda s: s.recall("a", where={"x": "y" * 300}), ValueError, "up to 200 characters"),
        (lambda s: s.forget(), ValueError, "would forget everything"),
        (lambda s: s.forget(99), ValueError, "there is no episode 99"),
        (lambda s: s.forget([1, 99]), ValueError, "there is no episode 99"),
        (lambda s: s.forget(1, session="monday"), ValueError, "not both"),
        (lambda s: s.get(0), ValueError, "whole numbers from 1"),
        (lambda s: s.update(99, text="b"), ValueError, "there is no episode 99"),
        (lambda s: s.update(1, text=""), ValueError, "the text is empty"),
        (lambda s: s.consolidate(merge=1.5), ValueError, "a cosine in"),
        (lambda s: s.iterate(batch=0), ValueError, "batch must be"),
        (lambda s: s.snapshot("/nowhere/at/all.db"), FileNotFoundError, "there is no folder"),
    ],
)
def test_bad_input_has_one_clear_answer_and_changes_nothing(
    store: Episodes, call: Callable[[Episodes], Any], error: type[Exception], message: str
) -> None:
    talk(store)
    before = list(store.iterate())
    with pytest.raises(error, match=message):
        call(store)
    assert list(store.iterate()) == before
    assert store.check() == []


def test_a_closed_store_says_so(place: str) -> None:
    store = Episodes.open(place)
    store.close()
    store.close()
    with pytest.raises(ValueError, match="is closed; open it again"):
        store.recall("a")


def test_nothing_is_begun_where_a_store_is_asked_for(place: str) -> None:
    with pytest.raises(OSError, match="there is no store"):
        Episodes.open(place, create=False)


# -- several at once


def test_each_follows_what_the_others_write(place: str) -> None:
    with Episodes.open(place) as one, Episodes.open(place) as other:
        first = one.remember("alpha centauri")
        assert other.recall("alpha").episodes[0].id == first[0]
        second = other.remember("beta pictoris", session="stars")
        assert one.recall("beta", k=1).episodes[0].id == second[0]
        other.update(first[0], text="gamma ray")
        assert one.recall("gamma", k=1).items[0].matched == ("gamma",)
        one.forget(second[0])
        assert [e.id for e in other.recall("beta", k=5).episodes] == first
        for count in range(20):
            (one if count % 2 else other).remember(f"number {count}")
        assert len(one) == len(other) == 21
        assert [e.text for e in one.recall("number 7", k=1).episodes] == ["number 7"]
