"""Surprise: a network learns pairs by gradient while it is used, with momentum and decay (Titans; Behrouz et al. 2024, eq. 8-15).

S_t = η_t S_{t-1} - θ_t ∇|f(k_t) - v_t|²; M_t = (1 - α_t) M_{t-1} + S_t; y_t = M_t(q_t). Gradients are taken at the weights with which the
token's chunk began: chunks of 1 are exact, longer ones run as matrix products. Keys, values and queries [batch, head, time, dim].
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ammon.learning.chunks import one_by_one, together
from ammon.learning.dual_form import DualForm
from ammon.learning.fast_weights import Form, Gate, Gates, Heads, Held, Mlp, Network, Targets
from ammon.learning.gated_scan import GatedScan
from ammon.learning.token_loop import TokenLoop
from ammon.shapes import check_count, check_positive

FORMS: dict[str, Form] = {"dual": DualForm(), "scan": GatedScan(), "loop": TokenLoop()}


@dataclass(frozen=True)
class Surprise:
    """How a network learns. chunk: tokens that share the weights at which their gradient is taken (b in the paper).

    limit: a bound on the norm of each token's gradient, g/sqrt(1 + |g|²/limit²); None leaves it as it is. form: "dual" (`Mlp` only),
    "scan" (any network) or "loop" (reference); None takes the fastest that the network allows. All give the same numbers.
    compiled: the dual form compiles the work of a chunk at its first use, by torch.compile; for networks that are not residual.
    orthogonal: matrices move along their momentum made orthogonal by so many Newton-Schulz steps, 5 in Muon (ATLAS; Behrouz et al. 2025,
    eq. 32-33): S_t = η_t S_{t-1} - ∇; M_t = (1 - α_t) M_{t-1} + θ_t NS(S_t). NS forgets the size of S, so θ_t alone is that of a step: its
    largest singular value, up to 1.2. By the scan or the loop only. None: the momentum itself, with θ_t before it.
    """

    chunk: int = 16
    limit: float | None = None
    form: str | None = None
    compiled: bool = False
    orthogonal: int | None = None

    def __post_init__(self) -> None:
        check_count("Surprise", "chunk", self.chunk)
        if self.limit is not None:
            check_positive("Surprise", "limit", self.limit)
        if self.form not in (None, *FORMS):
            raise ValueError(f"Surprise: form must be one of {', '.join(FORMS)} or None, got {self.form!r}.")
        if self.orthogonal is not None:
            check_count("Surprise", "orthogonal", self.orthogonal)
            if self.form == "dual" or self.compiled:
                raise ValueError(
                    "Surprise: the dual form, compiled or not, needs weights that are linear in the momentum, and with orthogonal "
                    f'= {self.orthogonal} they are not; leave it out or use form="scan", not compiled.'
                )

    def form_of(self, network: Network) -> Form:
        """The way in which this network is run; ValueError if it has no such way."""
        if self.orthogonal is not None:
            return TokenLoop(self.orthogonal) if self.form == "loop" else GatedScan(self.orthogonal)
        name = self.form or ("dual" if isinstance(network, Mlp) else "scan")
        if name == "dual" and not isinstance(network, Mlp):
            raise ValueError(f'Surprise: the dual form is known for Mlp, not for {type(network).__name__}; use form="scan".')
        return FORMS[name]

    def learn(
        self,
        network: Network,
        held: Held,
        keys: Heads,
        values: Targets,
        gates: Gates,
        queries: Heads | None = None,
        *,
        count: Tensor | None = None,
        aligned: bool = False,
    ) -> tuple[Tensor | None, Held]:
        """Write the tokens in order; each query reads after its own token is written. Pure: what was held stays as it was.

        count [batch]: each row has so many tokens, its first ones; the rest are not there. None: all. aligned: it is known that every
        row stands at the start of a chunk, which saves moving the tokens to where their chunks begin.
        """
        time = keys.shape[2]
        total, place, keys, values, queries, gates = self._slots(held, keys, values, queries, gates, count, aligned)
        outputs, held = self._chunks(network, held, keys, values, gates, queries, total, 0 if count is not None else time // self.chunk)
        if outputs is not None:
            outputs = outputs[:, :, :time] if place is None else _take(outputs, place)
        return outputs, held._replace(filled=total % self.chunk)

    @torch.no_grad()
    def norms(
        self,
        network: Network,
        held: Held,
        keys: Heads,
        values: Targets,
        gates: Gates,
        *,
        count: Tensor | None = None,
        aligned: bool = False,
    ) -> Gate:
        """How much each token surprises: the norm of the gradient that `learn` would take, before its limit; 0 where none is there.

        Chunk by chunk, without gradients: what it costs is a `learn` without queries.
        """
        form, time = self.form_of(network), keys.shape[2]
        total, place, keys, values, _, gates = self._slots(held, keys, values, None, gates, count, aligned)
        there = gates.valid[:, :, :time] if place is None else _take(gates.valid, place)
        keys, values, _, plan = self._by_chunk(form, keys, values, None, gates)
        noted: list[Tensor] = []
        one_by_one(form, network, held, keys, values, None, plan, total // self.chunk, self.limit, noted)
        found = torch.cat(noted, 2)
        return there * (found[:, :, :time] if place is None else _take(found, place))

    def _slots(
        self, held: Held, keys: Tensor, values: Tensor, queries: Tensor | None, gates: Gates, count: Tensor | None, aligned: bool
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor | None, Gates]:
        """Tokens where the chunks of all rows begin at the same slots: how many there are then, the slot of each, and they themselves."""
        time = keys.shape[2]
        if count is not None:
            gates = gates.only((torch.arange(time, device=keys.device) < count[:, None])[:, None])
        total = held.filled + (time if count is None else count)
        place = None
        if time > 1 and self.chunk > 1 and not aligned:
            # token j of a row goes to slot filled + j, so that the chunks of all rows begin at the same slots
            place = held.filled[:, None] + torch.arange(time, device=keys.device)
            slots = torch.arange(time + self.chunk - 1, device=keys.device) - held.filled[:, None]
            inside = (slots >= 0) & (slots < time)
            slots = slots.clamp(0, time - 1)
            keys, values = _take(keys, slots), _take(values, slots)
            queries = None if queries is None else _take(queries, slots)
            gates = Gates(*(_take(gate, slots) for gate in gates)).only(inside[:, None])
        return total, place, keys, values, queries, gates

    def _chunks(
        self,
        network: Network,
        held: Held,
        keys: Tensor,
        values: Tensor,
        gates: Gates,
        queries: Tensor | None,
        total: Tensor,
        least: int,
    ) -> tuple[Tensor | None, Held]:
        form, full = self.form_of(network), total // self.chunk
        keys, values, asked, plan = self._by_chunk(form, keys, values, queries, gates)
        if isinstance(form, DualForm) and isinstance(network, Mlp) and not network.residual:
            read, anchor, weights, momentum = together(held, keys, values, asked, plan, full, least, self.limit, self.compiled)
        else:
            read, anchor, weights, momentum = one_by_one(form, network, held, keys, values, asked, plan, full, self.limit)
        return (None if read is None else read.movedim(0, 2).flatten(2, 3)), Held(anchor, weights, momentum, held.filled)

    def _by_chunk(
        self, form: Form, keys: Tensor, values: Tensor, queries: Tensor | None, gates: Gates
    ) -> tuple[Tensor, Tensor, Tensor | None, Any]:
        """Keys, values, queries and the plan of each chunk."""
        slots = keys.shape[2]
        size = min(self.chunk, slots)
        number = math.ceil(slots / size)
        missing = number * size - slots
        # slots that are not there change nothing
        resting = Gates(0.0, 1.0, 0.0, 0.0)  # type: ignore[arg-type]
        plan = form.plan(Gates(*(_split(gate, missing, number, rest) for gate, rest in zip(gates, resting))))  # type: ignore[arg-type]
        keys, values = _split(keys, missing, number), _split(values, missing, number)
        return keys, values, None if queries is None else _split(queries, missing, number), plan


def open_gates(step: Gate, momentum: Gate, decay: Gate) -> Gates:
    """The gates of tokens that are all there."""
    return Gates(step, momentum, decay, torch.ones_like(step))


def _take(rows: Tensor, index: Tensor) -> Tensor:
    """rows [batch, head, time, ...] at index [batch, slot]."""
    wide = index[:, None].expand(-1, rows.shape[1], -1)
    if rows.ndim == 4:
        return rows.gather(2, wide.unsqueeze(-1).expand(-1, -1, -1, rows.shape[-1]))
    return rows.gather(2, wide)


def _split(rows: Tensor, missing: int, number: int, value: float = 0.0) -> Tensor:
    """[batch, head, time, ...] as [chunk, batch, head, time, ...], filled up with `value`."""
    if missing:
        rows = functional.pad(rows, (0, 0, 0, missing) if rows.ndim == 4 else (0, missing), value=value)
    return rows.reshape(*rows.shape[:2], number, -1, *rows.shape[3:]).movedim(2, 0)
