"""Reading: a language model reads a text piece after piece, its state carried along. Tokens [token].

Rows of the batch are readers who begin at even distances in the text. Gradients go back to the beginning of a piece.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ammon.nn.language_model import MemoryTransformer, next_token_loss
from ammon.nn.stack import StackState
from ammon.training.trainer import Moment


class Reading:
    """The loss of a piece of the text for each reader, in nats a token. Carries what the readers' memories hold from piece to piece."""

    def __init__(self, model: MemoryTransformer, tokens: Tensor, batch: int, length: int) -> None:
        self.model, self.tokens, self.batch, self.length = model, tokens, batch, length
        self.state: StackState | None = None

    def __call__(self, model: nn.Module, moment: Moment) -> Tensor:
        device = self.model.embedding.weight.device
        inputs, targets = (moment.mine(rows).to(device) for rows in lanes(self.tokens, self.batch, self.length, moment.step))
        logits, state = model(inputs, self.state)
        self.state = state.detach()
        return next_token_loss(logits, targets)

    def state_dict(self) -> dict[str, Tensor]:
        return {} if self.state is None else self.state.named()

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        if not tensors:
            return
        fresh = self.model.init_state(len(next(iter(tensors.values()))))
        held = iter([(tensors[name], tensor.device) for name, tensor in fresh.named().items()])

        def put(tensor: Tensor) -> Tensor:
            saved, device = next(held)
            return saved.to(device)

        self.state = fresh.map(put)


@torch.no_grad()
def losses(model: MemoryTransformer, tokens: Tensor, piece: int = 1024, most: int | None = None) -> Tensor:
    """The loss of each token but the first, in nats, [token]; read from the first on, the state carried along. most: only so many."""
    device = model.embedding.weight.device
    tokens = tokens[: None if most is None else most + 1].to(device)
    state, found = None, []
    for start in range(0, len(tokens) - 1, piece):
        part = tokens[start : start + piece + 1]
        logits, state = model(part[None, :-1], state)
        found.append(nn.functional.cross_entropy(logits[0], part[1:], reduction="none"))
    return torch.cat(found)


def lanes(tokens: Tensor, rows: int, length: int, step: int) -> tuple[Tensor, Tensor]:
    """What `rows` readers, who begin at even distances in the text and read on for ever, see at a step: inputs and targets [row, length].

    A function of the step, so it can go on anywhere. At the end of the text a reader goes on at its beginning.
    """
    if len(tokens) <= length:
        raise ValueError(f"lanes: a text of more than {length} tokens is needed, got {len(tokens)}; read shorter pieces.")
    starts = torch.arange(rows) * len(tokens) // rows
    places = (starts[:, None] + step * length + torch.arange(length + 1)) % len(tokens)
    some = tokens[places]
    return some[:, :-1], some[:, 1:]
