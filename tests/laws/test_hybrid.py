"""Laws of the gated block: how sources are mixed, what it starts as, and what is recorded of its gates."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ammon.analysis.plots import gates
from ammon.nn.attention import Attention
from ammon.nn.episodic import EpisodicMemory
from ammon.nn.hybrid import Hybrid, record_gates
from ammon.nn.segments import Segments

DIM, BATCH, TIME = 8, 2, 13


def memories() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {"attention": Attention(DIM, 2, 4), "episodic": EpisodicMemory(DIM, 2, 16)}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_block_is_its_equation() -> None:
    for gate in ("sigmoid", "softmax"):
        for per, groups in (("token", 1), ("head", 4), ("channel", DIM)):
            block = Hybrid(memories(), gate, per, 4).double()  # type: ignore[arg-type]
            x = draw(BATCH, TIME, DIM)
            normed = block.norm(x)
            sources = [norm(layer(normed)[0]) for norm, layer in zip(block.norms, block.memories.layers.values(), strict=True)]
            scores = block.gate.weigh(torch.cat([normed, *sources], -1)).reshape(BATCH, TIME, 2, groups)
            gates = scores.sigmoid() if gate == "sigmoid" else scores.softmax(2)
            wide = gates.repeat_interleave(DIM // groups, -1)
            torch.testing.assert_close(block(x)[0], x + sum(wide[:, :, i] * source for i, source in enumerate(sources)))


@pytest.mark.parametrize("gate", ["sigmoid", "softmax"])
def test_a_block_starts_near_no_memory_or_where_it_is_told(gate: Any) -> None:
    x = torch.randn(BATCH, TIME, DIM)
    for start, expected in ((None, (0.9, 0.1)), (0.5, (0.5, 0.5)), ({"attention": 0.6, "episodic": 0.4}, (0.6, 0.4))):
        block = Hybrid(memories(), gate, start=start)  # type: ignore[arg-type]
        with torch.no_grad():
            block.gate.weigh.weight.zero_()
        with record_gates(block) as traces:
            block(x)
        (trace,) = traces.values()
        assert list(trace.mean) == ["attention", "episodic"]
        assert tuple(trace.mean.values()) == pytest.approx(expected)


def test_gates_are_recorded_only_meanwhile_one_trace_for_each_block() -> None:
    model = nn.ModuleDict({"first": Hybrid(memories()), "second": Hybrid(memories(), "softmax", "head", 2, start=0.5)})
    x = torch.randn(BATCH, TIME, DIM)
    with record_gates(model) as traces:
        state = None
        for some in x.split([5, 8], 1):
            _, state = model["first"](some, state)
        model["second"](x)
    model["first"](x)
    assert list(traces) == ["first", "second"]
    for trace in traces.values():
        assert trace.gates.shape == (BATCH, TIME, 2)
        assert not trace.gates.requires_grad
    with record_gates(model["first"]) as whole:
        model["first"](x)
    torch.testing.assert_close(traces["first"].gates, whole[""].gates)
    shares = traces["second"].gates
    torch.testing.assert_close(shares.sum(-1), torch.ones(BATCH, TIME))
    torch.testing.assert_close(traces["second"].entropy, -(shares * shares.log()).sum(-1))
    assert float(traces["second"].entropy.max()) <= math.log(2) + 1e-6
    with pytest.raises(ValueError, match="no gated block"), record_gates(nn.Linear(2, 2)):
        pass


def test_gates_are_drawn_over_the_text() -> None:
    block = Hybrid(memories())
    with record_gates(block) as traces:
        block(torch.randn(BATCH, TIME, DIM))
    figure = gates(traces, list("hello, world!"), row=1, title="Gates")
    panel = figure.axes[0]
    assert [label.get_text() for label in panel.get_xticklabels()] == list("hello, world!")
    assert [label.get_text().split()[0] for label in panel.get_yticklabels()] == ["attention", "episodic"]
    torch.testing.assert_close(torch.tensor(panel.images[0].get_array()), traces[""].gates[1].T)
    with pytest.raises(ValueError, match="13 gates were recorded in a row, got 2 tokens"):
        gates(traces, ["a", "b"])
    with record_gates(block) as none:
        pass
    with pytest.raises(ValueError, match="no gate was recorded"):
        gates(none, [])


def test_segments_of_the_caller_reach_the_memories_that_write_them() -> None:
    episodic = EpisodicMemory(DIM, 2, 16, Segments())
    block = Hybrid({"attention": Attention(DIM, 2), "episodic": episodic}).double()
    x, boundary = draw(BATCH, TIME, DIM), torch.zeros(BATCH, TIME, dtype=torch.bool)
    boundary[:, 6] = True
    _, state = block(x, boundary=boundary)
    assert state.parts[1].slots.there.sum(1).tolist() == [1, 1]
    assert state.parts[1].slots.times.amax(1).tolist() == [6, 6]


def test_what_makes_no_block_and_states_of_other_blocks_are_refused() -> None:
    for arguments, message in (
        (({},), "at least 1 named memories are needed"),
        (({"a": Attention(8), "b": Attention(16)},), "layers of one dim, got a: 8, b: 16"),
        (({"a": nn.Linear(8, 8)},), "layers of one dim, got a: None"),
        ((memories(), "tanh"), "gate must be"),
        ((memories(), "sigmoid", "row"), "per must be"),
        ((memories(), "sigmoid", "head", 3), "multiple of heads, got 8 and 3"),
        ((memories(), "sigmoid", "token", 1, 1.0), r"start of attention must be in \(0, 1\), got 1.0"),
        ((memories(), "sigmoid", "token", 1, {"neural": 0.5}), "start names neural; there are attention, episodic"),
    ):
        with pytest.raises(ValueError, match=message):
            Hybrid(*arguments)  # type: ignore[arg-type]
    x = torch.randn(BATCH, TIME, DIM)
    _, state = Hybrid(memories())(x)
    with pytest.raises(ValueError, match="the state is of 2 memories, the block has 1"):
        Hybrid({"attention": Attention(DIM, 2, 4)})(x, state)
    with pytest.raises(TypeError, match="must be a EpisodicState, got a AttentionState"):
        Hybrid(dict(reversed(memories().items())))(x, state)
