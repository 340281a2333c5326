"""Tasks: sequences that are solved only by what they said before. Each function draws a batch; the same generator, the same batch.

Tokens [batch, time]; targets [batch, time] are -100 where nothing is asked; kinds [batch, time] tell questions of different kinds apart.
Keys and values are drawn anew for each sequence, so nothing can be known from training but how to remember.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

IGNORED = -100


@dataclass(frozen=True)
class Questions:
    """A batch of sequences with questions in them."""

    tokens: Tensor
    targets: Tensor
    kinds: Tensor  # 0 where there is one kind of question


def associative_recall(
    batch: int, *, length: int = 64, pairs: int = 4, vocabulary: int = 64, bindings: int = 1, generator: torch.Generator
) -> Questions:
    """Multi-query associative recall (Arora et al. 2023): key, value, key, value, ...; then keys, each asking for its value.

    bindings: so often each key is bound, to a new value each time, in a random order; asked is the newest. Keys are the first half of the
    vocabulary. Denser than the paper's: every token after the pairs is a question.
    """
    half, written = vocabulary // 2, 2 * pairs * bindings
    _check("associative_recall", pairs <= half and bindings <= half, f"at most {half} pairs of a vocabulary of {vocabulary}")
    _check("associative_recall", length > written, f"a length beyond the {written} tokens of the pairs, got {length}")
    keys = _distinct(batch, half, pairs, generator)
    values = half + _distinct(batch * pairs, half, bindings, generator).reshape(batch, pairs, bindings)
    # a random order of all bindings; the n-th time that a key comes it takes its n-th value
    order = torch.argsort(torch.rand(batch, pairs * bindings, generator=generator), dim=1) % pairs
    times = (order[:, :, None] == order[:, None, :]).tril(-1).sum(-1)
    bound = torch.stack([keys.gather(1, order), values[torch.arange(batch)[:, None], order, times]], -1).flatten(1)
    asked = torch.randint(pairs, (batch, length - written), generator=generator)
    tokens = torch.cat([bound, keys.gather(1, asked)], 1)
    targets = torch.full_like(tokens, IGNORED)
    targets[:, written:] = values[:, :, -1].gather(1, asked)
    return Questions(tokens, targets, torch.zeros_like(tokens))


def passkey(
    batch: int, *, length: int = 96, needles: int = 8, distance: int = 32, words: int = 64, generator: torch.Generator
) -> Questions:
    """Needles, a key and its value each, scattered among filler; at the end the keys, each asking for its value.

    distance: at least so many tokens stand between the last needle and the first question. There are `words` keys, values and fillers each.
    """
    hay = length - needles - distance
    _check("passkey", needles <= words and 2 * needles <= hay, f"{2 * needles} tokens of needles among the first {hay} of {length}")
    keys = _distinct(batch, words, needles, generator)
    values = words + torch.randint(words, (batch, needles), generator=generator)
    tokens = 2 * words + torch.randint(words, (batch, length), generator=generator)
    # places of needles in a text in which each is one token long, then moved apart
    places = _distinct(batch, hay - needles, needles, generator).sort(1).values + torch.arange(needles)
    tokens.scatter_(1, places, keys).scatter_(1, places + 1, values)
    asked = torch.argsort(torch.rand(batch, needles, generator=generator), dim=1)
    tokens[:, length - needles :] = keys.gather(1, asked)
    targets = torch.full_like(tokens, IGNORED)
    targets[:, length - needles :] = values.gather(1, asked)
    return Questions(tokens, targets, torch.zeros_like(tokens))


def copying(batch: int, *, length: int = 64, vocabulary: int = 64, generator: torch.Generator) -> Questions:
    """A random text, a sign (token 0), and the same text again; asked is each token of the second time from those before it."""
    half = length // 2
    _check("copying", half >= 1 and vocabulary >= 3, "a length of at least 2 and a vocabulary of at least 3")
    text = torch.randint(1, vocabulary, (batch, half), generator=generator)
    tokens = torch.cat([text, torch.zeros(batch, 1, dtype=torch.int64), text[:, :-1]], 1)
    targets = torch.cat([torch.full_like(text, IGNORED), text], 1)
    return Questions(tokens, targets, torch.zeros_like(tokens))


RULE, EXCEPTION, SEEN = 0, 1, 2


def rule_and_exceptions(
    batch: int,
    *,
    examples: int = 16,
    exceptions: int = 4,
    classes: int = 4,
    words: int = 32,
    questions: int = 40,
    generator: torch.Generator,
) -> Questions:
    """A table gives each class of keys (key mod classes) a value; examples follow it, and exceptions do not. Then keys ask.

    Kinds of questions: 0 (`RULE`) a key that was not shown, 1 (`EXCEPTION`) an exception, 2 (`SEEN`) an example. There are `words` keys and
    values. Half of the questions are of kind 0, a quarter each of the others; the table is new in each sequence.
    """
    shown = examples + exceptions
    _check("rule_and_exceptions", shown < words and classes <= words, f"fewer than {words} pairs, got {shown}")
    table = _distinct(batch, words, classes, generator)
    keys = _distinct(batch, words, words, generator)
    values = table.gather(1, keys % classes)
    # an exception has another value than its class
    moved = (values + 1 + torch.randint(words - 1, values.shape, generator=generator)) % words
    first = torch.arange(words) < exceptions
    values = words + torch.where(first, moved, values)
    order = torch.argsort(torch.rand(batch, shown, generator=generator), dim=1)
    told = torch.stack([keys.gather(1, order), values.gather(1, order)], -1).flatten(1)
    kinds = torch.tensor([RULE, RULE, EXCEPTION, SEEN])[torch.randint(4, (batch, questions), generator=generator)]
    starts, sizes = torch.tensor([shown, 0, exceptions])[kinds], torch.tensor([words - shown, exceptions, examples])[kinds]
    asked = starts + (torch.rand(batch, questions, generator=generator) * sizes).long()
    tokens = torch.cat([told, keys.gather(1, asked)], 1)
    targets = torch.cat([torch.full_like(told, IGNORED), values.gather(1, asked)], 1)
    return Questions(tokens, targets, torch.cat([torch.zeros_like(told), kinds], 1))


def _distinct(rows: int, of: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` different numbers below `of` in each row."""
    return torch.argsort(torch.rand(rows, of, generator=generator), dim=1)[:, :count]


def _check(where: str, holds: bool, needed: str) -> None:
    if not holds:
        raise ValueError(f"{where}: {needed} are needed; change the sizes.")
