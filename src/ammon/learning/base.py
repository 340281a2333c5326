"""The contract of a learning rule: patterns in, pairwise weights out, nothing kept in the rule itself."""

from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from ammon.shapes import Rows

PairwiseWeights = Float[Tensor, "post pre"]


class Rule(Protocol):
    """local: a weight changes by what its own two units do. online: one pattern at a time gives the same as all at once."""

    local: bool
    online: bool

    def begin(self, post: int, pre: int, like: Tensor) -> PairwiseWeights:
        """The weights before the first pattern, in the dtype and on the device of `like`."""
        ...

    def learn(self, weights: PairwiseWeights, post: Rows, pre: Rows) -> PairwiseWeights:
        """The weights after the patterns (pre [pattern, pre] → post [pattern, post]), in the order of the rows. Pure."""
        ...
