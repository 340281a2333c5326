"""`ammon train lm` and `ammon generate` as a user types them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ammon.cli.main import main
from ammon.datasets.text import Bytes, TokenizerFile, load_text
from ammon.nn.configurations import Size
from ammon.recipes.language_model import Recipe, make, split
from ammon.saving import load_state, save_state
from ammon.training.metrics import read_rows
from ammon.training.plan import Plan
from ammon.training.reading import Reading, lanes, losses
from ammon.training.trainer import train

Typed = Callable[..., tuple[int, str, str]]
TEXT = ("The quick brown fox jumps over the lazy dog. " * 40).encode()
SMALL = ("--dim", "16", "--heads", "2", "--layers", "2", "--window", "8", "--slots", "32", "--length", "16", "--batch", "4", "--every", "5")


@pytest.fixture
def typed(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Typed:
    """Run a command in a folder with a text; its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fox.txt").write_bytes(TEXT)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(arguments)
        said = capsysbinary.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, said.out.decode(), said.err.decode()

    return run


def test_a_training_leaves_a_model_that_goes_on_and_writes(typed: Typed, tmp_path: Path) -> None:
    code, out, err = typed("train", "lm", "--data", "fox.txt", *SMALL, "--steps", "10", "--rate", "0.01")
    assert code == 0, err
    assert "step 10: loss" in out
    assert "held-out loss" in out
    assert [row["step"] for row in read_rows(tmp_path / "lm" / "metrics.jsonl")] == [5, 10]
    # long enough to write letters, so that bytes are not cut
    code, out, _ = typed("train", "lm", "--data", "fox.txt", *SMALL, "--steps", "60", "--rate", "0.01")
    assert "step 60: loss" in out
    code, first, err = typed("generate", "lm", "--prompt", "The quick", "--tokens", "40", "--seed", "3")
    assert (code, err) == (0, "")
    _, again, _ = typed("generate", "lm", "--prompt", "The quick", "--tokens", "40", "--seed", "3")
    _, other, _ = typed("generate", "lm", "--prompt", "The quick", "--tokens", "40", "--seed", "4")
    assert first == again != other
    # a session that is saved and goes on writes what an unbroken one writes, at temperature 0
    _, whole, _ = typed("generate", "lm", "--prompt", "The quick", "--tokens", "20", "--temperature", "0")
    _, head, _ = typed("generate", "lm", "--prompt", "The quick", "--tokens", "8", "--temperature", "0", "--session", "s")
    _, tail, _ = typed("generate", "lm", "--tokens", "12", "--temperature", "0", "--session", "s")
    assert head.removesuffix("\n") + tail == whole


def test_a_tokenizer_file_is_kept_beside_the_model(typed: Typed, tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "The": 1, "fox": 2, "dog": 3, ".": 4}, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "words.json"))
    code, _, err = typed("train", "lm", "--data", "fox.txt", "--tokenizer", "words.json", *SMALL, "--steps", "2")
    assert code == 0, err
    code, out, err = typed("generate", "lm", "--prompt", "The fox", "--tokens", "5", "--top-k", "3", "--top-p", "0.9")
    assert code == 0, err
    assert set(out.split()) <= {"[UNK]", "The", "fox", "dog", "."}
    (tmp_path / "lm" / "tokenizer.json").write_text(json.dumps({"version": "1.0"}))
    code, _, err = typed("generate", "lm", "--prompt", "The fox")
    assert code == 2
    assert "no tokenizer.json" in err


def test_wrong_input_ends_in_one_line_and_code_2(typed: Typed, tmp_path: Path) -> None:
    code, _, err = typed("train", "lm", "--data", "fox.txt", *SMALL, "--steps", "2", "--blocks", "attention")
    assert code == 0, err
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "short.txt").write_text("abc")
    (tmp_path / "blocks.py").write_text("def none(size):\n    return []\n")
    (tmp_path / "bad.gz").write_bytes(b"x")
    cases = {
        ("train", "lm", "--data", "nowhere.txt"): "there is no file 'nowhere.txt'",
        ("train", "lm", "--data", "empty.txt"): "holds no text",
        ("train", "lm", "--data", "bad.gz"): "no gzip file",
        ("train", "lm", "--data", "short.txt"): "has 3 tokens, and at least",
        ("train", "lm", "--data", "fox.txt", "--blocks", "hybird"): "no configuration is called 'hybird'",
        ("train", "lm", "--data", "fox.txt", "--blocks", "blocks.py:none"): "blocks of one dim are needed",
        ("train", "lm", "--data", "fox.txt", "--blocks", "blocks.py:nothing"): "has no function 'nothing'",
        ("train", "lm", "--data", "fox.txt", "--dim", "15"): "multiple of",
        ("train", "lm", "--data", "fox.txt", "--steps", "0"): "steps",
        ("train", "lm", "--data", "fox.txt", "--held", "1"): "--held",
        ("train", "lm", "--data", "fox.txt", "--device", "tpu"): "--device",
        ("train", "lm", "--data", "fox.txt", "--tokenizer", "nowhere.json"): "there is no file 'nowhere.json'",
        ("train", "lm", "--data", "fox.txt", *SMALL, "--blocks", "neural"): "of another training: configuration is 'attention' there",
        ("generate", "nowhere", "--prompt", "a"): "holds no checkpoint.safetensors",
        ("generate", "lm"): "nothing to begin with",
        ("generate", "lm", "--prompt", "a", "--temperature", "-1"): "temperature",
        ("generate", "lm", "--prompt", "a", "--session", "fox.txt"): "no safetensors file",
    }
    for arguments, said in cases.items():
        code, _, err = typed(*arguments)
        assert code == 2, arguments
        assert said in err
        assert err.count("\n") == 1 + err.startswith("attention:") + err.startswith("neural:"), err
    typed("train", "lm", "--data", "fox.txt", *SMALL, "--steps", "2", "--blocks", "neural", "--out", "other")
    typed("generate", "other", "--prompt", "a", "--tokens", "1", "--session", "s")
    code, _, err = typed("generate", "lm", "--prompt", "a", "--session", "s")
    assert code == 2
    assert "is no session of this model" in err


def test_readers_go_round_the_text_and_the_loss_of_a_stream_is_that_of_pieces() -> None:
    tokens = Bytes().encode(bytes(range(20)))
    inputs, targets = lanes(tokens, 2, 6, 0)
    assert inputs.tolist() == [list(range(6)), list(range(10, 16))]
    assert torch.equal(targets, inputs + 1)
    inputs, targets = lanes(tokens, 2, 6, 3)
    assert inputs[0].tolist() == [18, 19, 0, 1, 2, 3]
    assert targets[0].tolist() == [19, 0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="more than 20 tokens"):
        lanes(tokens, 2, 20, 0)
    recipe = Recipe(size=Size(dim=16, near=8, window=8, slots=16), length=16, batch=4)
    model = make(recipe, Bytes())
    text = Bytes().encode(TEXT)[:100]
    torch.testing.assert_close(losses(model, text, piece=7), losses(model, text), rtol=1e-4, atol=1e-5)
    assert losses(model, text, most=10).shape == (10,)


def test_a_model_learns_a_text_by_heart_and_a_reading_that_was_interrupted_goes_on_the_same(tmp_path: Path) -> None:
    recipe = Recipe(size=Size(dim=32, near=8, window=8, slots=16), length=32, batch=4)
    text, held = split(Bytes().encode(TEXT), recipe)
    model = make(recipe, Bytes())
    plan = Plan(60, rate=1e-2, every=20, final=1.0)
    rows = train(model, Reading(model, text, 4, 32), plan, measure=lambda _: {"loss": float(losses(model, held).mean())}).rows
    assert rows[-1]["held_loss"] < 0.5 * rows[0]["held_loss"]
    again = make(recipe, Bytes())
    train(again, Reading(again, text, 4, 32), Plan(30, rate=1e-2, every=20, final=1.0), folder=tmp_path)
    again = make(recipe, Bytes(), seed=5)
    train(again, Reading(again, text, 4, 32), plan, folder=tmp_path)
    assert all(torch.equal(one, other) for one, other in zip(model.state_dict().values(), again.state_dict().values()))


def test_text_is_read_packed_or_not_and_bytes_come_back(tmp_path: Path) -> None:
    import gzip

    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(TEXT))
    (tmp_path / "a.txt").write_bytes(TEXT)
    assert load_text(tmp_path / "a.txt.gz") == load_text(tmp_path / "a.txt") == TEXT
    assert Bytes().decode(Bytes().encode(bytes(range(256))).tolist()) == bytes(range(256))
    pytest.importorskip("tokenizers")
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no tokenizer\.json"):
        TokenizerFile(tmp_path / "t.json")


def test_a_state_of_a_layer_is_no_session(typed: Typed, tmp_path: Path) -> None:
    typed("train", "lm", "--data", "fox.txt", *SMALL, "--steps", "1")
    recipe = Recipe(size=Size(dim=16))
    save_state(make(recipe, Bytes()).init_state(1), tmp_path / "s")
    assert load_state(tmp_path / "s").batch == 1
    code, _, err = typed("generate", "lm", "--prompt", "a", "--session", "s")
    assert code == 2
    assert "is no session of this model" in err
