"""What every memory layer must do: state goes in and comes out, and how tokens are split, masked or batched changes nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ammon.learning.fast_weights import Functional, Mlp
from ammon.learning.surprise import Surprise
from ammon.nn.attention import Attention
from ammon.nn.blocks import Parallel, Series, SharedBank, stacked_cmr
from ammon.nn.drifting import Drift
from ammon.nn.episodic import EpisodicMemory
from ammon.nn.evicting import Lowest
from ammon.nn.hebbian import HebbianMemory
from ammon.nn.hierarchy import Hierarchy
from ammon.nn.hybrid import Hybrid
from ammon.nn.neural import NeuralMemory, delta_net, ttt
from ammon.nn.paging import Paging
from ammon.nn.residual import FeedForward, Residual
from ammon.nn.segments import PerToken, Segments
from ammon.nn.stack import Stack
from ammon.nn.state import State
from ammon.nn.surprising import Surprising
from ammon.nn.titans import MemoryAsContext, MemoryAsGate, MemoryAsLayer
from ammon.parts.separations import Entmax
from ammon.parts.top_k import TopK
from ammon.saving import load, load_state, save_state

DIM, BATCH, TIME = 8, 3, 23

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "attention": lambda: Attention(DIM, 2),
    "attention, window": lambda: Attention(DIM, 2, window=6, persistent=2),
    "attention, window of 1": lambda: Attention(DIM, 2, window=1, persistent=1),
    "attention, persistent": lambda: Attention(DIM, 1, persistent=3),
    "neural, linear, chunks of 1": lambda: NeuralMemory(DIM, 2, Mlp(1), Surprise(1)),
    "neural, linear, chunks of 7": lambda: NeuralMemory(DIM, 2, Mlp(1), Surprise(7), rate=3.0),
    "neural, 2 layers": lambda: NeuralMemory(DIM, 2, Mlp(2, 2), Surprise(5)),
    "neural, 3 layers, limited": lambda: NeuralMemory(DIM, 1, Mlp(3, 1), Surprise(16, limit=1.0), unit_values=True),
    "neural, no convolution": lambda: NeuralMemory(DIM, 2, Mlp(1), Surprise(4), convolution=1),
    "neural, of the user": lambda: NeuralMemory(DIM, 2, Functional(nn.Linear(4, 4)), Surprise(4)),
    "neural, token loop": lambda: NeuralMemory(DIM, 2, Mlp(2, 1), Surprise(3, form="loop")),
    "neural, orthogonal": lambda: NeuralMemory(DIM, 2, Mlp(2, 2), Surprise(5, orthogonal=5)),
    "memory as gate": lambda: MemoryAsGate(Attention(DIM, 2, 6, 2), NeuralMemory(DIM, 2, Mlp(2, 2), Surprise(5))),
    "memory as layer": lambda: MemoryAsLayer(Attention(DIM, 2), NeuralMemory(DIM, 2, Mlp(1), Surprise(4))),
    "memory as context": lambda: MemoryAsContext(NeuralMemory(DIM, 2, Mlp(2, 2), Surprise(5)), 2, 2),
    "memory as context, segments of 1": lambda: MemoryAsContext(NeuralMemory(DIM, 2, Mlp(1), Surprise(1), convolution=1), 2, 1),
    "stack": lambda: Stack([Residual(Attention(DIM, 2, 5)), FeedForward(DIM, 2), Residual(NeuralMemory(DIM, 2, Mlp(1), Surprise(4)))]),
    "delta net": lambda: delta_net(DIM, 2),
    "ttt": lambda: ttt(DIM, 2, chunk=4),
    "episodic": lambda: EpisodicMemory(DIM, 2, slots=32),
    "episodic, ring": lambda: EpisodicMemory(DIM, 2, slots=5, recency=0.1),
    "episodic, all, reads what came before": lambda: EpisodicMemory(DIM, 2, None, PerToken(own=False), strength=True),
    "episodic, top 3": lambda: EpisodicMemory(DIM, 2, 11, separation=TopK(3), recency=0.1, strength=True),
    "episodic, top 2 of many": lambda: EpisodicMemory(DIM, 2, 135, separation=TopK(2), recency=0.1),
    "episodic, top pages of a ring": lambda: EpisodicMemory(DIM, 2, 11, recency=0.1, paging=Paging(2, 2), sharpness=4.0),
    "episodic, pages of all, reads what came before, top 3": lambda: EpisodicMemory(
        DIM, 2, None, PerToken(own=False), TopK(3), paging=Paging(3, 2), sharpness=2.0
    ),
    "episodic, pages, context": lambda: EpisodicMemory(DIM, 2, 16, context=3, hops=1, match=1.0, sharpness=2.0, paging=Paging(4, 2)),
    "episodic, entmax": lambda: EpisodicMemory(DIM, 1, 11, separation=Entmax(1.5), sharpness=0.5),
    "episodic, context": lambda: EpisodicMemory(DIM, 2, 9, context=3, match=1.0, recency=0.01),
    "episodic, fading context and hops": lambda: EpisodicMemory(
        DIM, 2, 9, context=Drift(DIM, 2, 3, form="fading", association="previous"), hops=2, sharpness=2.0
    ),
    "episodic, segments of tokens": lambda: EpisodicMemory(DIM, 2, 9, Segments(4, "each"), sharpness=2.0),
    "episodic, segments by their last": lambda: EpisodicMemory(DIM, 2, 3, Segments(3, "last"), sharpness=2.0),
    "episodic, segments by their mean": lambda: EpisodicMemory(DIM, 2, None, Segments(3, "mean"), context=3, hops=1, sharpness=2.0),
    "episodic, segments by attention": lambda: EpisodicMemory(DIM, 2, 4, Segments(2, "attention"), strength=True, sharpness=2.0),
    "episodic, the weakest gives way": lambda: EpisodicMemory(DIM, 2, 5, strength=True, evict=Lowest("strength", 0.01)),
    "episodic, the least used gives way": lambda: EpisodicMemory(DIM, 2, 5, evict=Lowest("use")),
    "episodic, the most redundant gives way": lambda: EpisodicMemory(DIM, 2, 4, Segments(2), evict=Lowest("redundancy"), sharpness=2.0),
    "hierarchy, segments": lambda: Hierarchy(DIM, 2, segments=4, every=3, top=2, sharpness=2.0),
    "hierarchy, all segments by attention": lambda: Hierarchy(DIM, 2, 3, 2, None, "attention", sharpness=2.0),
    "hebbian": lambda: HebbianMemory(DIM, 2, 3, decay=0.1),
    "parallel": lambda: Parallel({"attention": Attention(DIM, 2, 4), "episodic": EpisodicMemory(DIM, 2, 9)}),
    "series": lambda: Series({"episodic": EpisodicMemory(DIM, 2, 9), "attention": Attention(DIM, 2, 4)}),
    "stacked cmr": lambda: stacked_cmr(DIM, 2, 9, context=3),
    "shared bank": lambda: SharedBank(
        EpisodicMemory(DIM, 2, 9, context=3, hops=1), {"first": Attention(DIM, 2, 4), "second": NeuralMemory(DIM, 2, Mlp(1), Surprise(4))}
    ),
    "hybrid": lambda: Hybrid(
        {
            "attention": Attention(DIM, 2, 4),
            "episodic": EpisodicMemory(DIM, 2, 9, recency=0.1),
            "neural": NeuralMemory(DIM, 2, Mlp(1), Surprise(4)),
        },
    ),
    "hybrid, by surprise": lambda: Hybrid(
        {
            "neural": NeuralMemory(DIM, 2, Mlp(2, 2), Surprise(4)),
            "episodic": EpisodicMemory(DIM, 2, 4, strength=Surprising(least=0.3), evict=Lowest("strength"), sharpness=2.0),
        },
    ),
    "hybrid, softmax per head": lambda: Hybrid(
        {"attention": Attention(DIM, 2, 4), "episodic": EpisodicMemory(DIM, 2, 9, separation=TopK(4))}, "softmax", "head", 2
    ),
    "hybrid, per channel": lambda: Hybrid({"episodic": EpisodicMemory(DIM, 2, 9, Segments(3))}, per="channel", start=0.5),
}

each_layer = pytest.mark.parametrize("name", LAYERS)


def make(name: str, dtype: torch.dtype = torch.float64) -> Any:
    torch.manual_seed(0)
    return LAYERS[name]().to(dtype)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def some(batch: int = BATCH, time: int = TIME, seed: int = 1) -> Tensor:
    return torch.rand(batch, time, generator=torch.Generator().manual_seed(seed)) < 0.6


def contents(state: State) -> dict[str, Tensor]:
    """The tensors by path; of a cache only the slots that are filled, row after row."""
    named = dict(state.named())
    for path in [path for path in named if path.endswith("there")]:
        filled = named[path]
        for cached in [cached for cached in named if cached.rpartition(".")[0] == path.rpartition(".")[0]]:
            if named[cached].shape[:2] == filled.shape:
                named[cached] = named[cached][filled]
    return named


def same(state: State, other: State) -> None:
    found = contents(other)
    for path, tensor in contents(state).items():
        torch.testing.assert_close(found[path], tensor, rtol=1e-9, atol=1e-11, msg=lambda text, path=path: f"{path}: {text}")


@each_layer
@pytest.mark.parametrize("split", [[1] * TIME, [3, 1, 0, 11, 1, 7], [20, 3]], ids=["token by token", "ragged", "two"])
@pytest.mark.parametrize("masked", [False, True])
def test_any_split_of_a_stream_is_one_parallel_pass(name: str, split: list[int], masked: bool) -> None:
    layer, x = make(name), draw(BATCH, TIME, DIM)
    mask = some() if masked else torch.ones(BATCH, TIME, dtype=torch.bool)
    whole, after = layer(x, mask=mask if masked else None)
    state, parts = None, []
    for some_x, some_mask in zip(x.split(split, 1), mask.split(split, 1), strict=True):
        y, state = layer(some_x, state, mask=some_mask if masked else None)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-9, atol=1e-11)
    same(after, state)


@each_layer
def test_a_masked_token_is_as_if_it_had_not_been_even_if_it_is_nan(name: str) -> None:
    layer, x, mask = make(name), draw(BATCH, TIME, DIM), some()
    mask[2] = False
    y, state = layer(x.masked_fill(~mask[..., None], torch.nan), mask=mask)
    assert not y[~mask].any()
    for row in range(BATCH):
        alone, alone_state = layer(x[row : row + 1, mask[row]])
        torch.testing.assert_close(y[row, mask[row]], alone[0], rtol=1e-9, atol=1e-11)
        same(alone_state, state.select(torch.tensor([row])))


@each_layer
def test_a_masked_token_gets_and_gives_no_gradient(name: str) -> None:
    layer, mask = make(name), some()
    x = draw(BATCH, TIME, DIM).masked_fill(~mask[..., None], torch.nan).requires_grad_()
    layer(x, mask=mask)[0].square().sum().backward()
    assert x.grad is not None
    assert not x.grad[~mask].any()
    assert all(bool(p.grad.isfinite().all()) for p in layer.parameters() if p.grad is not None)


@each_layer
def test_rows_never_see_each_other(name: str) -> None:
    layer, x = make(name), draw(BATCH, TIME, DIM)
    y, state = layer(x)
    for row in range(BATCH):
        alone, alone_state = layer(x[row : row + 1])
        torch.testing.assert_close(y[row : row + 1], alone, rtol=1e-9, atol=1e-11)
        same(alone_state, state.select(torch.tensor([row])))


@each_layer
def test_no_token_sees_a_later_one_by_perturbation_and_by_gradient(name: str) -> None:
    layer, x, t = make(name), draw(BATCH, TIME, DIM), 10
    changed = x.clone()
    changed[:, t + 1 :] += 1
    torch.testing.assert_close(layer(changed)[0][:, : t + 1], layer(x)[0][:, : t + 1], rtol=0, atol=1e-12)
    assert not torch.allclose(layer(changed)[0][:, t + 1], layer(x)[0][:, t + 1])
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x)[0][0, t].sum(), x)
    assert not gradient[0, t + 1 :].any()
    assert not gradient[1:].any()
    # and it does see itself and earlier ones
    assert gradient[0, t].any()
    assert (
        gradient[0, t - 1].any()
        or "window of 1" in name
        or (("segment" in name or "gives" in name or "top" in name) and gradient[0, :t].any())
        or "per channel" in name
    )


@each_layer
def test_a_memory_learns_in_use_without_gradients_asked_for(name: str) -> None:
    layer, x = make(name), draw(BATCH, TIME, DIM)
    truth, after = layer(x)
    for quiet in (torch.no_grad, torch.inference_mode):
        with quiet():
            y, state = layer(x)
            torch.testing.assert_close(y, truth.detach())
            same(after.detach(), state)


@each_layer
def test_every_parameter_learns(name: str) -> None:
    layer = make(name)
    y, state = layer(draw(BATCH, TIME, DIM))
    (y.square().sum() + sum(t.square().sum() for t in state.named().values() if t.is_floating_point())).backward()
    for path, parameter in layer.named_parameters():
        assert parameter.grad is not None, path
        assert parameter.grad.any(), path


@each_layer
def test_a_layer_holds_no_contents_and_a_call_leaves_the_state_it_was_given(name: str) -> None:
    layer, x = make(name), draw(BATCH, TIME, DIM)
    assert not list(layer.buffers())
    before = {path: tensor.clone() for path, tensor in layer.state_dict().items()}
    _, state = layer(x)
    kept = state.map(Tensor.clone)
    first, _ = layer(x, state)
    again, _ = layer(x, state)
    assert torch.equal(first, again)
    assert all(torch.equal(tensor, kept.named()[path]) for path, tensor in state.named().items())
    assert all(torch.equal(tensor, before[path]) for path, tensor in layer.state_dict().items())


@each_layer
def test_reset_rows_have_seen_nothing_and_the_others_are_as_they_were(name: str) -> None:
    layer, x = make(name), draw(BATCH, TIME, DIM)
    _, state = layer(x)
    rows = torch.tensor([True, False, True])
    y, _ = layer(x, layer.reset(state, rows))
    torch.testing.assert_close(y[rows], layer(x)[0][rows], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(y[~rows], layer(x, state)[0][~rows], rtol=1e-9, atol=1e-11)


@each_layer
def test_a_state_is_a_pytree_whose_rows_can_be_chosen_moved_and_counted(name: str) -> None:
    layer, x = make(name), draw(BATCH, TIME, DIM)
    _, state = layer(x)
    leaves, tree = pytree.tree_flatten(state)
    assert len(leaves) == len(state.named())
    same(state, pytree.tree_unflatten(leaves, tree))
    assert state.batch == BATCH
    assert not any(tensor.requires_grad for tensor in state.detach().named().values())
    beams = torch.tensor([2, 0, 0, 1])
    torch.testing.assert_close(layer(x[beams], state.select(beams))[0], layer(x, state)[0][beams], rtol=1e-9, atol=1e-11)
    half = state.to(dtype=torch.float32)
    assert all(half.named()[path].is_floating_point() == tensor.is_floating_point() for path, tensor in state.named().items())
    assert state.nbytes == sum(tensor.nbytes for tensor in {id(leaf): leaf for leaf in leaves}.values())


@each_layer
def test_a_saved_state_goes_on_where_it_stopped(name: str, tmp_path: Path) -> None:
    layer, x = make(name), draw(BATCH, TIME, DIM)
    _, state = layer(x, mask=some())
    save_state(state, tmp_path / "state.safetensors")
    found = load_state(tmp_path / "state.safetensors")
    assert type(found) is type(state)
    torch.testing.assert_close(layer(x, found)[0], layer(x, state)[0], rtol=0, atol=0)


@each_layer
def test_half_precision_and_autocast_are_followed_and_what_is_learned_stays_in_float32(name: str) -> None:
    x = draw(BATCH, TIME, DIM)
    layer = make(name, torch.bfloat16)
    y, state = layer(x.bfloat16())
    assert y.dtype == torch.bfloat16
    learned = [t for path, t in state.named().items() if "weights" in path or "momentum" in path]
    assert all(t.dtype == torch.float32 for t in learned)
    assert bool(y.isfinite().all())
    layer(x.bfloat16(), state)
    layer = make(name, torch.float32)
    plain = layer(x.float())[0].detach()
    with torch.autocast("cpu", torch.bfloat16):
        y, state = layer(x.float())
    assert {t.dtype for t in state.named().values() if t.is_floating_point()} == {torch.float32}
    # eight bits of mantissa in the projections; in the mean, as what is read near 0 is normalised, and its rounding with it. Which item
    # has been used least is a choice, which rounding may turn
    assert bool(y.isfinite().all())
    assert "least used" in name or (y.detach().float() - plain).square().mean().sqrt() < 0.1 * plain.square().mean().sqrt()


@each_layer
def test_bad_input_is_refused_with_a_sentence_that_says_what_came(name: str) -> None:
    layer, x = make(name), draw(BATCH, TIME, DIM)
    _, state = layer(x)
    with pytest.raises(ValueError, match=r"x must be \[batch, time, 8\].*got \[3, 23, 9\]"):
        layer(draw(BATCH, TIME, DIM + 1))
    with pytest.raises(ValueError, match="at least one row"):
        layer(x[:0])
    with pytest.raises(TypeError, match=r"floating tensor, got a torch\.int64"):
        layer(torch.zeros(BATCH, TIME, DIM, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"mask must be \[batch, time\] = \[3, 23\], got \[3, 22\]"):
        layer(x, mask=some(time=22))
    with pytest.raises(TypeError, match="mask must be a bool"):
        layer(x, mask=some().float())
    with pytest.raises(TypeError, match="got a dict"):
        layer(x, {})
    with pytest.raises(ValueError, match="of 3 rows, the input of 2"):
        layer(x[:2], state)
    with pytest.raises(ValueError, match=r"state\.to"):
        layer(x, state.to(dtype=torch.float32))
    with pytest.raises(ValueError, match="bool"):
        layer.reset(state, torch.tensor([0, 1, 1]))
    with pytest.raises(ValueError, match="batch must be a whole number"):
        layer.init_state(0)


MEMORIES = [name for name, layer in LAYERS.items() if isinstance(layer(), NeuralMemory)]


@pytest.mark.parametrize("name", MEMORIES)
def test_reading_only_changes_nothing_and_writing_only_writes_the_same(name: str) -> None:
    layer, x, mask = make(name), draw(BATCH, TIME, DIM), some()
    _, state = layer(x)
    _, both = layer(x, state, mask=mask)
    y, read = layer(x, state, mask=mask, mode="read-only")
    for path in ("weights", "momentum", "anchor"):
        assert all(torch.equal(a, b) for a, b in zip(getattr(state, path), getattr(read, path), strict=True))
    assert torch.equal(state.filled, read.filled)
    assert y.any()
    y, written = layer(x, state, mask=mask, mode="write-only")
    assert not y.any()
    same(both, written)
    parts, moving = [], state
    for some_x, some_mask in zip(x.split([4, 1, 18], 1), mask.split([4, 1, 18], 1), strict=True):
        y, moving = layer(some_x, moving, mask=some_mask, mode="read-only")
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), layer(x, state, mask=mask, mode="read-only")[0], rtol=1e-9, atol=1e-11)
    with pytest.raises(ValueError, match="mode must be one of"):
        layer(x, mode="read")


def test_a_state_of_another_module_is_refused() -> None:
    _, state = make("neural, 2 layers")(draw(BATCH, TIME, DIM))
    with pytest.raises(ValueError, match="of another module"):
        make("neural, linear, chunks of 7")(draw(BATCH, TIME, DIM), state)
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=r"0 has shape \[3, 2, 4, 8\], this layer needs \[3, 2, 4, 16\]"):
        NeuralMemory(DIM, 2, Mlp(2, 4)).double()(draw(BATCH, TIME, DIM), state)


def test_what_is_no_saved_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_state(tmp_path / "none")
    with pytest.raises(TypeError, match="a state of a layer is needed, got a Linear"):
        save_state(nn.Linear(2, 2), tmp_path / "file")  # type: ignore[arg-type]
    _, state = make("delta net")(draw(BATCH, TIME, DIM))
    save_state(state, tmp_path / "state")
    with pytest.raises(ValueError, match=r"was not written by ammon\.save"):
        load(tmp_path / "state")
    content = (tmp_path / "state").read_bytes()
    (tmp_path / "foreign").write_bytes(content.replace(b"ammon.nn.neural.NeuralState", b"posix.system............mm2"))
    with pytest.raises(ValueError, match="which is no class of ammon"):
        load_state(tmp_path / "foreign")
    (tmp_path / "cut").write_bytes(content[:100])
    with pytest.raises(ValueError, match="no safetensors file or is damaged"):
        load_state(tmp_path / "cut")


def test_arguments_that_make_no_memory_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of heads, got 8 and 3"):
        NeuralMemory(8, 3)
    with pytest.raises(ValueError, match="chunk must be a whole number of at least 1, got 0"):
        Surprise(0)
    with pytest.raises(ValueError, match="limit must be positive"):
        Surprise(4, limit=0.0)
    with pytest.raises(ValueError, match="form must be one of"):
        Surprise(4, form="fast")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="depth must be"):
        Mlp(0)
    with pytest.raises(ValueError, match="rate must be positive"):
        NeuralMemory(8, rate=0.0)
    with pytest.raises(ValueError, match="dual form is known for Mlp"):
        NeuralMemory(8, 2, Functional(nn.Linear(4, 4)), Surprise(4, form="dual"))
