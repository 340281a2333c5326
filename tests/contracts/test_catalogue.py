"""What every memory of the catalogue promises, run over the whole of it."""

import pytest
import torch
from torch import Tensor

import ammon as am
from ammon.catalog import Entry
from ammon.memories.expansion import ExpansionMemory
from ammon.memories.feature import FeatureMemory
from ammon.memories.holographic import HolographicMemory
from ammon.memories.learned_dense import LearnedDenseMemory
from ammon.memories.predictive import PredictiveMemory
from ammon.memories.sparse_distributed import SparseDistributedMemory
from ammon.memories.todam import TodamMemory
from ammon.memories.transitions import TransitionMemory

# rows may equal or depend on each other here, which the pseudo-inverse and kernel memories say
pytestmark = pytest.mark.filterwarnings("ignore:.*depend linearly", "ignore:KernelMemory.write")

DIM = 12
NAMES = sorted(am.CATALOG)
BINARY = [n for n in NAMES if isinstance(am.CATALOG[n].make(DIM), am.BinaryMemory)]
SUPERPOSED = (
    am.PairwiseMemory,
    ExpansionMemory,
    FeatureMemory,
    HolographicMemory,
    SparseDistributedMemory,
    LearnedDenseMemory,
    PredictiveMemory,
    TodamMemory,
    TransitionMemory,
)
KEPT_APART = [n for n in NAMES if not isinstance(am.CATALOG[n].make(DIM), SUPERPOSED)]
# each write of a sequence memory is a sequence of its own
ONE_SET = [n for n in NAMES if am.CATALOG[n].task != "sequence"]


def _rows(entry: Entry, count: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    rows = torch.rand(count, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return am.prepare(rows, entry.data).to(dtype)


def _filled(name: str, count: int = 5, dtype: torch.dtype = torch.float64) -> am.Memory:
    memory = am.CATALOG[name].make(DIM)
    memory.write(_rows(am.CATALOG[name], count, dtype=dtype))
    return memory


@pytest.mark.parametrize("name", NAMES)
def test_a_row_is_answered_as_if_it_were_alone(name: str) -> None:
    memory, cue = _filled(name), _rows(am.CATALOG[name], 9, seed=1)
    whole = memory.recall(cue)
    for row in range(9):
        alone = memory.recall(cue[row : row + 1])
        torch.testing.assert_close(alone.state[0], whole.state[row], rtol=1e-9, atol=1e-12)
        assert alone.steps[0] == whole.steps[row]
        assert alone.converged[0] == whole.converged[row]


@pytest.mark.parametrize("name", BINARY)
def test_a_random_order_is_the_same_for_a_row_alone(name: str) -> None:
    memory, cue = _filled(name), _rows(am.CATALOG[name], 9, seed=1)
    whole = memory.recall(cue, generator=torch.Generator().manual_seed(3))
    for row in range(9):
        alone = memory.recall(cue[row : row + 1], generator=torch.Generator().manual_seed(3))
        assert torch.equal(alone.state[0], whole.state[row])


@pytest.mark.parametrize("name", NAMES)
def test_recall_changes_nothing(name: str) -> None:
    memory, cue = _filled(name), _rows(am.CATALOG[name], 3, seed=1)
    before, asked = {k: v.clone() for k, v in memory.state_dict().items()}, cue.clone()
    first = memory.recall(cue)
    assert torch.equal(first.state, memory.recall(cue).state)
    assert torch.equal(cue, asked)
    after = memory.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_dtype_is_that_of_the_first_write(name: str, dtype: torch.dtype) -> None:
    memory, cue = _filled(name, dtype=dtype), _rows(am.CATALOG[name], 3, seed=1, dtype=dtype)
    recall = memory.recall(cue)
    assert recall.state.dtype == dtype
    assert torch.isfinite(recall.state).all()
    try:
        energy = memory.energy(recall.state)
    except TypeError:
        return
    assert energy.dtype == dtype
    assert torch.isfinite(energy).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_memory_moves_to_another_dtype_with_what_it_holds(name: str) -> None:
    memory = _filled(name).float()
    assert memory.recall(_rows(am.CATALOG[name], 3, seed=1, dtype=torch.float32)).state.dtype == torch.float32
    memory.write(_rows(am.CATALOG[name], 2, seed=2))
    assert len(memory) == 7


@pytest.mark.parametrize("name", ONE_SET)
def test_written_in_pieces_is_written_at_once(name: str) -> None:
    rows, cue = _rows(am.CATALOG[name], 9), _rows(am.CATALOG[name], 4, seed=1)
    pieces, whole = am.CATALOG[name].make(DIM), am.CATALOG[name].make(DIM)
    for piece in rows.split([1, 2, 1, 5]):
        pieces.write(piece)
    whole.write(rows)
    assert len(pieces) == len(whole) == 9
    torch.testing.assert_close(pieces.recall(cue).state, whole.recall(cue).state)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_written_no_longer_depends_on_the_tensor_it_came_from(name: str) -> None:
    rows = _rows(am.CATALOG[name], 4)
    memory, kept = am.CATALOG[name].make(DIM), rows.clone()
    memory.write(rows)
    before = memory.recall(kept).state
    rows.zero_()
    assert torch.equal(memory.recall(kept).state, before)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hetero", [False, True])
def test_saved_and_loaded_it_is_the_same_memory(name: str, hetero: bool, tmp_path) -> None:  # type: ignore[no-untyped-def]
    entry = am.CATALOG[name]
    memory, cue = entry.make(DIM), _rows(entry, 3, seed=1)
    rows = _rows(entry, 5)
    memory.write(rows, rows[:, :8]) if hetero else memory.write(rows)
    steps = {"steps": 1} if hetero else {}
    am.save(memory, tmp_path / "memory.safetensors")
    loaded = am.load(tmp_path / "memory.safetensors")
    assert type(loaded) is type(memory)
    assert len(loaded) == 5
    assert repr(loaded) == repr(memory)
    assert torch.equal(loaded.recall(cue, **steps).state, memory.recall(cue, **steps).state)
    loaded.write(rows, rows[:, :8]) if hetero else loaded.write(rows)
    assert len(loaded) == 10


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_goes_into_a_fresh_memory(name: str) -> None:
    memory, fresh, cue = _filled(name), am.CATALOG[name].make(DIM), _rows(am.CATALOG[name], 3, seed=1)
    fresh.load_state_dict(memory.state_dict())
    assert torch.equal(fresh.recall(cue).state, memory.recall(cue).state)


@pytest.mark.parametrize("name", NAMES)
def test_the_trajectory_starts_at_the_cue_and_ends_at_the_state(name: str) -> None:
    memory, cue = _filled(name), _rows(am.CATALOG[name], 3, seed=1)
    recall = memory.recall(cue, keep=True)
    assert torch.equal(recall.trajectory[0], cue)
    assert torch.equal(recall.trajectory[-1], recall.state)
    assert len(recall.trajectory) == int(recall.steps.max()) + 1


@pytest.mark.parametrize("name", KEPT_APART)
def test_weights_have_one_entry_per_pattern(name: str) -> None:
    assert _filled(name).weights(_rows(am.CATALOG[name], 3, seed=1)).shape == (3, 5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("patterns", "dim", "spread"), [(1, 12, 1.0), (5, 1, 1.0), (40, 6, 1.0)], ids=["one pattern", "one entry", "more patterns than entries"]
)
def test_the_edges_give_finite_answers(name: str, patterns: int, dim: int, spread: float) -> None:
    entry = am.CATALOG[name]
    rows = am.prepare(spread * torch.rand(patterns, dim, generator=torch.Generator().manual_seed(0)), entry.data)
    memory = entry.make(dim)
    memory.write(rows)
    assert torch.isfinite(memory.recall(rows).state).all()
    assert memory.recall(rows[:0]).state.shape == (0, dim)


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_names_what_the_table_needs(name: str) -> None:
    entry = am.CATALOG[name]
    for column in ("keys", "values", "similarity", "separation", "activation", "paper", "cost"):
        assert getattr(entry, column)
    assert entry.make.__name__ == name
    assert entry.make.__doc__
    assert getattr(am, name) is entry.make


STORES = {"unit": 1, "raw": 1, "bipolar": 1}


@pytest.mark.parametrize("name", NAMES)
def test_the_defaults_recall_the_data_that_the_entry_names(name: str) -> None:
    # few random patterns of 400 entries; one entry in twenty wrong, or one alone where the reach is short
    entry, generator = am.CATALOG[name], torch.Generator().manual_seed(0)
    raw = torch.rand(8, 400, generator=generator)
    cue = raw.clone()
    flipped = slice(0, 1 if name == "log_sum_relu" else 20)
    cue[:, flipped] = 1 - cue[:, flipped]
    patterns, cue = am.prepare(raw, entry.data), am.prepare(cue, entry.data)
    memory = entry.make(400)
    memory.write(patterns)
    state = memory.recall(cue).state
    # nearer to its own pattern than to any other, whatever the scale of the answer
    nearest = torch.nn.functional.normalize(state) @ torch.nn.functional.normalize(patterns).mT
    # a sequence memory gives what comes next, and keeps the last
    wanted = [1, 2, 3, 4, 5, 6, 7, 7] if entry.task == "sequence" else list(range(8))
    assert nearest.argmax(-1).tolist() == wanted
    if name not in ("kohonen", "delta", "minerva2", "random_features", "predictive"):
        torch.testing.assert_close(state, patterns[wanted], atol=0.01, rtol=0)


@pytest.mark.parametrize("name", ONE_SET)
def test_what_is_written_after_a_recall_counts_in_the_next(name: str) -> None:
    entry = am.CATALOG[name]
    rows, cue = _rows(entry, 6), _rows(entry, 4, seed=1)
    memory, whole = entry.make(DIM), entry.make(DIM)
    memory.write(rows[:3])
    memory.recall(cue)
    memory.write(rows[3:])
    whole.write(rows)
    torch.testing.assert_close(memory.recall(cue).state, whole.recall(cue).state)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_stored_carries_no_graph(name: str) -> None:
    entry = am.CATALOG[name]
    rows = _rows(entry, 3).requires_grad_()
    memory = entry.make(DIM)
    memory.write(rows, rows[:, :4])
    assert not memory.recall(rows.detach(), steps=1).state.requires_grad
    assert all(not tensor.requires_grad for tensor in memory.state_dict(keep_vars=True).values())


@pytest.mark.parametrize("name", NAMES)
def test_a_graph_through_recall_survives_a_later_write(name: str) -> None:
    entry = am.CATALOG[name]
    memory, cue = entry.make(DIM), _rows(entry, 2, seed=1).requires_grad_()
    for row in _rows(entry, 3).split(1):
        memory.write(row)
    state = memory.recall(cue, steps=1).state
    memory.write(_rows(entry, 1, seed=2))
    if state.requires_grad:
        state.sum().backward()
        assert torch.isfinite(cue.grad).all()
