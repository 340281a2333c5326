"""Neural memory, forward and backward: the dual form against an attention layer of the same width.

Attention does other work, so only its time is compared. Before that the dual form must agree with the scan form, which holds the weights of
every token, in values and in the gradients of all parameters, on a shorter text.
"""

from functools import partial

import torch
from torch import Tensor, nn

from ammon.learning.fast_weights import Mlp
from ammon.learning.surprise import Surprise
from ammon.nn.attention import Attention
from ammon.nn.neural import NeuralMemory
from benchmarks.report import Report, Row
from benchmarks.timing import Unequal, here, race

BATCH, TIME, DIM, HEADS, CHUNK = 2, 1024, 256, 4, 64
# largest difference of a value or gradient, relative to the largest entry of its tensor
TOLERANCE = 1e-3


def run(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """y and the gradients of all parameters."""
    y, _ = layer(x)
    return [y.detach(), *torch.autograd.grad(y.square().mean(), list(layer.parameters()))]


def measure(quick: bool, threads: int) -> Report:
    torch.manual_seed(0)
    time, rounds = (TIME // 4, 3) if quick else (TIME, 15)
    x = torch.randn(BATCH, time, DIM)
    attention, rows, errors = Attention(DIM, HEADS), [], []
    for depth in (1, 2):
        layer = NeuralMemory(DIM, HEADS, Mlp(depth), Surprise(CHUNK))
        errors.append(_check(layer, x[:1, : 2 * CHUNK + 5]))
        ways = {"ours": here(partial(run, layer, x)), "attention": here(partial(run, attention, x))}
        timings = race(ways, lambda results: None, repeats=rounds)
        work = "a linear memory" if depth == 1 else f"{depth} layers"
        rows.append(Row(work, timings["ours"], "an attention layer", timings["attention"], "cost", None if depth == 1 else 3.0))
    return Report(
        "Neural memory, forward and backward",
        rows,
        f"B = {BATCH}, L = {time}, d = {DIM}, H = {HEADS}, chunks of {CHUNK}, expansion 4, float32, not compiled; {threads} threads; "
        f"3 to {rounds} turns; median (least), least processor time.",
        [f"Largest difference of the dual form from the scan: {', '.join(f'{e:.0e}' for e in errors)}, refused above {TOLERANCE:g}."],
    )


def _check(layer: NeuralMemory, x: Tensor) -> float:
    scan = NeuralMemory(DIM, HEADS, layer.network, Surprise(CHUNK, form="scan"))
    scan.load_state_dict(layer.state_dict())
    error = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(run(layer, x), run(scan, x), strict=True))
    if not error <= TOLERANCE:
        raise Unequal(f"neural_memory: the dual form and the scan differ by {error:.1e} of the largest entry; {TOLERANCE:g} is allowed.")
    return error
