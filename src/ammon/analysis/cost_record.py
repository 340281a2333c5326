"""Cost record: what a formula of cost gives, and the arithmetic that takes whole numbers and sympy's symbols alike."""

from dataclasses import dataclass
from typing import Any

# a whole number or an expression of sympy
Number = Any


@dataclass(frozen=True)
class Cost:
    """Of one forward pass over the whole batch; the state is that after it.

    traffic: bytes that must move at least, each once: parameters, x, y, the state before, and what is new in the state after. What a
    layer makes on its way (scores, copies) is not in it.
    """

    flops: Number
    parameters: Number
    state_bytes: Number
    traffic: Number

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(one + two for one, two in zip(self._all, other._all)))

    def times(self, number: Number) -> "Cost":
        """Of so many layers of a kind."""
        return Cost(*(number * one for one in self._all))

    @property
    def _all(self) -> tuple[Number, ...]:
        return self.flops, self.parameters, self.state_bytes, self.traffic


def weights(number: Number, itemsize: Number) -> Cost:
    """Parameters that take part in no product, such as those of norms."""
    return Cost(0, number, 0, number * itemsize)


def whole(*numbers: Number) -> bool:
    """Whether all are numbers, not symbols."""
    return all(isinstance(number, int) for number in numbers)


def quotient(one: Number, other: Number) -> Number:
    return one // other if whole(one, other) else one / other


def least(one: Number, other: Number) -> Number:
    if whole(one, other):
        return min(one, other)
    import sympy

    return sympy.Min(one, other)


def most(one: Number, other: Number) -> Number:
    if whole(one, other):
        return max(one, other)
    import sympy

    return sympy.Max(one, other)


def up(number: Number, step: Number) -> Number:
    """The next multiple of `step`."""
    if whole(number, step):
        return -(-number // step) * step
    import sympy

    return sympy.ceiling(number / step) * step
