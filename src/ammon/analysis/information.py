"""Information: the bits that recall gives back, per pattern and per weight. Targets and answers [pattern, dim] hold 0 and 1.

Error rates are taken over all rows; errors count as independent of each other, which gives the most that such rates can carry.
"""

import math

import torch
from torch import Tensor

from ammon.shapes import Rows, check_count


def channel_information(target: Rows, answer: Rows, modules: int = 1) -> float:
    """Bits per pattern that the answers tell about the targets.

    Modules with one active unit of M each: M-ary symmetric channel, log2 M - h(e) - e log2(M - 1) each, e the share of wrong modules.
    Other patterns: dim binary channels, each h(P(answer)) less what is left when the target is known; without errors dim · h(activity),
    which is a little more than the log2 (dim over active) bits that choose such a pattern.
    """
    size = _check(target, answer, modules)
    if not len(target):
        return 0.0
    apart, answers = (rows.to(torch.float64).reshape(len(rows), modules, size) for rows in (target, answer))
    if bool((apart.sum(-1) == 1).all()):
        wrong = 1 - float((apart == answers).all(-1).double().mean())
        return modules * (math.log2(size) - _entropy(wrong) - (wrong * math.log2(size - 1) if wrong else 0.0))
    activity, answered, both = float(apart.mean()), float(answers.mean()), float((apart * answers).mean())
    joint = [both, activity - both, answered - both, 1 - activity - answered + both]
    return target.shape[1] * max(0.0, _entropy(activity) + _entropy(answered) + sum(_times_log(max(0.0, p)) for p in joint))


def information_per_weight(target: Rows, answer: Rows, num_weights: int, *, cue: Rows | None = None, modules: int = 1) -> float:
    """Bits per weight that recall gives back over all patterns, less those that the cue had already.

    num_weights: `free_weights` of the network.
    """
    check_count("information_per_weight", "num_weights", num_weights)
    bits = channel_information(target, answer, modules)
    if cue is not None:
        bits -= channel_information(target, cue, modules)
    return len(target) * bits / num_weights


def free_weights(dim: int, modules: int = 1, symmetric: bool = True) -> int:
    """Weights of a network without self-connections, and without those inside a module if there are several; pairs once if symmetric."""
    check_count("free_weights", "dim", dim)
    check_count("free_weights", "modules", modules)
    if dim % modules:
        raise ValueError(f"free_weights: {dim} units do not make {modules} equal modules; choose a divisor.")
    senders = dim - (dim // modules if modules > 1 else 1)
    return dim * senders // 2 if symmetric else dim * senders


def _check(target: Tensor, answer: Tensor, modules: int) -> int:
    """The size of a module."""
    where = "channel_information"
    check_count(where, "modules", modules)
    if target.shape != answer.shape or target.ndim != 2:
        raise ValueError(f"{where}: target and answer must be rows of one shape, got {list(target.shape)} and {list(answer.shape)}.")
    for what, rows in (("target", target), ("answer", answer)):
        if not bool(((rows == 0) | (rows == 1)).all()):
            raise ValueError(f"{where}: the {what} must hold only 0 and 1; binarise it first, e.g. (x > threshold).float().")
    if target.shape[1] % modules:
        raise ValueError(f"{where}: {target.shape[1]} units do not make {modules} equal modules; choose a divisor.")
    return target.shape[1] // modules


def _times_log(p: float) -> float:
    return p * math.log2(p) if p > 0 else 0.0


def _entropy(p: float) -> float:
    """h(p) of a unit that is active with probability p, in bits."""
    return -_times_log(p) - _times_log(1 - p)
