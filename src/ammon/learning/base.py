"""The contract of a learning rule: patterns in, what was learned out, nothing kept in the rule itself.

What was learned is the matrix of weights [post, pre], or a NamedTuple of tensors with the field `matrix` where a rule needs more
(traces, an inverse, what a fit found); a field `bias` [post] is added to what the matrix gives.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.shapes import check_count

PairwiseWeights = Float[Tensor, "post pre"]
Post = Float[Tensor, "pattern post"]
Pre = Float[Tensor, "pattern pre"]


@runtime_checkable
class Learned(Protocol):
    """A NamedTuple of tensors, one of them the weights."""

    @property
    def matrix(self) -> Tensor: ...

    def _asdict(self) -> dict[str, Any]: ...


State = TypeVar("State", bound=Tensor | Learned)


@runtime_checkable
class Rule(Protocol[State]):
    """local: a weight changes by what its own two units do. online: one pattern at a time gives the same as all at once."""

    @property
    def local(self) -> bool: ...

    @property
    def online(self) -> bool: ...

    def begin(self, post: int, pre: int, like: Tensor) -> State:
        """What is known before the first pattern, the weights in the dtype and on the device of `like`."""
        ...

    def learn(self, state: State, post: Post, pre: Pre) -> State:
        """What is known after the patterns pre → post, in the order of the rows. Pure.

        Patterns are associated with themselves when `post` and `pre` are the same tensor: only then is a unit its own neighbour.
        """
        ...


@dataclass(frozen=True)
class Fit:
    """What a rule that goes over its patterns more than once has found."""

    epochs: int  # passes made
    converged: bool  # the residual is within what the rule asks for
    residual: float  # what is still wrong; each rule says in which measure


class Trained(NamedTuple):
    """The weights of such a rule, and its record."""

    matrix: Tensor
    epochs: Tensor
    converged: Tensor
    residual: Tensor

    @property
    def fit(self) -> Fit:
        return Fit(int(self.epochs), bool(self.converged), float(self.residual))


def untrained(post: int, pre: int, like: Tensor) -> Trained:
    """Zero weights that have seen nothing."""
    nothing = torch.zeros((), dtype=torch.int64, device=like.device)
    return Trained(like.new_zeros(post, pre), nothing, nothing.to(torch.bool), nothing.to(torch.float32))


def tensors(state: Tensor | Learned) -> dict[str, Tensor]:
    """The tensors of what was learned by name; the weights are "matrix"."""
    return {"matrix": state} if isinstance(state, Tensor) else state._asdict()


def wide(tensor: Tensor) -> Tensor:
    """In at least float32: sums over many patterns are too much for half precision."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def check_binary(where: str, what: str, rows: Tensor) -> None:
    """Refuse rows with entries other than 0 and 1."""
    if not bool(((rows == 0) | (rows == 1)).all()):
        raise ValueError(f"{where}: the {what} must hold only 0 and 1; binarise it first, e.g. (x > threshold).float().")


def module_size(where: str, units: int, modules: int) -> int:
    """Units in each of so many equal modules; ValueError unless they come out even."""
    check_count(where, "modules", modules)
    if units % modules:
        raise ValueError(f"{where}: {units} units do not make {modules} equal modules; choose a number that divides {units}.")
    return units // modules


def cut_modules_(matrix: Tensor, size: int = 1) -> Tensor:
    """Set the weights inside each module of `size` units to 0, in place; modules of one unit are the diagonal."""
    count = len(matrix) // size
    matrix.view(count, size, count, size).diagonal(dim1=0, dim2=2).zero_()
    return matrix
