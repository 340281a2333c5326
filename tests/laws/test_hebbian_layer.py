"""The dense bank of items and contexts is its recurrence, token after token, in float64."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ammon.dynamics.drift import direction, drift
from ammon.nn import hebbian
from ammon.nn.drifting import Drift
from ammon.nn.hebbian import HebbianMemory


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("association", ["new", "previous"])
def test_the_layer_is_its_recurrence_over_blocks_of_any_size(association: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    memory = HebbianMemory(8, 2, Drift(8, 2, 3, association=association), decay=0.1).double()  # type: ignore[arg-type]
    with torch.no_grad():
        memory.reinstated.copy_(draw(2))
        memory.drift.copy_(draw(2, seed=1))
    x = draw(2, 17, 8)
    keep = (1 - torch.sigmoid(memory.forget))[:, None, None]
    fc, cf = torch.zeros(2, 2, 4, 3).double(), torch.zeros(2, 2, 3, 4).double()
    context, truth = memory.context.begin(2, torch.float64), []
    share, beta = torch.sigmoid(memory.reinstated)[:, None], torch.sigmoid(memory.drift)
    for token in x.unbind(1):
        q, k, v = memory.project(token).unflatten(-1, (3, 2, -1)).unbind(1)
        inputs = direction(memory.context.project(token).unflatten(-1, (2, -1)))
        before, context = context, drift(context, inputs, torch.sigmoid(memory.context.share))
        bound = before if association == "previous" else context
        fc = keep * fc + normalize(k, dim=-1)[..., None] * bound[..., None, :]
        cf = keep * cf + bound[..., None] * v[..., None, :]
        brought = (normalize(q, dim=-1)[..., None, :] @ fc).squeeze(-2)
        cue = drift(context, direction((1 - share) * inputs + share * brought), beta)
        truth.append(memory.out(memory.norm((cue[..., None, :] @ cf).squeeze(-2)).flatten(1)))
    for block in (64, 5, 1):
        monkeypatch.setattr(hebbian, "BLOCK", block)
        y, state = memory(x)
        torch.testing.assert_close(y, torch.stack(truth, 1))
        torch.testing.assert_close(state.contexts_of_items, fc)
        torch.testing.assert_close(state.items_of_contexts, cf)


def test_reading_only_binds_and_fades_nothing() -> None:
    memory, x = HebbianMemory(8, 2).double(), draw(2, 9, 8)
    _, state = memory(x)
    y, after = memory(x, state, mode="read-only")
    assert y.any()
    assert torch.equal(after.items_of_contexts, state.items_of_contexts)
    y, written = memory(x, state, mode="write-only")
    assert not y.any()
    torch.testing.assert_close(written.items_of_contexts, memory(x, state)[1].items_of_contexts)


def test_arguments_that_make_no_dense_bank_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of heads, got 8 and 3"):
        HebbianMemory(8, 3)
    with pytest.raises(ValueError, match=r"decay must be in \(0, 1\), got 1"):
        HebbianMemory(8, decay=1.0)
    with pytest.raises(ValueError, match="the context has 1 heads, the memory 2"):
        HebbianMemory(8, 2, Drift(8, 1, 3))
