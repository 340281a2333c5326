"""PairwiseMemory: one matrix of weights, made by a learning rule; f(x) = activation(W x + b).

The correlation matrices of Kohonen and Amari are this class with Hebb's rule; Storkey's, the pseudo-inverse, perceptrons, Willshaw's and
Bayesian networks with others. Cues [batch, dim], weights [value_dim, dim]; b is 0 unless the rule learns one.
"""

from typing import Any, Unpack

import torch
from torch import Tensor

from ammon.dynamics.settle import Recall, Settling, settle
from ammon.dynamics.sweep import sweep
from ammon.energies.pairwise_flips import PairwiseFlips
from ammon.energies.quadratic import QuadraticEnergy
from ammon.learning.base import Fit, Learned, Rule, Trained, tensors
from ammon.learning.hebb import Hebb
from ammon.learning.local import LocalRule
from ammon.memories.bank import Bank
from ammon.memories.base import Memory
from ammon.memories.binary import Order
from ammon.memories.checks import check_cue, check_pair
from ammon.parts.lagrangians import Identity, Lagrangian, Sign
from ammon.shapes import Energies, Rows, States, Weights, check_bipolar, check_count, check_rows


class PairwiseMemory(Memory):
    """Weights between units; constant in size with a rule that is online, whatever the number of patterns.

    "synchronous": all units at once; auto-associative with a symmetric W it has the energy L*(g) - g·W g/2 - b·g, which never rises if W
    has no negative eigenvalue. "asynchronous": ±1 units one by one, in turn or in an order drawn from `generator`; none votes for itself,
    and with a symmetric W the energy never rises. Hetero-associative it has no energy, and one step is all it does.

    rehearse: a rule that is not online needs all patterns together, so they are kept and learned anew at each write. With False only
    the new ones are learned, on top of what is there, and the old may be lost.
    """

    def __init__(
        self,
        dim: int,
        rule: Rule[Any],
        activation: Lagrangian | None = None,
        steps: int = 1,
        update: Order = "synchronous",
        rehearse: bool = True,
    ) -> None:
        super().__init__()
        check_count("PairwiseMemory", "dim", dim)
        check_count("PairwiseMemory", "steps", steps)
        if update not in ("asynchronous", "synchronous"):
            raise ValueError(f'PairwiseMemory: update must be "asynchronous" or "synchronous", got {update!r}.')
        if activation is None:
            activation = Sign() if update == "asynchronous" else Identity()
        if update == "asynchronous" and not isinstance(activation, Sign):
            raise ValueError(f"PairwiseMemory: units that update one by one are ±1, so their activation is Sign, not {activation}.")
        self.dim, self.rule, self.steps, self.update, self.rehearse = dim, rule, steps, update, rehearse
        self.activation = activation
        # nothing is learned yet, but what a rule holds must have its names before a state_dict can be loaded
        empty = rule.begin(0, dim, torch.empty(0, dim))
        self._kind: type[Learned] | None = None if isinstance(empty, Tensor) else type(empty)
        self._names = list(tensors(empty))
        for name, tensor in tensors(empty).items():
            self.register_buffer(_buffer(name), tensor)
        self.register_buffer("written", torch.zeros(2, dtype=torch.int64))
        self.matrix: Tensor
        self.written: Tensor  # patterns, of which with a value of their own
        if rehearse and not rule.online:
            self.keys, self.values = Bank(dim), Bank()

    def write(self, patterns: Rows, values: Rows | None = None) -> None:
        check_pair(self, patterns, values, len(self.matrix) if self._hetero else None)
        self._check_signs("write", "pattern" if values is None else "value", patterns if values is None else values)
        like = self.matrix if len(self) else (patterns if values is None else values)
        keys = patterns.detach().to(like)
        targets = None if values is None else values.detach().to(like)
        if not len(self) or hasattr(self, "keys"):
            state = self.rule.begin(self.dim if targets is None else targets.shape[1], self.dim, like)
        else:
            state = self._state
        pre, post = keys, targets
        if hasattr(self, "keys") and len(self):
            pre = torch.cat([self.keys.rows, keys])
            post = None if targets is None else torch.cat([self.values.rows, targets])
        # the same tensor twice tells the rule that patterns are associated with themselves
        for name, tensor in tensors(self.rule.learn(state, pre if post is None else post, pre)).items():
            setattr(self, _buffer(name), tensor)
        if hasattr(self, "keys"):
            self.keys.append(keys)
            if targets is not None:
                self.values.append(targets)
        self.written = self.written + torch.tensor([len(patterns), 0 if values is None else len(values)], device=self.written.device)

    def forget(self, patterns: Rows, values: Rows | None = None) -> None:
        """Take away patterns that were written, and with them their values, by Hebb's product with the opposite sign.

        What was never written would leave a hole. TypeError unless the rule is Hebb's, without forgetting of its own.
        """
        where = "PairwiseMemory.forget"
        if not isinstance(self.rule, Hebb) or self.rule.forgetting:
            raise TypeError(
                f"{where}: only what Hebb's rule has summed can be taken away, not what {type(self.rule).__name__} has learned."
            )
        check_rows(where, "pattern", patterns, self.dim)
        if len(patterns) > len(self):
            raise ValueError(f"{where}: {len(patterns)} patterns to forget, {len(self)} are held; give rows that were written.")
        if (values is not None) != self._hetero or (values is not None and values.shape != (len(patterns), len(self.matrix))):
            held = f"values of dim {len(self.matrix)}" if self._hetero else "no values"
            raise ValueError(f"{where}: the memory holds {held}; give each pattern as it was written.")
        keys = patterns.detach().to(self.matrix)
        unlearning = LocalRule(c_corr=-self.rule.rate, self_connections=self.rule.self_connections)
        learned = unlearning.learn(self.matrix, keys if values is None else values.detach().to(self.matrix), keys)
        change = torch.tensor([len(patterns), 0 if values is None else len(patterns)], device=self.written.device)
        self.written = self.written - change
        # with nothing left, what is left of the sum is rounding
        self.matrix = learned if len(self) else torch.zeros_like(learned)

    def recall(self, cue: States, **settling: Unpack[Settling]) -> Recall:
        check_cue(self, "recall", cue, self.matrix)
        if not self._hetero:
            self._check_signs("recall", "cue", cue)
        settling = {"steps": 1 if self._hetero else self.steps, **settling}
        if self._hetero:
            if settling["steps"] != 1:
                raise ValueError(f"PairwiseMemory.recall: a hetero-associative matrix is read once; got steps={settling['steps']}.")
            return settle(lambda state, rows: self._step(state), cue, read=self._step, **settling)
        if self.update == "synchronous":
            return settle(lambda state, rows: self._step(state), cue, **settling)
        generator, clamp = settling.get("generator"), settling.get("clamp")
        flips = PairwiseFlips(self.matrix, self.bias)

        def in_turn(state: Tensor, rows: Tensor) -> Tensor:
            # one order for the whole batch: an item's answer does not depend on its batch mates
            order = None if generator is None else torch.randperm(self.dim, generator=generator, device=generator.device).to(state.device)
            return sweep(flips, state, order, None if clamp is None else ~clamp[rows])

        return settle(in_turn, cue, **settling)

    def energy(self, state: States) -> Energies:
        if self._hetero:
            raise TypeError("PairwiseMemory.energy: hetero-associative recall leaves the space of its cue, so it has no energy.")
        check_cue(self, "energy", state, self.matrix)
        self._check_signs("energy", "state", state)
        # sums may round differently on the two sides of the diagonal
        slack = self.dim * torch.finfo(self.matrix.dtype).eps * self.matrix.abs().amax()
        if bool(((self.matrix - self.matrix.mT).abs() > slack).any()):
            raise TypeError("PairwiseMemory.energy: the weights are not symmetric, so recall descends no energy.")
        energy: Tensor = QuadraticEnergy(self.activation)(state, self.matrix)
        return energy if self.bias is None else energy - state @ self.bias

    def weights(self, cue: States) -> Weights:
        raise TypeError("PairwiseMemory.weights: the patterns are superposed in one matrix, so none has a weight of its own.")

    def __len__(self) -> int:
        return int(self.written[0])

    def extra_repr(self) -> str:
        return f"dim={self.dim}, patterns={len(self)}, rule={type(self.rule).__name__}, update={self.update}, steps={self.steps}"

    @property
    def fit(self) -> Fit | None:
        """What the last fit found; None if the rule makes none, or nothing was written."""
        return self._state.fit if len(self) and isinstance(self._state, Trained) else None

    @property
    def bias(self) -> Tensor | None:
        """What is added to the field of each unit [value_dim], if the rule learns it."""
        return getattr(self._state, "bias", None)

    @property
    def _hetero(self) -> bool:
        return bool(self.written[1] > 0)

    @property
    def _state(self) -> Any:
        """What the rule has learned, put together from the buffers."""
        if self._kind is None:
            return self.matrix
        return self._kind(**{name: getattr(self, _buffer(name)) for name in self._names})

    def _check_signs(self, method: str, what: str, rows: Tensor) -> None:
        if isinstance(self.activation, Sign):
            check_bipolar(f"PairwiseMemory.{method}", what, rows)

    def _step(self, state: Tensor) -> Tensor:
        field = state @ self.matrix.mT
        activated: Tensor = self.activation(field if self.bias is None else field + self.bias)
        return activated

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        # a matrix for values of another size than this one's is no error: it replaces it
        for name in map(_buffer, self._names):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _buffer(name: str) -> str:
    """Where a tensor of what was learned is kept, apart from the memory's own attributes."""
    return name if name == "matrix" else f"learned_{name}"
