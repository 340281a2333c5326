"""Laws of the bridge to attention: CMR's recalls are reads of key-value memories, and its choice is softmax attention."""

from dataclasses import replace

import pytest
import torch

from ammon.cmr.key_value import circuit
from ammon.cmr.layers import ItemCue, Pool
from ammon.cmr.likelihood import SmoothFloor
from ammon.cmr.lists import once
from ammon.cmr.model import CMR
from ammon.cmr.parameters import as_rows
from ammon.cmr.study import kinds, study
from ammon.dynamics.drift import drift
from ammon.experiments import induction

STUDY = {
    "beta_enc": 0.6, "beta_start": 0.3, "learn_fc": 0.3, "learn_cf": 0.4, "primacy_scale": 0.7, "primacy_decay": 0.9, "temperature": 0.4,
}  # fmt: skip
VALUES = {**STUDY, "beta_rec": 0.8, "stop_scale": 0.0, "stop_growth": 0.0}


@pytest.mark.parametrize("previous", [False, True])
def test_supports_and_matches_are_reads_of_two_key_value_memories(previous: bool) -> None:
    length = 6
    heads = circuit(length, **STUDY, previous=previous)
    lists = once([length])
    rows, _ = as_rows(VALUES, CMR().needs, ["temporal"], "test")
    of = kinds(lists, CMR().layers, None, "test")
    reads = study(rows, of.of, of, CMR().layers, length, "additive", "previous" if previous else "new")
    torch.testing.assert_close(reads.begin[0, 0, length + 1 :], heads.supports(heads.context[None])[0], rtol=0, atol=1e-14)
    brought = heads.brought(torch.eye(length, dtype=torch.float64))
    torch.testing.assert_close(reads.begin[0, 0, :length], brought @ heads.context, rtol=0, atol=1e-14)
    torch.testing.assert_close(reads.table[0, :length, 0, length + 1 :], 0.8 * heads.supports(brought), rtol=0, atol=1e-14)


@pytest.mark.parametrize("previous", [False, True])
def test_the_choice_is_softmax_attention_with_recalled_items_masked_and_similarity_as_bias(previous: bool) -> None:
    length = 5
    scores = torch.rand(length, length, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pool = Pool(tuple(f"item {n + 1}" for n in range(length)), scores)
    model = CMR(semantics=ItemCue(pool), association="previous" if previous else "new", floor=SmoothFloor(0.0))
    heads = circuit(length, **STUDY, previous=previous)
    items = torch.eye(length, dtype=torch.float64)
    so_far = [3, 1]
    lists = replace(once([length] * 3), recalls=torch.tensor([[*so_far, unit] for unit in (0, 2, 4)]))
    events = model.log_likelihood(lists, {**VALUES, "semantic": 0.5}).events.exp()
    context, left = heads.context[None], torch.ones(1, length, dtype=torch.bool)
    bias = None
    for output, unit in enumerate(so_far):
        attention = heads.attention(context, left, bias)
        torch.testing.assert_close(attention[0, unit] * (1 - 1e-6), events[0, output], rtol=1e-12, atol=0)
        left[0, unit] = False
        context = drift(context, heads.brought(items[unit : unit + 1]), 0.8)
        bias = 0.5 * scores[unit : unit + 1]
    torch.testing.assert_close(heads.attention(context, left, bias)[0, [0, 2, 4]] * (1 - 1e-6), events[:, 2], rtol=1e-12, atol=0)


def test_bound_to_the_context_before_and_with_full_drift_cmr_is_an_induction_head() -> None:
    # match: the last occurrence of the item; copy: what came after it
    heads = circuit(
        6, beta_enc=1.0, beta_start=0.0, learn_fc=0.0, learn_cf=1.0, primacy_scale=0.0, primacy_decay=1.0, temperature=1e-3, previous=True
    )
    items = torch.eye(6, dtype=torch.float64)
    query = drift(heads.context.expand(6, -1), heads.brought(items), 1.0)
    torch.testing.assert_close(heads.attention(query[:5], items[:5] == 0), items[1:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("association", ["new", "previous"])
def test_attention_that_matches_and_copies_has_the_lags_of_cmr(association: str) -> None:
    rows = induction.run({"association": (association,)}, trials=20_000, workers=1).to_pylist()
    # ten lags, each within 4 standard errors of its draws
    for row in rows:
        error = (row["recall_high"] - row["recall_low"]) / (2 * 1.96)
        assert abs(row["attention"] - row["recall"]) <= 4 * max(error, 1e-4)
    crp = {row["lag"]: row["attention"] for row in rows}
    assert crp[1] > crp[2] > crp[3]
    assert crp[1] > crp[-1] > crp[-2]
