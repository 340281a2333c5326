"""Layers under torch.compile, whole graphs, values and gradients, in a process without the hook that checks types."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
import torch
from torch import nn
from ammon.learning.fast_weights import Functional, Mlp
from ammon.learning.surprise import Surprise
from ammon.nn.attention import Attention
from ammon.nn.blocks import Parallel, Series, SharedBank
from ammon.nn.configurations import CONFIGURATIONS, Size
from ammon.nn.drifting import Drift
from ammon.nn.episodic import EpisodicMemory
from ammon.nn.evicting import Lowest
from ammon.nn.hebbian import HebbianMemory
from ammon.nn.hierarchy import Hierarchy
from ammon.nn.hybrid import Hybrid
from ammon.nn.neural import NeuralMemory
from ammon.nn.paging import Paging
from ammon.nn.segments import Segments
from ammon.nn.stack import Stack
from ammon.nn.titans import MemoryAsContext, MemoryAsGate, MemoryAsLayer
from ammon.parts.separations import Entmax
from ammon.parts.top_k import TopK

torch.set_num_threads(1)
torch.manual_seed(0)
# compiled, sums go in another order
torch.set_default_dtype(torch.float64)
LAYERS = {
    "linear": NeuralMemory(8, 2, Mlp(1), Surprise(4)),
    "2 layers": NeuralMemory(8, 2, Mlp(2, 2), Surprise(4, limit=1.0)),
    "window": Attention(8, 2, 3, 2),
    "episodic": EpisodicMemory(8, 2, 4, recency=0.1, strength=True),
    "episodic, all": EpisodicMemory(8, 2, None, separation=TopK(3)),
    "episodic, sparse": EpisodicMemory(8, 2, 4, separation=Entmax(1.5), sharpness=0.5),
    "episodic, best of many": EpisodicMemory(8, 2, 130, separation=TopK(2)),
    "episodic, pages": EpisodicMemory(8, 2, 7, recency=0.1, paging=Paging(2, 2)),
    "episodic, pages, all": EpisodicMemory(8, 2, None, context=3, hops=1, paging=Paging(3, 1)),
    "episodic, context": EpisodicMemory(8, 2, 4, context=3, hops=1),
    "episodic, segments": EpisodicMemory(8, 2, 4, Segments(3, "attention"), context=Drift(8, 2, 3, form="fading")),
    "episodic, segments of tokens": EpisodicMemory(8, 2, 4, Segments(3, "each")),
    "episodic, the weakest gives way": EpisodicMemory(8, 2, 4, strength=True, evict=Lowest("strength", 0.01)),
    "hebbian": HebbianMemory(8, 2, 3, decay=0.1),
}
# what is long in compiling or made of the layers above, one call instead of two
ONCE = {
    "orthogonal": NeuralMemory(8, 2, Mlp(2, 2), Surprise(4, orthogonal=5)),
    "of the user": NeuralMemory(8, 2, Functional(nn.Linear(4, 4)), Surprise(4)),
    "gate": MemoryAsGate(Attention(8, 2), NeuralMemory(8, 2, Mlp(1), Surprise(4))),
    "layer": MemoryAsLayer(Attention(8, 2, 3), NeuralMemory(8, 2, Mlp(2, 2), Surprise(4))),
    "context": MemoryAsContext(NeuralMemory(8, 2, Mlp(1), Surprise(4)), 2, 1),
    "hybrid": Hybrid({"attention": Attention(8, 2, 3), "episodic": EpisodicMemory(8, 2, 4)}, "softmax", "head", 2),
    "parallel": Parallel({"attention": Attention(8, 2, 4), "episodic": EpisodicMemory(8, 2, 9)}),
    "series": Series({"episodic": EpisodicMemory(8, 2, 9), "attention": Attention(8, 2, 4)}),
    "shared bank": SharedBank(EpisodicMemory(8, 2, 9), {"first": Attention(8, 2, 4), "second": Attention(8, 2, 4)}),
    "hierarchy": Hierarchy(8, 2, 3, 2, 2),
    "stack by surprise": Stack(CONFIGURATIONS["hybrid_surprise"](Size(dim=8, near=3, window=3, chunk=4, slots=3))),
    "stack": Stack(CONFIGURATIONS["hybrid"](Size(dim=8, near=3, window=3, chunk=4, segment=4, slots=8))),
}
PART = {"layers": LAYERS, "once": ONCE}[sys.argv[1]]
x, mask = torch.randn(2, 10, 8), torch.rand(2, 10) < 0.7
for name, layer in PART.items():
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    gradients = []
    for run in (layer, compiled):
        layer.zero_grad()
        y, state = run(x, mask=mask)
        z = y if PART is ONCE else run(x[:, :1], state)[0]
        (y.square().sum() + z.square().sum()).backward()
        gradients.append([y.detach(), z.detach(), *(p.grad.clone() for p in layer.parameters())])
    for eager, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, eager, msg=lambda text: f"{name}: {text}")
"""


# torch warns by itself when a graph takes a tensor that has a history, so warnings are no errors here
@pytest.mark.parametrize("part", ["layers", "once"])
def test_every_layer_compiles_to_one_graph_with_the_same_values_and_gradients(part: str) -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM, part], capture_output=True, text=True, timeout=600, cwd=Path(__file__).parents[2])
    assert ran.returncode == 0, ran.stderr[-3000:]


STEPS = """
import torch
from ammon.learning.fast_weights import Mlp
from ammon.learning.surprise import Surprise
from ammon.nn.neural import NeuralMemory

torch.manual_seed(0)
layer = NeuralMemory(8, 2, Mlp(2, 2), Surprise(4, limit=1.0))
twin = NeuralMemory(8, 2, Mlp(2, 2), Surprise(4, limit=1.0, compiled=True))
twin.load_state_dict(layer.state_dict())
x, found = torch.randn(2, 10, 8), []
for run in (layer, twin, torch.compile(twin, fullgraph=True)):
    run.zero_grad()
    y, state = run(x)
    z, state = run(x[:, :1], state)
    (y.square().sum() + z.square().sum()).backward()
    found.append([y.detach(), z.detach(), *(p.grad.clone() for p in run.parameters())])
for eager, *others in zip(*found, strict=True):
    for other in others:
        torch.testing.assert_close(other, eager, rtol=1e-4, atol=1e-5)
"""


# a compiler for the processor takes half a minute
@pytest.mark.slow
def test_compiled_steps_of_the_dual_form_have_the_same_values_and_gradients() -> None:
    ran = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, timeout=600, cwd=Path(__file__).parents[2])
    assert ran.returncode == 0, ran.stderr[-3000:]
