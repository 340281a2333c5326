"""Events: where a stream surprises, a new segment begins. Surprise [batch, time] → bool [batch, time], the `boundary` of a memory."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ammon.nn.packing import last, packing
from ammon.nn.state import State, check_rows_of, check_state, record, replace_rows
from ammon.shapes import check_count


@record
class EventState(State):
    """The last values of each row, oldest first."""

    values: Tensor  # [batch, window]
    there: Tensor  # bool [batch, window]


class Events(nn.Module):
    """A token begins an event if its surprise is above μ + γ σ of the `window` tokens before it (Fountas et al. 2024, EM-LLM, eq. 1).

    Mean and deviation (of the population) are of each row by itself, over the tokens that are there; at least `least` are needed.
    """

    def __init__(self, window: int = 128, gamma: float = 1.0, least: int = 2) -> None:
        super().__init__()
        check_count("Events", "window", window)
        check_count("Events", "least", least)
        if least > window:
            raise ValueError(f"Events: least must be at most the window, got {least} and {window}.")
        self.window, self.gamma, self.least = window, float(gamma), least

    def init_state(self, batch: int, device: torch.device | str | None = None) -> EventState:
        """The state of `batch` rows that have seen nothing."""
        check_count("Events.init_state", "batch", batch)
        values = torch.zeros(batch, self.window, device=device)
        return EventState(values, values.bool())

    def reset(self, state: EventState, rows: Tensor) -> EventState:
        """The state with the rows [batch] that are True as if they had seen nothing."""
        check_rows_of("Events.reset", state, rows)
        return replace_rows(state, self.init_state(state.batch, state.values.device), rows)

    @torch.no_grad()
    def forward(self, surprise: Tensor, state: EventState | None = None, *, mask: Tensor | None = None) -> tuple[Tensor, EventState]:
        """Where events begin, and the state after; False where the mask is. Any split of a stream gives the same."""
        if not isinstance(surprise, Tensor) or not surprise.is_floating_point() or surprise.ndim != 2 or not len(surprise):
            got = list(surprise.shape) if isinstance(surprise, Tensor) else type(surprise).__name__
            raise ValueError(f"Events: surprise must be floating [batch, time], e.g. -log p of each token, got {got}.")
        if mask is not None and (mask.dtype != torch.bool or mask.shape != surprise.shape):
            raise ValueError(f"Events: the mask must be bool {list(surprise.shape)}, got {mask.dtype} {list(mask.shape)}.")
        fresh = self.init_state(len(surprise), surprise.device)
        if state is None:
            state = fresh
        else:
            check_state("Events", state, fresh)
        time, places = surprise.shape[1], packing(mask)
        if not time:
            return surprise.bool(), state
        new = places.pack(surprise.float())
        there = torch.ones_like(new).bool() if places.count is None else torch.arange(time, device=new.device) < places.count[:, None]
        values, held = torch.cat([state.values, new], 1), torch.cat([state.there, there], 1)
        before, known = values.unfold(1, self.window, 1)[:, :-1], held.unfold(1, self.window, 1)[:, :-1]
        number = known.sum(-1)
        mean = (before * known).sum(-1) / number.clamp(min=1)
        deviation = (((before - mean[..., None]) * known).square().sum(-1) / number.clamp(min=1)).sqrt()
        begins = (new > mean + self.gamma * deviation) & (number >= self.least) & there
        after = EventState(*(last(rows, places.count, self.window, time) for rows in (values, held)))
        return places.unpack(begins), after

    def extra_repr(self) -> str:
        return f"window={self.window}, gamma={self.gamma:g}, least={self.least}"


def surprise(logits: Tensor, tokens: Tensor) -> Tensor:
    """-log p of each token [batch, time], in nats, under the logits [batch, time, vocabulary] that were to predict it."""
    return functional.cross_entropy(logits.transpose(1, 2).float(), tokens, reduction="none")
