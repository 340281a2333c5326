"""Bad input at the public edge: one clear error each, and never NaN."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import ammon as am
from ammon.parts.corruption import Blur, Encoding, Flip, Mask, Noise
from ammon.parts.separations import Entmax, Softmax
from ammon.parts.similarity import Dot

# rows of ones equal each other, which the pseudo-inverse and kernel memories say
pytestmark = pytest.mark.filterwarnings("ignore:.*depend linearly", "ignore:KernelMemory.write")

DIM = 6
NAMES = sorted(am.CATALOG)
BIPOLAR = [n for n in NAMES if isinstance(am.CATALOG[n].make(DIM), am.BinaryMemory)]


def _ones(rows: int = 2, dim: int = DIM) -> torch.Tensor:
    return torch.ones(rows, dim)


def _filled(name: str) -> am.Memory:
    memory = am.CATALOG[name].make(DIM)
    memory.write(am.prepare(torch.rand(3, DIM, generator=torch.Generator().manual_seed(0)), am.CATALOG[name].data))
    return memory


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_memory_says_that_it_is_empty(name: str) -> None:
    memory = am.CATALOG[name].make(DIM)
    with pytest.raises(ValueError, match=r"recall: the memory is empty; write patterns first"):
        memory.recall(_ones())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (_ones(dim=5), ValueError, "has dim 5, the memory has 6"),
        (torch.ones(DIM), ValueError, "must be rows"),
        (torch.ones(1, 2, DIM), ValueError, "must be rows"),
        (torch.full((1, DIM), torch.nan), ValueError, "NaN or infinite"),
        (torch.full((1, DIM), torch.inf), ValueError, "NaN or infinite"),
        (torch.ones(2, DIM, dtype=torch.int64), TypeError, "must be a floating tensor"),
        ([[1.0] * DIM], TypeError, "must be a floating tensor"),
    ],
    ids=["dim", "one row", "three axes", "nan", "inf", "whole numbers", "list"],
)
def test_rows_that_do_not_fit_are_refused_by_write_recall_and_energy(name: str, rows: object, error: type[Exception], message: str) -> None:
    memory = _filled(name)
    held = len(memory)
    with pytest.raises(error, match=message):
        memory.write(rows)  # type: ignore[arg-type]
    with pytest.raises(error, match=message):
        memory.recall(rows)  # type: ignore[arg-type]
    without = ("hebbian_expansion", "minerva2", "universal", "holographic", "sparse_distributed", "todam")
    if name not in without and am.CATALOG[name].task != "sequence":
        with pytest.raises(error, match=message):
            memory.energy(rows)  # type: ignore[arg-type]
    assert len(memory) == held


@pytest.mark.parametrize("name", BIPOLAR)
def test_a_binary_memory_takes_only_minus_1_and_plus_1(name: str) -> None:
    memory = _filled(name)
    for call in (memory.write, memory.recall, memory.energy):
        with pytest.raises(ValueError, match=r"must hold only -1 and \+1; binarise it first"):
            call(torch.zeros(1, DIM))
    with pytest.raises(ValueError, match=r"value must hold only -1 and \+1"):
        am.CATALOG[name].make(DIM).write(_ones(), torch.zeros(2, 3))


@pytest.mark.parametrize("name", NAMES)
def test_a_cue_of_another_dtype_is_refused_with_what_to_do(name: str) -> None:
    with pytest.raises(TypeError, match=r"the memory holds torch.float32 .* the cue is torch.float64"):
        _filled(name).recall(_ones().double())


@pytest.mark.parametrize("name", NAMES)
def test_values_come_one_per_pattern_and_all_or_none(name: str) -> None:
    memory = am.CATALOG[name].make(DIM)
    with pytest.raises(ValueError, match="2 patterns came with 3 values"):
        memory.write(_ones(), _ones(3, 4))
    memory.write(_ones(), _ones(2, 4))
    with pytest.raises(ValueError, match="holds values of dim 4"):
        memory.write(_ones())
    with pytest.raises(ValueError, match="value has dim 5, the memory has 4"):
        memory.write(_ones(), _ones(2, 5))
    with pytest.raises(ValueError, match="held have no values"):
        _filled(name).write(_ones(), _ones(2, 4))


@pytest.mark.parametrize(
    "make",
    [
        lambda: am.dense(DIM, n=1),
        lambda: am.rectified_dense(DIM, n=1.5),
        lambda: am.modern_hopfield(DIM, beta=0.0),
        lambda: am.modern_hopfield(DIM, beta=-1.0),
        lambda: am.modern_hopfield(DIM, beta=float("inf")),
        lambda: am.sparse_hopfield(DIM, alpha=1.0),
        lambda: am.sparse_hopfield(DIM, beta=0.0),
        lambda: am.exponential(DIM, beta=0.0),
        lambda: am.log_sum_relu(DIM, beta=0.0),
        lambda: am.diffusion(DIM, sigma=0.0),
        lambda: am.kohonen(DIM, rate=0.0),
        lambda: am.kohonen(DIM, forgetting=1.0),
        lambda: am.minerva2(DIM, relevant="none"),  # type: ignore[arg-type]
        lambda: am.BinaryMemory(DIM, Softmax(1.0), "at random"),  # type: ignore[arg-type]
        lambda: am.hopfield(0),
        lambda: am.modern_hopfield(-3),
        lambda: am.modern_hopfield(DIM, steps=0),
    ],
)
def test_a_constructor_refuses_what_cannot_be(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Exception) as refused:
        make()
    # inside the library the type checker of the tests may speak first
    assert isinstance(refused.value, ValueError) or "TypeCheckError" in type(refused.value).__name__


def test_a_binary_memory_needs_a_separation_that_is_a_sum() -> None:
    memory = am.BinaryMemory(DIM, Entmax(2.0))
    memory.write(_ones())
    with pytest.raises(TypeError, match="no sum over units"):
        memory.recall(_ones())


@pytest.mark.parametrize(
    ("settling", "message"), [({"steps": 0}, "steps must be at least 1"), ({"clamp": torch.ones(2, 2, dtype=torch.bool)}, "clamp must be")]
)
@pytest.mark.parametrize("name", NAMES)
def test_wrong_settling_is_refused_by_every_memory(name: str, settling: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _filled(name).recall(am.prepare(torch.rand(2, DIM), am.CATALOG[name].data), **settling)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["modern_hopfield", "hopfield", "kohonen"])
def test_wrong_settling_is_refused_also_where_values_are_only_read(name: str) -> None:
    memory = am.CATALOG[name].make(DIM)
    memory.write(_ones(), _ones(2, 4))
    for wrong in ({"steps": 0}, {"tolerance": -1.0}, {"clamp": torch.ones(2, 2, dtype=torch.bool)}, {"differentiate": "never"}):
        with pytest.raises(ValueError, match=r"must be|read once"):
            memory.recall(_ones(), **{"steps": 1, **wrong})  # type: ignore[arg-type]


def test_a_memory_with_sign_units_takes_only_minus_1_and_plus_1() -> None:
    memory = am.large_dim_dense(DIM)
    for rows, values in ((torch.zeros(2, DIM), None), (_ones(), torch.zeros(2, 3))):
        with pytest.raises(ValueError, match=r"must hold only -1 and \+1"):
            memory.write(rows, values)
    memory.write(_ones())
    with pytest.raises(ValueError, match=r"cue must hold only -1 and \+1"):
        memory.recall(torch.zeros(1, DIM))


def test_an_unknown_preparation_and_an_impossible_count_are_refused() -> None:
    with pytest.raises(ValueError, match="preparation must be"):
        am.prepare(_ones(), "binary")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_patterns must be a whole number"):
        am.random_patterns(-1, 3, generator=torch.Generator())


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize("kind", [Flip, Mask, Encoding])
def test_a_fraction_out_of_range_is_refused(kind: type, fraction: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        kind(fraction)


def test_noise_and_blur_of_an_impossible_size_are_refused() -> None:
    for make in (lambda: Noise(-1.0), lambda: Noise(float("inf")), lambda: Blur(0.0)):
        with pytest.raises(ValueError, match="must be"):
            make()
    with pytest.raises(ValueError, match="no images of shape"):
        Blur(1.0, (2, 2))(_ones(), generator=torch.Generator())


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'hopfeild'"):
        am.hopfeild  # type: ignore[attr-defined] # noqa: B018


def test_files_that_hold_no_memory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        am.load(tmp_path / "nothing")
    noise = tmp_path / "noise"
    noise.write_bytes(b"\x93NUMPY not a memory at all, by far" * 5)
    with pytest.raises(ValueError, match="no safetensors file or is damaged"):
        am.load(noise)
    foreign = tmp_path / "foreign"
    save_file({"weight": torch.ones(3)}, foreign)
    with pytest.raises(ValueError, match=r"was not written by ammon\.save"):
        am.load(foreign)


def test_a_damaged_file_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    am.save(_filled("modern_hopfield"), path)
    whole = path.read_bytes()
    for cut in (0, 4, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="no safetensors file or is damaged"):
            am.load(path)


@pytest.mark.parametrize(
    "description",
    [
        {"class": "os.system", "arguments": {"command": "true"}},
        {"class": "ammon.catalog.dense", "arguments": {"dim": 3}},
        {"class": "ammon.parts.similarity.torch", "arguments": {}},
        {"class": "ammon.memories.associative.Nothing", "arguments": {}},
        {"class": "ammon.parts.similarity.Dot", "arguments": {}},
        {"class": "ammon.memories.binary.BinaryMemory", "arguments": {"dim": 3}},
        ["no", "memory"],
        7,
    ],
)
def test_a_file_that_names_anything_but_a_memory_runs_no_code(description: object, tmp_path: Path) -> None:
    path = tmp_path / "memory"
    save_file({"keys.rows": torch.ones(1, 3)}, path, metadata={"format": "ammon-memory-1", "memory": json.dumps(description)})
    with pytest.raises(ValueError, match="does not describe a memory"):
        am.load(path)


class _MySimilarity(Dot):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale


class _Forgetful(Dot):
    def __init__(self, scale: float) -> None:
        super().__init__()


def test_your_own_part_is_saved_by_name_and_loaded_only_if_you_pass_it(tmp_path: Path) -> None:
    memory = am.AssociativeMemory(DIM, _MySimilarity(2.0), Softmax(1.0))
    memory.write(_ones())
    am.save(memory, tmp_path / "mine")
    with pytest.raises(ValueError, match=r"pass it as load\(path, classes=\[...\]\)"):
        am.load(tmp_path / "mine")
    loaded = am.load(tmp_path / "mine", classes=[_MySimilarity])
    assert loaded.similarity.scale == 2.0  # type: ignore[union-attr]
    with pytest.raises(TypeError, match="does not keep its argument 'scale'"):
        am.save(am.AssociativeMemory(DIM, _Forgetful(2.0), Softmax(1.0)), tmp_path / "mine")


def test_saving_where_nothing_can_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot write"):
        am.save(_filled("dense"), tmp_path / "no" / "such" / "folder")
    assert list(tmp_path.iterdir()) == []


def test_a_learned_gain_is_saved_with_its_value_and_dtype(tmp_path: Path) -> None:
    memory = am.AssociativeMemory(DIM, Dot(), Softmax(1.0, learnable=True))
    memory.write(_ones().double())
    with torch.no_grad():
        memory.separation.beta.fill_(3.25)  # type: ignore[union-attr, operator]
    am.save(memory, tmp_path / "learned")
    beta = am.load(tmp_path / "learned").separation.beta  # type: ignore[union-attr]
    assert isinstance(beta, torch.nn.Parameter)
    assert beta.item() == 3.25
