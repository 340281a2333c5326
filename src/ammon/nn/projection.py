"""Projection: the linear maps of layers, without bias. They begin at the scale that keeps the size of what they are given."""

from torch import nn


def projection(inputs: int, outputs: int) -> nn.Linear:
    """Weights drawn from N(0, 1/inputs). Torch's default keeps a third of the power, so that what a layer adds is lost beside its input."""
    linear = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(linear.weight, std=inputs**-0.5)
    return linear
