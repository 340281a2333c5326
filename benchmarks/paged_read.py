"""Reads of a long episodic bank by pages against its exact read: the time of a step and of a parallel pass, and what is found.

Before a time is taken, the same bank read with all of its pages must give the exact read. What few pages leave out is no error but the
choice: it is measured beside, as the share of cues whose best item stands in a page that is read, and the share of the exact read's
weight that stands there.
"""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from ammon.nn.episodic import EpisodicMemory, EpisodicState
from ammon.nn.paging import Paging
from benchmarks.report import Report, Row
from benchmarks.timing import Unequal, here, race

DIM, HEADS, TIME, SIZE, PROBES = 256, 4, 1024, 16, 8
TOLERANCE = 1e-4
# items, entries, cues of the search
ITEMS, ENTRIES, CUES = 4096, 64, 2048


@torch.no_grad()
def ours(memory: EpisodicMemory, x: Tensor, state: EpisodicState, mode: str) -> Tensor:
    read: Tensor = memory(x, state, mode=mode)[0]
    return read


def trained(memory: EpisodicMemory, x: Tensor) -> Tensor:
    """A pass over x from nothing and its gradient."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(memory(x)[0].square().sum(), x)
    return gradient


def alike(slots: int) -> list[EpisodicMemory]:
    """The exact read, that of a few pages and that of all, with the same weights."""
    made = [EpisodicMemory(DIM, HEADS, slots, paging=paging) for paging in (None, Paging(SIZE, PROBES), Paging(SIZE, slots // SIZE))]
    for memory in made[1:]:
        memory.load_state_dict(made[0].state_dict())
    return made


def measure(quick: bool, threads: int) -> Report:
    torch.manual_seed(0)
    rows = []
    for slots in (1024, 4096) if quick else (1024, 4096, 16384, 65536):
        exact, few, every = alike(slots)
        with torch.no_grad():
            past = torch.randn(1, slots, DIM)
            states = [memory(past, mode="write-only")[1] for memory in (exact, few)]
        token, text = torch.randn(1, 1, DIM), torch.randn(1, TIME // 4 if quick else TIME, DIM)
        _check(ours(exact, text[:, :4], states[0], "read-only"), ours(every, text[:, :4], states[1], "read-only"))
        for work, x, mode in (
            ("one token reads", token, "read-only"),
            ("one token more", token, "read-write"),
            ("a pass reads", text, "read-only"),
        ):
            ways = {
                "few": here(partial(ours, few, x, states[1], mode)),
                "exact": here(partial(ours, exact, x, states[0], mode)),
            }
            timings = race(ways, lambda results: None, repeats=3 if quick or slots > 16384 else 7)
            rows.append(Row(f"{work}, {slots} slots", timings["few"], "exact read", timings["exact"]))
        if slots == 4096:
            ways = {"few": here(partial(trained, few, text)), "exact": here(partial(trained, exact, text))}
            timings = race(ways, lambda results: None, repeats=3)
            rows.append(Row(f"a pass and its gradient, {slots} slots", timings["few"], "exact read", timings["exact"]))
    return Report(
        f"Episodic memory by pages, the best {PROBES} of {SIZE} items",
        rows,
        f"B = 1, d = {DIM}, H = {HEADS}, a pass is {text.shape[1]} tokens, float32, not compiled; {threads} threads; 3 to 7 turns; "
        "median (least).",
        found(ITEMS // 4 if quick else ITEMS),
    )


def _check(exact: Tensor, every: Tensor) -> None:
    error = float((every - exact).abs().max() / exact.abs().max())
    if not error <= TOLERANCE:
        raise Unequal(f"paged_read: with all pages read the layer and its exact read differ by {error:.1e}; {TOLERANCE:g} is allowed.")


def found(items: int) -> list[str]:
    """What is found, of items in several orders: a line for each."""
    draws = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return functional.normalize(torch.randn(*shape, generator=draws), dim=-1)

    # a topic is a direction, and an item of it lies at a cosine of about .7
    topics, own = draw(items // 32, ENTRIES), draw(items, ENTRIES)
    topic = torch.arange(items) // 32
    spread = torch.randperm(items, generator=draws)
    cases = {
        "random keys": own,
        "topics of 32 items in a row": functional.normalize(topics[topic] + own, dim=-1),
        "the same items in any order": functional.normalize(topics[topic] + own, dim=-1)[spread],
    }
    lines = []
    for name, keys in cases.items():
        for noise in (0.0, 1.0):
            wanted = torch.randint(items, (CUES,), generator=draws)
            cues = keys[wanted] + noise * draw(CUES, ENTRIES)
            parts = [f"{probes}: {best:.3f} / {weight:.3f}" for probes, best, weight in shares(keys, cues)]
            lines.append(f"{name}, cues with noise {noise:g}: " + "; ".join(parts))
    kept = "share of cues whose best item is read / share of the exact read's weight that is"
    return [f"Of {items} items of {ENTRIES} entries, sharpness 16, by probes of {SIZE} items: {kept}", *lines]


@torch.no_grad()
def shares(keys: Tensor, cues: Tensor) -> list[tuple[int, float, float]]:
    """By probes: how often the best item is read, and how much of the exact read's weight."""
    answers = []
    for probes in (1, 2, 4, 8, 16, 32, 64):
        weights = []
        for paging in (None, Paging(SIZE, probes)):
            memory = EpisodicMemory(ENTRIES, 1, len(keys), paging=paging)
            eye = torch.eye(ENTRIES)
            memory.store.weight.copy_(torch.cat([eye, eye]))
            memory.read.query.weight.copy_(eye)
            _, state = memory(keys[None], mode="write-only")
            weights.append(memory.weights(cues[None], state)[0, 0])
        whole, read = weights[0], weights[1] > 0
        best = read.gather(1, whole.argmax(1, keepdim=True)).float().mean()
        answers.append((probes, float(best), float((whole * read).sum(1).mean())))
    return answers
