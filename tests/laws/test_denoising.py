"""Denoising networks: scaled as Karras et al. (2022), whole at any shape of image, and nearer to the exact denoiser with training."""

import math

import pytest
import torch
from torch import Tensor, nn

import ammon as am
from ammon.memories.denoiser import Denoiser
from ammon.nn.denoising import DenoisingNetwork, Perceptron
from ammon.nn.unet import UNet


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Remembering(nn.Module):
    """A core that keeps what it was given, and gives what it was told to."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor, logs: Tensor) -> Tensor:
        self.x, self.logs = x, logs
        return self.answer


def test_the_core_reads_and_must_give_numbers_of_variance_1() -> None:
    clean = 3 + 0.5 * torch.randn(4000, 2, dtype=torch.float64, generator=generator())
    for level in (0.01, 0.5, 20.0):
        noisy = clean + level * torch.randn(4000, 2, dtype=torch.float64, generator=generator(1))
        core = Remembering(torch.zeros(4000, 2, dtype=torch.float64))
        skipped = DenoisingNetwork(core, 0.5, 3.0)(noisy, level)
        assert float(core.x.std()) == pytest.approx(1, abs=0.05)
        assert float(core.x.mean()) == pytest.approx(0, abs=0.05)
        torch.testing.assert_close(core.logs, torch.full((4000,), math.log(level), dtype=torch.float64))
        core.answer = torch.ones(4000, 2, dtype=torch.float64)
        scale = (DenoisingNetwork(core, 0.5, 3.0)(noisy, level) - skipped)[0, 0]
        assert float((clean - skipped).std() / scale) == pytest.approx(1, abs=0.05)


def test_an_untrained_network_is_the_best_linear_denoiser_of_normal_data() -> None:
    network = DenoisingNetwork(Perceptron(3, 16), 0.5, 3.0).double()
    x = torch.randn(5, 3, dtype=torch.float64, generator=generator())
    torch.testing.assert_close(network(x, 0.2), 3 + 0.25 / 0.29 * (x - 3))
    assert float(network.loss(x, 0.1, 2.0, generator()).detach()) > 0


def test_every_row_may_have_its_own_level_and_none_sees_another() -> None:
    torch.manual_seed(0)
    for core in (Perceptron(35, 16), UNet((5, 7), 8)):
        for parameter in core.parameters():
            nn.init.normal_(parameter, std=0.3)
        network = DenoisingNetwork(core, 0.5).double()
        x, levels = torch.randn(4, 35, dtype=torch.float64), torch.tensor([0.1, 0.5, 1.0, 4.0], dtype=torch.float64)
        whole = network(x, levels)
        for row in range(4):
            torch.testing.assert_close(whole[row], network(x[row : row + 1], float(levels[row]))[0])


@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (7, 5), (9, 6, 3), (3, 3)])
def test_a_unet_takes_images_of_any_shape_and_every_weight_learns(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = DenoisingNetwork(UNet(shape, 4, halvings=1), 0.5)
    rows = torch.rand(3, math.prod(shape))
    assert network(rows, 0.3).shape == rows.shape
    nn.init.normal_(network.core.last.weight, std=0.1)
    network.loss(rows, 0.1, 2.0, generator()).backward()
    assert all(parameter.grad is not None and bool((parameter.grad != 0).any()) for parameter in network.parameters())


def _gap(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).detach().square().mean())


def test_training_brings_a_network_nearer_to_the_exact_denoiser_of_its_data() -> None:
    rows = torch.tensor([[1.0, 0.0], [-0.5, 0.8], [0.2, -1.0]])
    memory = am.diffusion(2)
    memory.write(rows)
    exact = Denoiser(memory)
    torch.manual_seed(0)
    network = DenoisingNetwork(Perceptron(2, 48), 0.7)
    noisy = exact.corrupt(rows.repeat(200, 1), 0.5, generator(1))
    before = _gap(network(noisy, 0.5), exact(noisy, 0.5))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    draws = generator(2)
    for _ in range(300):
        optimizer.zero_grad()
        network.loss(rows[torch.randint(3, (128,), generator=draws)], 0.1, 3.0, draws).backward()
        optimizer.step()
    after = _gap(network(noisy, 0.5), exact(noisy, 0.5))
    assert after < before / 10


def test_what_makes_no_sense_is_refused_in_one_line() -> None:
    network = DenoisingNetwork(Perceptron(3, 16), 0.5)
    cases = [
        ("spread", lambda: DenoisingNetwork(Perceptron(3), 0.0)),
        ("low < high", lambda: network.loss(torch.rand(2, 3), 2.0, 1.0, generator())),
        ("width", lambda: Perceptron(3, width=0)),
        ("multiple of 4", lambda: UNet((8, 8), 6)),
        ("height, width", lambda: UNet((8,), 8)),
        ("halvings", lambda: UNet((3, 3), 4, halvings=2)),
        ("dim 64", lambda: DenoisingNetwork(UNet((8, 8), 4), 0.5)(torch.rand(2, 63), 0.1)),
        ("rows", lambda: network(torch.rand(3), 0.1)),
    ]
    for said, call in cases:
        with pytest.raises(ValueError, match=said) as refused:
            call()
        assert "\n" not in str(refused.value)
