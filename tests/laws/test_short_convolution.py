"""The short convolution against its plain sum: values, gradients and gradients of gradients."""

import pytest
import torch
from torch import Tensor

from ammon.nn.convolution import BLOCK, ShortConvolution


def _case(width: int, time: int) -> tuple[ShortConvolution, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(width + time)
    layer = ShortConvolution(3, width).double()
    x, tail = (torch.randn(2, n, 3, dtype=torch.float64, generator=generator).requires_grad_() for n in (time, width - 1))
    return layer, x, tail


def _plain(weight: Tensor, x: Tensor, tail: Tensor) -> Tensor:
    longer = torch.cat([tail, x], 1)
    return torch.stack([weight[j] * longer[:, j : j + x.shape[1]] for j in range(len(weight))]).sum(0)


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("time", [1, 2, 3, 7, BLOCK + 1])
def test_it_is_the_plain_sum_in_values_and_gradients_and_leaves_the_last_tokens(width: int, time: int) -> None:
    layer, x, tail = _case(width, time)
    found, after = layer(x, tail)
    wanted = _plain(layer.weight, x, tail)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(after, torch.cat([tail, x], 1)[:, time:])
    weight = torch.randn(found.shape, dtype=found.dtype, generator=torch.Generator().manual_seed(0))
    into = [layer.weight, x, *([tail] if width > 1 else [])]
    for mine, theirs in zip(*(torch.autograd.grad((weight * y).sum(), into) for y in (found, wanted)), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(("width", "time"), [(2, 1), (4, 2), (4, 6)])
def test_its_gradient_has_a_gradient(width: int, time: int) -> None:
    layer, x, tail = _case(width, time)

    def mixed(weight: Tensor, x: Tensor, tail: Tensor) -> Tensor:
        y: Tensor = torch.func.functional_call(layer, {"weight": weight}, (x, tail))[0]
        return y

    assert torch.autograd.gradgradcheck(mixed, (layer.weight.detach().requires_grad_(), x, tail))
