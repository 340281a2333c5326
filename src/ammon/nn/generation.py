"""Generation: tokens drawn one after the other from a language model, its state carried along. Tokens [batch, time]."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ammon.nn.language_model import MemoryTransformer
from ammon.nn.stack import StackState
from ammon.nn.state import State, record
from ammon.shapes import check_count


@dataclass(frozen=True)
class Choice:
    """How the next token is drawn: from softmax(logits / temperature); temperature 0 takes the likeliest.

    Only from the `top_k` likeliest, and of these from the likeliest that together have at least the share `top_p`.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"Choice: temperature must be at least 0 and finite, got {self.temperature}.")
        if self.top_k is not None:
            check_count("Choice", "top_k", self.top_k)
        if not 0 < self.top_p <= 1:
            raise ValueError(f"Choice: top_p must be above 0 and at most 1, got {self.top_p}.")

    def probabilities(self, logits: Tensor) -> Tensor:
        """Of each token, from logits [batch, vocabulary]; 0 for those left out."""
        if self.temperature == 0:
            return functional.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
        # softmax of whole numbers of nats apart is safe at any temperature
        chances = torch.softmax((logits.double() - logits.amax(-1, keepdim=True).double()) / self.temperature, -1)
        ordered, places = torch.sort(chances, dim=-1, descending=True, stable=True)
        if self.top_k is not None:
            ordered[:, self.top_k :] = 0
        # a token is left out if those before it are enough
        before = ordered.cumsum(-1) - ordered
        ordered = torch.where(before < self.top_p * ordered.sum(-1, keepdim=True), ordered, 0.0)
        kept = torch.zeros_like(chances).scatter(-1, places, ordered)
        return (kept / kept.sum(-1, keepdim=True)).to(logits.dtype)

    def draw(self, logits: Tensor, generator: torch.Generator) -> Tensor:
        """One token for each row of logits [batch, vocabulary]: [batch]."""
        chances = self.probabilities(logits.float().cpu())
        return torch.multinomial(chances, 1, generator=generator)[:, 0].to(logits.device)


@torch.no_grad()
def read(model: MemoryTransformer, tokens: Tensor, state: StackState | None = None, piece: int = 1024) -> tuple[Tensor, StackState]:
    """Read tokens [batch, time], `piece` at a time: logits [batch, vocabulary] of the token to come, and the state."""
    if not tokens.shape[1]:
        raise ValueError("read: there are no tokens to read; give at least one, or go on from logits that you have.")
    for part in torch.split(tokens, piece, 1):
        logits, state = model(part, state)
    assert state is not None
    return logits[:, -1], state


@torch.no_grad()
def draw_tokens(
    model: MemoryTransformer, logits: Tensor, state: StackState, choice: Choice, count: int, *, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, StackState]]:
    """`count` times: the tokens [batch] drawn, the logits of those to come, and the state that has read them.

    Begins with what `read` gives. generator: on the CPU.
    """
    for _ in range(count):
        drawn = choice.draw(logits, generator)
        found, state = model(drawn[:, None], state)
        logits = found[:, -1]
        yield drawn, logits, state


@record
class Session(State):
    """Where a reading stopped: what the model holds, and the logits [batch, vocabulary] of the token to come."""

    state: StackState
    logits: Tensor
