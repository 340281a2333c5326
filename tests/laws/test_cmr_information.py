"""Laws of the information that lists hold about parameters: closed forms, the curvature of the likelihood, what cannot be told apart."""

import pytest
import torch

from ammon.cmr.fisher import information, uncertainty
from ammon.cmr.lists import Lists, once
from ammon.cmr.model import CMR

VALUES = {
    "temperature": 0.2, "beta_enc": 0.6, "beta_rec": 0.8, "beta_start": 0.3, "learn_fc": 0.3, "learn_cf": 0.3, "primacy_scale": 0.3,
    "primacy_decay": 1.0, "stop_scale": 0.1, "stop_growth": 0.1,
}  # fmt: skip


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def people(lists: int, length: int) -> Lists:
    return once([length] * (2 * lists), torch.arange(2).repeat_interleave(lists))


def test_information_about_a_constant_chance_to_stop_is_binomial() -> None:
    length, chances = 6, torch.tensor([0.2, 0.5], dtype=torch.float64)
    values = {**VALUES, "stop_growth": 0.0, "stop_scale": chances}
    found = information(CMR(), people(200, length), values, ["stop_scale"], generator=generator(), copies=10)
    # an output is reached if recall did not stop before, and after the last item nothing is asked
    asked = sum((1 - chances) ** output for output in range(length))
    # 2,000 lists, whose squared scores spread about twice as much as they are large: 4 standard errors are 18 %
    torch.testing.assert_close(found.flatten(), 200 * asked / (chances * (1 - chances)), rtol=0.18, atol=0)


def test_information_is_the_mean_curvature_of_the_likelihood() -> None:
    names, model = ["beta_enc", "learn_cf", "stop_scale"], CMR()
    found = information(model, people(400, 8), VALUES, names, generator=generator(), copies=5) / 400
    drawn = model.simulate(people(1000, 8), VALUES, generator=torch.Generator().manual_seed(1)).lists

    def loss(point: torch.Tensor) -> torch.Tensor:
        return -model.log_likelihood(drawn, {**VALUES, **dict(zip(names, point))}).total / 2000

    curvature = torch.autograd.functional.hessian(loss, torch.tensor([VALUES[name] for name in names], dtype=torch.float64))
    scale = curvature.diagonal().sqrt()
    # both are means over thousands of lists, each within a few per cent of the root of its diagonal
    torch.testing.assert_close(found / scale / scale[:, None], (curvature / scale / scale[:, None]).expand(2, -1, -1), rtol=0, atol=0.15)


def test_what_nothing_depends_on_has_no_information_and_no_end_of_its_error() -> None:
    # a list of one item leaves no choice
    found = information(CMR(), people(3, 1), VALUES, ["beta_rec", "stop_scale"], generator=generator(), copies=10)
    assert (found[:, 0] == 0).all()
    error, together = uncertainty(found)
    assert torch.isinf(error[:, 0]).all()
    assert torch.isfinite(error[:, 1]).all()
    torch.testing.assert_close(together, torch.eye(2, dtype=torch.float64).expand(2, -1, -1))


def test_errors_are_those_of_the_inverse_and_huge_where_parameters_trade_off_exactly() -> None:
    rows = torch.randn(2, 9, 3, generator=generator(), dtype=torch.float64) * torch.tensor([1.0, 1e3, 1e-3], dtype=torch.float64)
    matrices = rows.mT @ rows
    inverse = torch.linalg.inv(matrices)
    error, together = uncertainty(matrices)
    torch.testing.assert_close(error, inverse.diagonal(dim1=-2, dim2=-1).sqrt())
    torch.testing.assert_close(together, inverse / error.unsqueeze(-1) / error.unsqueeze(-2))
    error, together = uncertainty(torch.tensor([[4.0, -4.0], [-4.0, 4.0]], dtype=torch.float64))
    assert (error > 1e6).all()
    assert float(together[0, 1]) == pytest.approx(1)


def test_supports_and_their_temperature_cannot_be_told_apart() -> None:
    # all weights times a number and T times the same give the same choices
    names = ["temperature", "learn_cf", "pre_cf", "primacy_scale"]
    matrices = information(CMR(), people(1, 6), {**VALUES, "pre_cf": 0.7}, names, generator=generator(), copies=50)
    along = torch.tensor([VALUES.get(name, 0.7) for name in names], dtype=torch.float64)
    assert float((along @ matrices[0] @ along) / matrices[0].diagonal().mul(along.square()).sum()) < 1e-8


def test_lists_add_up_and_a_name_without_a_value_is_refused() -> None:
    one, four = (information(CMR(), people(n, 5), VALUES, ["beta_enc"], generator=generator(), copies=10) for n in (50, 200))
    torch.testing.assert_close(4 * one, four, rtol=0.5, atol=0)
    with pytest.raises(ValueError, match="parameters that have values are needed, got 'semantic'"):
        information(CMR(), people(1, 5), VALUES, ["semantic"], generator=generator())
    with pytest.raises(ValueError, match="got 'no name'"):
        information(CMR(), people(1, 5), VALUES, [], generator=generator())
    with pytest.raises(ValueError, match="information: copies"):
        information(CMR(), people(1, 5), VALUES, ["beta_enc"], generator=generator(), copies=0)
