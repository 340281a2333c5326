"""The contract of a learning rule: patterns in, pairwise weights out, nothing kept in the rule itself."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

PairwiseWeights = Float[Tensor, "post pre"]
Post = Float[Tensor, "pattern post"]
Pre = Float[Tensor, "pattern pre"]


@runtime_checkable
class Rule(Protocol):
    """local: a weight changes by what its own two units do. online: one pattern at a time gives the same as all at once."""

    local: bool
    online: bool

    def begin(self, post: int, pre: int, like: Tensor) -> PairwiseWeights:
        """The weights before the first pattern, in the dtype and on the device of `like`."""
        ...

    def learn(self, weights: PairwiseWeights, post: Post, pre: Pre) -> PairwiseWeights:
        """The weights after the patterns pre → post, in the order of the rows. Pure."""
        ...
