"""The read of a bank with a drifting context is contiguous and prefers the next item, without any training (Howard & Kahana 2002)."""

import torch

from ammon.experiments.read_contiguity import EXPERIMENT, reader

LENGTH = 12


def by_lag(*, share: float, hops: int = 1, beta_rec: float = 0.9) -> dict[int, float]:
    """The read weights of the other items by lag, of orthonormal items asked for one by one."""
    # items with an entry of their own; one more for the context at first
    memory = reader(torch.eye(LENGTH + 1)[LENGTH], LENGTH, beta=0.6, beta_rec=beta_rec, share=share, match=4.0, hops=hops).double()
    assert memory.context is not None
    items = torch.eye(LENGTH + 1, dtype=torch.float64)[:LENGTH]
    _, state = memory(items[None])
    held = state.select(torch.zeros(LENGTH, dtype=torch.int64))
    # so that the end of the list favours no item, each asks from the first context
    held = type(held)(held.slots, memory.context.begin(LENGTH, torch.float64), held.seen, held.open, held.pooled)
    weights = memory.weights(items[:, None], held)[:, 0, 0].detach() * (1 - torch.eye(LENGTH))
    middle = slice(4, 8)
    return {
        lag: float(torch.stack([weights[i, i + lag] / weights[i].sum() for i in range(LENGTH)[middle]]).mean())
        for lag in (-3, -2, -1, 1, 2, 3)
    }


def test_reads_fall_off_with_lag_on_both_sides_and_the_next_item_comes_first() -> None:
    found = by_lag(share=0.5)
    assert found[1] > found[2] > found[3]
    assert found[-1] > found[-2] > found[-3]
    assert found[1] > found[-1]
    assert max(found.values()) == found[1]


def test_the_items_own_input_looks_forward_and_the_context_it_was_studied_in_both_ways() -> None:
    own, studied = by_lag(share=1e-6), by_lag(share=1 - 1e-6)
    # its own input is in the contexts after it, and in none before
    assert own[1] > 1.2 * own[-1]
    # overlaps of study contexts depend on the distance alone
    assert studied[-1] / studied[1] > own[-1] / own[1]
    assert studied[-1] > own[-1]
    # the shares between: the more of the studied context, the more backward
    backward = [by_lag(share=share)[-1] / by_lag(share=share)[1] for share in (0.1, 0.5, 0.9)]
    assert backward == sorted(backward)


def test_overlaps_of_study_contexts_with_orthonormal_inputs_are_powers_of_rho() -> None:
    memory = reader(torch.eye(LENGTH + 1)[LENGTH], LENGTH, beta=0.6, beta_rec=0.5, share=0.5, match=4.0, hops=1).double()
    assert memory.context is not None
    items = torch.eye(LENGTH + 1, dtype=torch.float64)[None, :LENGTH]
    _, state = memory(items)
    contexts = state.slots.contexts[0, :, 0]
    distance = (torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)).abs()
    torch.testing.assert_close(contexts @ contexts.mT, (0.8**distance).double(), rtol=1e-6, atol=1e-6)


def test_the_experiment_finds_the_same_with_random_items() -> None:
    table = EXPERIMENT.run({"hops": [1], "share": [0.5]}, trials=20)
    weight = dict(zip(table["lag"].to_pylist(), table["weight"].to_pylist(), strict=True))
    low, high = (dict(zip(table["lag"].to_pylist(), table[f"weight_{end}"].to_pylist(), strict=True)) for end in ("low", "high"))
    assert low[1] > high[-1] > 0
    assert low[1] > high[2]
    assert weight[-1] > weight[-2]
    assert EXPERIMENT.draw(table).axes
