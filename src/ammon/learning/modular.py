"""Modular networks: units in modules (hypercolumns) of equal size with one active unit each; none hears those of its own module.

Units of one module were never active together, so weights between them would say no more than: stay as you are.
"""

from typing import Any

from torch import Tensor

from ammon.learning.base import Learned, Post, Pre, Rule, cut_modules_, module_size
from ammon.learning.bayes import Bcpnn, Willshaw
from ammon.learning.covariance import Covariance, PresynapticCovariance
from ammon.learning.hebb import Hebb
from ammon.learning.local import LocalRule, SlidingThreshold
from ammon.learning.pseudo_inverse import RecursivePseudoInverse
from ammon.shapes import check_count

# with these, what a weight becomes depends on no weight that is taken out
BY_PAIRS = (Hebb, LocalRule, SlidingThreshold, Willshaw, Covariance, PresynapticCovariance, Bcpnn, RecursivePseudoInverse)


class Modular:
    """Any rule, without the weights inside each of `modules` equal modules where patterns are associated with themselves.

    They are taken out after each batch. Where the rule reads fields, to which they would have added, that is not the same as after
    each pattern: such a rule is then not `online`, and a memory learns all its patterns anew at each write. `BayesianOptimal` has
    modules of its own, as they count in its biases too.
    """

    def __init__(self, rule: Rule[Any], modules: int) -> None:
        check_count("Modular", "modules", modules)
        self.rule, self.modules = rule, modules

    @property
    def local(self) -> bool:
        return self.rule.local

    @property
    def online(self) -> bool:
        return self.rule.online and isinstance(self.rule, BY_PAIRS)

    def begin(self, post: int, pre: int, like: Tensor) -> Any:
        return self.rule.begin(post, pre, like)

    def learn(self, state: Any, post: Post, pre: Pre) -> Any:
        if post is pre:
            module_size("Modular.learn", pre.shape[1], self.modules)
        learned: Tensor | Learned = self.rule.learn(state, post, pre)
        if post is not pre:
            return learned
        whole = learned if isinstance(learned, Tensor) else learned.matrix
        matrix = cut_modules_(whole.clone(), len(whole) // self.modules)
        return matrix if isinstance(learned, Tensor) else type(learned)(**{**learned._asdict(), "matrix": matrix})
