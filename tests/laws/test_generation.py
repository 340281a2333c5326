"""A language model reads and writes with its state carried along: in any split, as one pass; choices follow their distribution."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ammon.nn.attention import Attention
from ammon.nn.configurations import CONFIGURATIONS, Size
from ammon.nn.generation import Choice, Session, draw_tokens, read
from ammon.nn.language_model import MemoryTransformer, next_token_loss
from ammon.nn.neural import NeuralMemory
from ammon.nn.residual import FeedForward, Residual
from ammon.nn.stack import Stack
from ammon.saving import load_state, save_state

SMALL = Size(dim=8, heads=2, layers=2, near=4, window=4, chunk=3, segment=3, slots=8)
VOCABULARY = 11


def model(name: str = "hybrid") -> MemoryTransformer:
    torch.manual_seed(0)
    return MemoryTransformer(VOCABULARY, CONFIGURATIONS[name](SMALL)).double()


def tokens(rows: int = 2, time: int = 17, seed: int = 0) -> torch.Tensor:
    return torch.randint(VOCABULARY, (rows, time), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_reading_in_any_split_is_one_pass_and_no_token_sees_a_later_one(name: str) -> None:
    made, text = model(name), tokens()
    whole, _ = made(text)
    state, parts = None, []
    for part in torch.split(text, [1, 5, 0, 11], 1):
        logits, state = made(part, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-9, atol=1e-10)
    changed = text.clone()
    changed[:, 9] = (changed[:, 9] + 1) % VOCABULARY
    other, _ = made(changed)
    torch.testing.assert_close(other[:, :9], whole[:, :9], rtol=0, atol=1e-12)
    assert not torch.allclose(other[:, 9:], whole[:, 9:])


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_parameter_learns_and_masked_tokens_are_as_if_they_had_not_been(name: str) -> None:
    made, text = model(name), tokens(time=30)
    torch.autograd.backward(next_token_loss(made(text[:, :-1])[0], text[:, 1:]))
    for path, parameter in made.named_parameters():
        assert parameter.grad is not None, path
        assert parameter.grad.any(), path
    mask = torch.ones_like(text, dtype=torch.bool)
    mask[0, 3:7] = False
    logits, _ = made(text, mask=mask)
    alone, _ = made(text[:1, mask[0]])
    torch.testing.assert_close(logits[0, mask[0]], alone[0], rtol=1e-9, atol=1e-10)


def test_an_untrained_model_knows_nothing() -> None:
    torch.manual_seed(0)
    made = MemoryTransformer(256, CONFIGURATIONS["hybrid"](Size(dim=64)))
    text = torch.randint(256, (4, 64), generator=torch.Generator().manual_seed(0))
    loss = float(next_token_loss(made(text[:, :-1])[0], text[:, 1:]).detach())
    # logits of standard deviation .1 cost half its square beyond the uniform distribution; three times that for the draw
    assert abs(loss - math.log(256)) < 0.015


def test_a_saved_session_writes_what_an_unbroken_one_writes(tmp_path: Path) -> None:
    made = model()
    logits, state = read(made, tokens(1), piece=4)
    chosen = [drawn for drawn, _, _ in draw_tokens(made, logits, state, Choice(0.7), 12, generator=torch.Generator().manual_seed(1))]
    generator = torch.Generator().manual_seed(1)
    *first, (last, logits_then, state_then) = draw_tokens(made, logits, state, Choice(0.7), 5, generator=generator)
    save_state(Session(state_then, logits_then), tmp_path / "session")
    found = load_state(tmp_path / "session")
    assert isinstance(found, Session)
    rest = [drawn for drawn, _, _ in draw_tokens(made, found.logits, found.state, Choice(0.7), 7, generator=generator)]
    assert torch.equal(torch.cat([*(drawn for drawn, _, _ in first), last, *rest]), torch.cat(chosen))


def test_choices_follow_the_tempered_softmax_cut_to_the_likeliest() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.5, -1.0, -3.0]])
    chances = Choice(temperature=0.5, top_k=4, top_p=0.97).probabilities(logits)[0]
    plain = torch.softmax(logits[0].double() / 0.5, -1)
    kept = plain[:4] / plain[:4].sum()
    # the third is needed to have .97 of the first four, the fourth is not
    assert kept[:2].sum() < 0.97 <= kept[:3].sum()
    torch.testing.assert_close(chances.double(), torch.cat([plain[:3] / plain[:3].sum(), torch.zeros(2)]).double(), rtol=1e-6, atol=1e-7)
    generator = torch.Generator().manual_seed(0)
    drawn = Choice(temperature=0.5, top_k=4, top_p=0.97).draw(logits.expand(20000, -1), generator)
    counted = torch.bincount(drawn, minlength=5) / 20000
    # four standard errors
    torch.testing.assert_close(counted, chances, rtol=0, atol=4 * 0.5 / 20000**0.5)
    assert not counted[3:].any()


def test_temperature_0_and_a_single_choice_take_the_likeliest_and_extremes_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [0.0, 1.0, 1.0]])
    generator = torch.Generator().manual_seed(0)
    for choice in (Choice(0.0), Choice(top_k=1), Choice(top_p=1e-9), Choice(1e-300)):
        assert choice.draw(logits, generator).tolist()[0] == 0
        assert bool(choice.probabilities(logits).isfinite().all())
    assert Choice(top_k=99).probabilities(logits).shape == logits.shape


def test_a_module_of_tokens_has_no_state_and_a_stack_of_them_alone_is_refused() -> None:
    stack = Stack([Residual(Attention(8, 2)), FeedForward(8), Residual(NeuralMemory(8, 2))])
    assert len(stack.init_state(3).blocks) == 2
    with pytest.raises(ValueError, match="no block has a state"):
        Stack([FeedForward(8)])
    with pytest.raises(ValueError, match=r"blocks of one dim are needed.*of dim 4"):
        Stack([Residual(Attention(8, 2)), FeedForward(4)])
    with pytest.raises(ValueError, match="got none"):
        Stack([])
    with pytest.raises(TypeError, match="with dim and init_state"):
        Residual(nn.Linear(8, 8))


def test_bad_input_is_refused_with_a_sentence() -> None:
    made = model()
    with pytest.raises(TypeError, match=r"tokens must be whole numbers \[batch, time\], got torch.float32"):
        made(torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"from 0 to 10, got 11"):
        made(torch.tensor([[11]]))
    with pytest.raises(ValueError, match="no tokens to read"):
        read(made, tokens(1, 0))
    _, state = made(tokens())
    with pytest.raises(ValueError, match="of 2 rows, the input of 1"):
        made(tokens(1), state)
    with pytest.raises((ValueError, TypeError), match=r"of another|StackState|must be a"):
        model("attention")(tokens(), state)
    wrong: tuple[dict[str, Any], ...] = ({"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5})
    for given in wrong:
        with pytest.raises(ValueError, match=next(iter(given))):
            Choice(**given)
    with pytest.raises(ValueError, match="layers must be"):
        Size(layers=0)


def test_the_neural_memory_of_a_configuration_does_not_run_away_in_long_texts() -> None:
    """Large steps, long momentum, hardly any decay: without a limit on gradients its weights reach 10¹² in 1024 tokens."""
    torch.manual_seed(0)
    [memory] = [
        module for block in CONFIGURATIONS["neural"](Size(dim=64)) for module in block.modules() if isinstance(module, NeuralMemory)
    ]
    with torch.no_grad():
        memory.gate.bias.copy_(torch.tensor([3.0, 3.0, 4.6, 4.6, -6.9, -6.9]))
        _, state = memory(torch.randn(2, 1024, 64))
    assert state.weights[0].abs().amax() < 100
