"""How far back the same words stood, against a plain search."""

import pytest
import torch

from ammon.analysis.recurrence import last_occurrence


@pytest.mark.parametrize("context", [0, 1, 3, 30])
def test_the_last_occurrence_is_that_of_a_plain_search(context: int) -> None:
    tokens = torch.randint(4, (300,), generator=torch.Generator().manual_seed(context))
    words = tokens.tolist()
    expected = []
    for place in range(300):
        same = (
            [k for k in range(context, place) if words[k - context : k + 1] == words[place - context : place + 1]]
            if place >= context
            else []
        )
        expected.append(place - same[-1] if same else 0)
    assert last_occurrence(tokens, context).tolist() == expected


def test_short_texts_have_no_past_and_a_negative_context_is_refused() -> None:
    assert last_occurrence(torch.tensor([1, 1]), 5).tolist() == [0, 0]
    with pytest.raises(ValueError, match="at least 0"):
        last_occurrence(torch.tensor([1, 1]), -1)
