"""MemoryTransformer: a language model of blocks with memories, whose state goes on from one text to the next. Tokens [batch, time]."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ammon.nn.stack import Stack, StackState
from ammon.shapes import check_count


class MemoryTransformer(nn.Module):
    """Embedding, blocks (`Stack`), and logits of the next token. A configuration is a function that gives blocks (`configurations`)."""

    def __init__(self, vocabulary: int, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        check_count("MemoryTransformer", "vocabulary", vocabulary)
        self.vocabulary, self.stack = vocabulary, Stack(blocks)
        self.dim = self.stack.dim
        self.embedding, self.head = nn.Embedding(vocabulary, self.dim), nn.Linear(self.dim, vocabulary, bias=False)
        # small logits, so that an untrained model takes all tokens as about equally likely; zeros would let nothing else learn at first
        nn.init.normal_(self.head.weight, std=0.1 * self.dim**-0.5)

    def init_state(self, batch: int) -> StackState:
        """The state of `batch` rows that have read nothing."""
        return self.stack.init_state(batch)

    def reset(self, state: StackState, rows: Tensor) -> StackState:
        """The state with the rows [batch] that are True as if they had read nothing."""
        return self.stack.reset(state, rows)

    def forward(self, tokens: Tensor, state: StackState | None = None, *, mask: Tensor | None = None) -> tuple[Tensor, StackState]:
        """Logits [batch, time, vocabulary] of the token after each, and the state after the last.

        mask [batch, time]: True where a token is there; the others change nothing.
        """
        self._check(tokens)
        y, state = self.stack(self.embedding(tokens), state, mask=mask)
        return self.head(y), state

    def _check(self, tokens: Any) -> None:
        where = "MemoryTransformer"
        if not isinstance(tokens, Tensor) or tokens.dtype not in (torch.int64, torch.int32) or tokens.ndim != 2:
            got = f"{tokens.dtype} {list(tokens.shape)}" if isinstance(tokens, Tensor) else type(tokens).__name__
            raise TypeError(f"{where}: tokens must be whole numbers [batch, time], got {got}.")
        # a look at the numbers waits for an accelerator, which checks for itself, and breaks a compiled graph
        if tokens.numel() and tokens.device.type == "cpu" and not torch.compiler.is_compiling():
            low, high = (int(extreme) for extreme in torch.aminmax(tokens))
            if low < 0 or high >= self.vocabulary:
                wrong = low if low < 0 else high
                raise ValueError(f"{where}: tokens must be from 0 to {self.vocabulary - 1}, got {wrong}; use the model's own tokenizer.")


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean cross entropy, in nats, of logits [batch, time, vocabulary]; targets of -100 are not asked."""
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
