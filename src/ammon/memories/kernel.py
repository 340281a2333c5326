"""KernelMemory: f(s) = sign(Σ_μ α_μ k(s, ξ^μ)), its dual coefficients α learned for all units together on one Gram matrix.

Kernel ridge and kernel logistic regression Hopfield networks (Tamamori 2025) are this class with other rules. Cues [batch, dim],
coefficients [pattern, unit]. sign(0) = +1.
"""

import warnings
from collections.abc import Sequence
from copy import copy
from typing import Any, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.dynamics.settle import Recall, Settling, settle
from ammon.dynamics.sweep import sweep
from ammon.learning.kernel import DualRule, Factor, Fit, Gram, dependent
from ammon.learning.reduced import Reduced, second_moments
from ammon.memories.bank import Bank
from ammon.memories.base import Memory
from ammon.memories.binary import Order
from ammon.memories.checks import check_cue, check_pair
from ammon.parts.kernels import Kernel, PolynomialKernel, UpToScale, check_finite, gram
from ammon.parts.lagrangians import Identity, Sign
from ammon.parts.reduction import Landmarks, RandomFeatures
from ammon.parts.retrieve import retrieve
from ammon.parts.similarity import Dot, Similarity
from ammon.shapes import Energies, Index, Rows, States, Weights, check_bipolar, check_count


class KernelMemory(Memory):
    """Patterns of ±1 that a convex loss with one minimum makes fixed points of their own sign.

    "synchronous": all units at once; a 2-cycle may come. "asynchronous": one step is one sweep over the units, in turn or in an order
    drawn from `generator`; a flip moves the overlaps s·ξ by whole numbers, O(pattern), and the kernel is taken from them.
    With values (±1) their units are learned instead, from keys that may be any real rows, and a recall is one synchronous step, or as
    many as are asked for where values have the size of keys: write(ξ[:-1], ξ[1:]) is a sequence, and recall(cue, steps=n) walks it.
    Neither descends a known energy: -Σ s h, the papers' pseudo-energy, is no proven Lyapunov function.
    steps: at most so many for auto-association. fit: what the last fit found; None while the memory is empty.
    Written patterns keep the factor of their Gram matrix (pattern² numbers) so that writing on and forgetting fit from there.
    reduction: for many patterns, a space of few features in which the same loss is fitted: `Landmarks` or `RandomFeatures`. Patterns then
    pass by in blocks, nothing of size pattern² is made, and there is one coefficient per feature and unit.
    """

    def __init__(
        self,
        dim: int,
        kernel: Similarity,
        rule: DualRule,
        update: Order = "synchronous",
        steps: int = 30,
        reduction: Landmarks | RandomFeatures | None = None,
    ) -> None:
        super().__init__()
        check_count("KernelMemory", "dim", dim)
        check_count("KernelMemory", "steps", steps)
        if update not in ("asynchronous", "synchronous"):
            raise ValueError(f'KernelMemory: update must be "asynchronous" or "synchronous", got {update!r}.')
        if isinstance(kernel, Dot):
            kernel = PolynomialKernel(1, offset=0.0)
        if not isinstance(kernel, Kernel):
            raise TypeError(f"KernelMemory: {type(kernel).__name__} is no kernel; take one of ammon.parts.kernels, or Dot.")
        if reduction is not None:
            reduction.check(kernel, dim, update)
        self.dim, self.kernel, self.rule, self.update, self.steps, self.reduction = dim, kernel, rule, update, steps, reduction
        self.keys, self.values = Bank(dim), Bank()
        self.fit: Fit | None = None
        self.register_buffer("dual", torch.empty(0, 0))
        self.register_buffer("landmarks", torch.empty(0, dim))
        self.dual: Tensor
        self.landmarks: Tensor  # [landmark, dim]; none without that reduction
        self._factor: Factor | None = None
        self._products: Tensor | None = None  # Σ f fᵀ of the features of all patterns, in float64

    def write(self, patterns: Rows, values: Rows | None = None) -> None:
        check_pair(self, patterns, values, self.values.dim if self._hetero else None)
        check_bipolar("KernelMemory.write", "pattern" if values is None else "value", patterns if values is None else values)
        if not len(patterns):
            return
        if self.reduction is not None:
            self._write_reduced(patterns, values)
            return
        old = len(self)
        rows = patterns.detach() if not old else torch.cat([self.keys.rows, patterns.detach().to(self.keys.rows)])
        compared = Gram(gram(self.kernel, _wide(rows)))
        if self._factor is not None and old:
            compared.held = self._factor.grown(compared.matrix)
        self._learn(compared, patterns if values is None else values, old)
        self._append(patterns, values)
        superfluous = dependent(compared.matrix, self.kernel.strict, old)
        if superfluous:
            warnings.warn(
                f"KernelMemory.write: {superfluous} of the {len(self)} patterns are equal to others, or depend on them under this "
                "kernel; the coefficients are those of least norm, shared among them.",
                stacklevel=2,
            )
        self._warn("write")

    def forget(self, indices: Sequence[int] | Tensor) -> None:
        """Unlearn the patterns at these places (in the order of writing) and fit the others from where they are."""
        chosen = torch.as_tensor(indices, device=self.keys.rows.device)
        if not chosen.numel():
            return
        if chosen.ndim != 1 or chosen.is_floating_point() or chosen.dtype == torch.bool:
            raise ValueError(f"KernelMemory.forget: the places must be a row of whole numbers, got {indices!r}.")
        chosen = torch.unique(chosen.to(torch.int64))
        if not 0 <= int(chosen[0]) <= int(chosen[-1]) < len(self):
            raise ValueError(f"KernelMemory.forget: the memory holds patterns 0 to {len(self) - 1}, got {indices!r}.")
        kept = torch.ones(len(self), dtype=torch.bool, device=chosen.device)
        kept[chosen] = False
        gone = self.keys.rows[chosen]
        if not bool(kept.any()):
            self.fit, self._factor, self._products, self.dual, self.landmarks = None, None, None, self.dual[:0], self.landmarks[:0]
        elif self.reduction is None:
            left = Gram(gram(self.kernel, _wide(self.keys.rows[kept])), None if self._factor is None else self._factor.without(chosen))
            targets, self.dual = self._targets()[kept], self.dual[kept]
            self._learn(left, targets[:0], len(targets), targets)
        for bank in (self.keys, self.values) if self._hetero else (self.keys,):
            rows = bank.rows[kept].clone()
            bank.clear()
            if len(rows):
                bank.append(rows)
        if self.reduction is not None and len(self):
            if self._products is not None:
                self._products = self._products - second_moments(self._features, _wide(gone))
            self._reduce(start=True)
        self._warn("forget")

    def recall(self, cue: States, **settling: Unpack[Settling]) -> Recall:
        check_cue(self, "recall", cue, self.keys.rows)
        if self._hetero:
            return self._read(cue, {"steps": 1, **settling})
        settling = {"steps": self.steps, **settling}
        if self.update == "synchronous":
            return settle(lambda state, rows: self._step(state), cue, **settling)
        check_bipolar("KernelMemory.recall", "cue", cue)
        generator, clamp, fields = (
            settling.get("generator"),
            settling.get("clamp"),
            KernelFields(self._centres(), self._dual(), self.kernel),
        )

        def in_turn(state: Tensor, rows: Tensor) -> Tensor:
            # one order for the whole batch: an item's answer does not depend on its batch mates
            order = None if generator is None else torch.randperm(self.dim, generator=generator, device=generator.device).to(state.device)
            return sweep(fields, state, order, None if clamp is None else ~clamp[rows])

        return settle(in_turn, cue, **settling)

    def energy(self, state: States) -> Energies:
        check_cue(self, "energy", state, self.keys.rows)
        raise TypeError("KernelMemory.energy: recall by learned coefficients descends no known energy, so there is no energy to give.")

    def weights(self, cue: States) -> Weights:
        """The kernel of the cue with each pattern, [batch, pattern]."""
        check_cue(self, "weights", cue, self.keys.rows)
        weights: Tensor = self.kernel(cue, self.keys.rows)
        return weights

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def _hetero(self) -> bool:
        return len(self.values) > 0

    def _read(self, cue: Tensor, settling: Settling) -> Recall:
        """Values are read, again and again where they can be cues."""
        if self.values.dim == self.dim:
            return settle(lambda state, rows: self._step(state), cue, **settling)
        if settling["steps"] != 1:
            raise ValueError(
                f"KernelMemory.recall: values of dim {self.values.dim} cannot be cues of dim {self.dim}, so they are read once; "
                f"got steps={settling['steps']}."
            )
        return settle(lambda state, rows: state, cue, read=self._step, **settling)

    def _step(self, state: Tensor) -> Tensor:
        keys = self._centres()
        if isinstance(self.reduction, RandomFeatures):
            fields = self.reduction.features(_wide(state)) @ self._dual()
        else:
            # only signs are asked for, so no row of kernels need underflow as a whole
            fields = retrieve(state.to(keys), keys, self._dual(), UpToScale(self.kernel), Identity())
        return Sign().activation(fields).to(state.dtype)

    def _keys(self) -> Tensor:
        return _wide(self.keys.rows)

    def _centres(self) -> Tensor:
        """What a state is compared with: the patterns, or the landmarks that stand for them."""
        return self.landmarks.to(self._keys()) if isinstance(self.reduction, Landmarks) else self._keys()

    def _dual(self) -> Tensor:
        return self.dual.to(self._keys().dtype)

    def _targets(self) -> Tensor:
        return self.values.rows if self._hetero else self.keys.rows

    def _learn(self, compared: Gram, new: Tensor, old: int, held: Tensor | None = None) -> None:
        """Fit the targets held (by default all so far) and new ones, from the coefficients of the `old`."""
        held = self._targets()[:old] if held is None else held
        targets = (new.detach() if not old else torch.cat([held, new.detach().to(held)])).to(compared.matrix)
        start = None
        if old:
            start = torch.cat([self.dual.to(targets), torch.zeros_like(targets[old:])])
        dual, fit = self.rule.solve(compared, targets, start)
        self.dual, self.fit, self._factor = dual.contiguous(), fit, compared.held

    def _append(self, patterns: Tensor, values: Tensor | None) -> None:
        self.keys.append(patterns)
        if values is not None:
            self.values.append(values)

    def _write_reduced(self, patterns: Tensor, values: Tensor | None) -> None:
        assert self.reduction is not None
        old, like = len(self), self.keys.rows if len(self) else patterns.detach()
        new = _wide(patterns.detach().to(like))
        if isinstance(self.reduction, RandomFeatures):
            self.reduction.features.to(new)
        drawn = self.reduction.draw(new, len(self.landmarks) if old else 0)
        if len(drawn):
            landmarks = drawn if not old else torch.cat([self.landmarks.to(drawn), drawn])
            check_finite(self.kernel, self.kernel(landmarks, landmarks))
            self.landmarks, self._products = landmarks, None
        self._append(patterns, values)
        if self._products is not None:
            self._products = self._products + second_moments(self._features, new)
        self._reduce(start=bool(old) and not len(drawn))
        self._warn("write")
        needed = self.reduction.wanting(self.kernel, self._keys(), self._features, self._metric())
        if needed:
            warnings.warn(f"KernelMemory.write: {needed}", stacklevel=3)

    def _features(self, rows: Tensor) -> Tensor:
        if isinstance(self.reduction, RandomFeatures):
            random: Tensor = self.reduction.features(rows)
            return random
        features: Tensor = self.kernel(rows, self.landmarks)
        return features

    def _metric(self) -> Tensor | None:
        if isinstance(self.reduction, RandomFeatures):
            return None
        metric: Tensor = gram(self.kernel, self.landmarks)
        return metric

    def _reduce(self, start: bool) -> None:
        """Fit all patterns held in the space of features, from the coefficients that are there if they are to be the start."""
        if self._products is None:
            self._products = second_moments(self._features, _wide(self.keys.rows))
        problem = Reduced(self._features, _wide(self.keys.rows), self._targets(), self._metric(), self._products)
        self.dual, self.fit = self.rule.solve_reduced(problem, self.dual if start else None)

    def _warn(self, method: str) -> None:
        if self.fit is not None and not self.fit.converged:
            warnings.warn(
                f"KernelMemory.{method}: the fit stopped at a residual of {self.fit.residual:.1e} after {self.fit.iterations} iterations; "
                "allow more, write float64 rows, or take a larger penalty or tolerance.",
                stacklevel=3,
            )

    def get_extra_state(self) -> Tensor:
        """The fit, as numbers that can be saved."""
        fit = self.fit or Fit(float("nan"), 0, False)
        return torch.tensor([fit.residual, fit.iterations, fit.converged], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        residual, iterations, converged = state.tolist()
        self.fit = Fit(residual, int(iterations), bool(converged)) if iterations else None

    def _apply(self, *args: Any, **kwargs: Any) -> "KernelMemory":
        # in another dtype or on another device what was factored is of no use
        self._factor, self._products = None, None
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        self._factor, self._products = None, None
        # coefficients of another number of patterns than this one's are no error: they replace them
        for name in ("dual", "landmarks"):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args)


class KernelFields:
    """The fields h_i(s) of a sweep, from overlaps s·ξ that are carried as whole numbers and so never drift. Patterns must be ±1."""

    def __init__(self, keys: Tensor, dual: Tensor, kernel: Kernel) -> None:
        self.units = keys.mT.contiguous()  # [dim, pattern]
        self.dual, self.kernel = dual, kernel

    def arrange(self, order: Index) -> "KernelFields":
        """The same, its units in this order."""
        arranged = copy(self)
        arranged.units, arranged.dual = self.units[order], self.dual[:, order]
        return arranged

    def begin(self, state: Tensor) -> Float[Tensor, "row pattern"]:
        """The overlaps of the states."""
        return state.to(self.units) @ self.units

    def field(self, carried: Tensor, spins: Tensor, units: slice) -> Float[Tensor, "row unit"]:
        """h of each of `units`, up to a positive factor per row."""
        length = float(len(self.units))
        return self.kernel.of(carried, length, length, scale_free=True) @ self.dual[:, units]

    def field_after(self, carried: Tensor, last: Tensor, spins: Tensor, units: slice) -> Float[Tensor, "item unit"]:
        """The same where each unit has its own row of `carried`, named by `last`."""
        return self.field(carried, spins, units).gather(0, last)

    def change(self, units: Index, new: Float[Tensor, " index"]) -> Float[Tensor, "index pattern"]:
        """How the overlaps move when units[k] becomes new[k], row by row."""
        return self.units[units].mul_(2 * new.to(self.units.dtype).unsqueeze(-1))


def _wide(rows: Tensor) -> Tensor:
    """In float32 at least: half precision holds no overlap beyond a few hundred."""
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
