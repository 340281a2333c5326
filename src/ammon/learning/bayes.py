"""Rules for sparse patterns of 0 and 1: Willshaw's clipped weights, and weights that are log odds (BCPNN, Bayesian optimal)."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ammon.learning.base import PairwiseWeights, Post, Pre, check_binary, cut_modules_, module_size
from ammon.learning.traces import Traces, check_activities, check_horizon, check_share, follow, no_traces
from ammon.shapes import check_count


@dataclass(frozen=True)
class Willshaw:
    """w_ij = 1 once units i and j were active together, else 0 (Willshaw, Buneman & Longuet-Higgins 1969). Patterns hold 0 and 1.

    Best with about log2(D) active units: up to ln 2 = .69 bits per weight.
    """

    self_connections: bool = True
    local: ClassVar[bool] = True
    online: ClassVar[bool] = True

    def begin(self, post: int, pre: int, like: Tensor) -> PairwiseWeights:
        return like.new_zeros(post, pre)

    def learn(self, state: PairwiseWeights, post: Post, pre: Pre) -> PairwiseWeights:
        check_binary("Willshaw.learn", "pattern", pre)
        check_binary("Willshaw.learn", "value", post)
        learned = ((state + post.mT @ pre) > 0).to(state.dtype)
        if post is pre and not self.self_connections:
            learned.fill_diagonal_(0)
        return learned


@dataclass(frozen=True)
class Bcpnn:
    """Bayesian confidence propagation: w_ij = log p_ij/(p_i p_j), bias_i = log p_i (Lansner & Ekeberg 1989); activities in [0, 1].

    horizon None: p are the means over all patterns, each counted alike. A number: traces that each pattern moves by 1/horizon, so the
    old ones fade (Sandberg et al. 2002). floor: p_i = (1 - floor) mean_i + floor and p_ij = (1 - floor²) mean_ij + floor²
    (ibid., eq. 11), so that what was never seen has a finite weight and silent units have weight 0. None: 1/(n + 1) after n patterns
    (at most `horizon`), so that a pair never seen counts the more against itself the more has been seen: many sparse patterns need it.
    """

    horizon: float | None = None
    floor: float | None = 0.01
    self_connections: bool = False
    local: ClassVar[bool] = True
    online: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_horizon("Bcpnn", self.horizon)
        if self.floor is not None:
            check_share("Bcpnn", "floor", self.floor)

    def begin(self, post: int, pre: int, like: Tensor) -> Traces:
        return no_traces(post, pre, like, 0.0 if self.floor is None else math.log(self.floor))

    def learn(self, state: Traces, post: Post, pre: Pre) -> Traces:
        check_activities("Bcpnn.learn", post, pre)
        if not len(pre):
            return state
        p_post, p_pre, pair, seen = follow(state, post, pre, self.horizon)
        floor = self.floor if self.floor is not None else 1 / (1 + min(float(seen), self.horizon or math.inf))
        raised_post, raised_pre = floor + (1 - floor) * p_post, floor + (1 - floor) * p_pre
        matrix = (floor**2 + (1 - floor**2) * pair).log() - raised_post.log().unsqueeze(-1) - raised_pre.log()
        if post is pre:
            # products may round differently on the two sides of the diagonal
            matrix = (matrix + matrix.mT) / 2
            if not self.self_connections:
                matrix.fill_diagonal_(0)
        return Traces(matrix.to(state.matrix.dtype), raised_post.log().to(state.bias.dtype), p_post, p_pre, pair, seen)


@dataclass(frozen=True)
class BayesianOptimal:
    """The weights and biases of the most likely answer if units are independent given it (Knoblauch 2011).

    With n_ab patterns in which the sender did a and the receiver b, and a cue that loses an active unit with probability `miss` and
    wrongly shows a silent one with probability `add`: the field is log P(y = 1 | cue)/P(y = 0 | cue), with
    P(cue shows x | y = b) = (n_1b (1 - miss) + n_0b add)/(n_1b + n_0b). `prior` is added to each n_ab, so that nothing is infinite.
    Unless miss = add = 0 the weights are not symmetric. modules: units of one module do not hear each other; None: a unit not itself.
    """

    miss: float = 0.0
    add: float = 0.0
    prior: float = 0.01
    modules: int | None = None
    local: ClassVar[bool] = True
    online: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, value in (("miss", self.miss), ("add", self.add)):
            if not 0 <= value < 1:
                raise ValueError(f"BayesianOptimal: {name} must be in [0, 1), got {value}.")
        if not 0 < self.prior < math.inf:
            raise ValueError(f"BayesianOptimal: prior must be positive and finite, got {self.prior}.")
        if self.modules is not None:
            check_count("BayesianOptimal", "modules", self.modules)

    def begin(self, post: int, pre: int, like: Tensor) -> Traces:
        return no_traces(post, pre, like, 0.0)

    def learn(self, state: Traces, post: Post, pre: Pre) -> Traces:
        check_binary("BayesianOptimal.learn", "pattern", pre)
        check_binary("BayesianOptimal.learn", "value", post)
        if not len(pre):
            return state
        p_post, p_pre, pair, seen = follow(state, post, pre)
        # whole numbers again, free of the rounding of the means
        together, posts, pres = (seen * pair).round(), (seen * p_post).round().unsqueeze(-1), (seen * p_pre).round()
        counts = (together, posts - together, pres - together, seen - posts - pres + together)
        # at least 0 also where a memory was moved to a precision that cannot count so far
        both, only_post, only_pre, neither = (self.prior + count.clamp_min(0) for count in counts)
        shown = (both * (1 - self.miss) + only_post * self.add).log() - (only_pre * (1 - self.miss) + neither * self.add).log()
        hidden = (only_post * (1 - self.add) + both * self.miss).log() - (neither * (1 - self.add) + only_pre * self.miss).log()
        odds = ((both + only_post) / (only_pre + neither)).log()
        matrix = shown - hidden
        # what each silent sender says, by itself: P(x = 0 | y = 1)/P(x = 0 | y = 0)
        silence = hidden - odds
        if post is pre:
            size = 1 if self.modules is None else module_size("BayesianOptimal", len(matrix), self.modules)
            cut_modules_(matrix, size)
            cut_modules_(silence, size)
            if self.miss == self.add == 0:
                matrix = (matrix + matrix.mT) / 2
        bias = ((self.prior + posts) / (self.prior + (seen - posts).clamp_min(0))).log().squeeze(-1) + silence.sum(-1)
        return Traces(matrix.to(state.matrix.dtype), bias.to(state.bias.dtype), p_post, p_pre, pair, seen)
