"""Tasks are drawn from the generator alone, and what is asked can be known from what was said before: by a plain reader."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from ammon.datasets.tasks import EXCEPTION, IGNORED, RULE, SEEN, Questions, associative_recall, copying, passkey, rule_and_exceptions

Draw = Callable[..., Questions]
TASKS: dict[str, Draw] = {
    "recall": partial(associative_recall, length=30, pairs=5, vocabulary=24),
    "rebinding": partial(associative_recall, length=40, pairs=4, vocabulary=24, bindings=3),
    "passkey": partial(passkey, length=60, needles=5, distance=20, words=16),
    "passkey, one needle": partial(passkey, length=60, needles=1, distance=20, words=16),
    "passkey, no room to spare": partial(passkey, length=35, needles=5, distance=20, words=16),
    "copying": partial(copying, length=20, vocabulary=9),
    "rule": partial(rule_and_exceptions, questions=30),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", TASKS)
def test_the_same_generator_draws_the_same_batch_and_no_other_randomness_is_used(name: str) -> None:
    first = TASKS[name](8, generator=generator())
    torch.manual_seed(torch.seed())
    again, other = TASKS[name](8, generator=generator()), TASKS[name](8, generator=generator(1))
    assert torch.equal(first.tokens, again.tokens)
    assert torch.equal(first.targets, again.targets)
    assert not torch.equal(first.tokens, other.tokens)
    assert first.tokens.shape == first.targets.shape == first.kinds.shape
    assert first.tokens.dtype == torch.int64


@pytest.mark.parametrize("name", ["recall", "rebinding", "passkey", "passkey, one needle", "passkey, no room to spare"])
def test_a_reader_who_notes_what_follows_each_key_answers_all(name: str) -> None:
    drawn = TASKS[name](50, generator=generator(2))
    keys = 12 if name.startswith("re") else 16
    for tokens, targets in zip(drawn.tokens.tolist(), drawn.targets.tolist()):
        notes: dict[int, int] = {}
        for place, token in enumerate(tokens):
            if targets[place] != IGNORED:
                assert notes[token] == targets[place]
            elif token < keys:
                notes[token] = tokens[place + 1]


def test_each_key_is_bound_as_often_as_said_to_another_value_each_time() -> None:
    drawn = TASKS["rebinding"](20, generator=generator(3))
    for tokens in drawn.tokens[:, :24].reshape(20, 12, 2).tolist():
        bound: dict[int, list[int]] = {}
        for key, value in tokens:
            bound.setdefault(key, []).append(value)
        assert {len(values) for values in bound.values()} == {3}
        assert all(len(set(values)) == 3 for values in bound.values())


def test_needles_stand_the_distance_before_the_questions() -> None:
    drawn = TASKS["passkey"](50, generator=generator(4))
    needles = (drawn.tokens < 32)[:, : 60 - 5]
    assert int(needles.sum()) == 50 * 5 * 2
    assert not needles[:, 60 - 5 - 20 :].any()
    assert needles[:, 60 - 5 - 21].any()


def test_copying_asks_for_the_text_from_the_text() -> None:
    drawn = TASKS["copying"](5, generator=generator(5))
    text = drawn.tokens[:, :10]
    assert torch.equal(drawn.targets[:, 10:], text)
    assert torch.equal(drawn.tokens[:, 11:], text[:, :-1])
    assert not drawn.tokens[:, 10].any()
    assert text.all()


def test_examples_follow_the_table_exceptions_do_not_and_rule_questions_were_not_shown() -> None:
    drawn = TASKS["rule"](40, generator=generator(6))
    for tokens, targets, kinds in zip(drawn.tokens.tolist(), drawn.targets.tolist(), drawn.kinds.tolist()):
        shown = dict(zip(tokens[:40:2], tokens[1:40:2]))
        assert len(shown) == 20
        # the value that most keys of a class were shown with
        table = {c: max(values := [v for k, v in shown.items() if k % 4 == c], key=values.count) for c in {k % 4 for k in shown}}
        odd = {key for key, value in shown.items() if value != table[key % 4]}
        for key, target, kind in zip(tokens[40:], targets[40:], kinds[40:]):
            if kind == RULE:
                assert key not in shown
            else:
                assert target == shown[key]
            if kind == EXCEPTION and len(odd) == 4:
                assert key in odd
            if kind == SEEN and len(odd) == 4:
                assert key not in odd
    asked = torch.bincount(drawn.kinds[:, 40:].flatten(), minlength=3) / (40 * 30)
    # three standard errors of shares of 1200 draws
    torch.testing.assert_close(asked, torch.tensor([0.5, 0.25, 0.25]), rtol=0, atol=0.045)


@pytest.mark.parametrize(
    "draw",
    [
        partial(associative_recall, pairs=40),
        partial(associative_recall, length=8),
        partial(passkey, length=40),
        partial(copying, length=1),
        partial(rule_and_exceptions, examples=30),
    ],
)
def test_sizes_that_make_no_task_are_refused(draw: Draw) -> None:
    with pytest.raises(ValueError, match="are needed; change the sizes"):
        draw(2, generator=generator())
