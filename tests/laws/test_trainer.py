"""The trainer: a training that was interrupted, or done by several processes, is the training that was not."""

import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from ammon.training.checkpoints import load_weights, read_about
from ammon.training.metrics import append_row, read_rows
from ammon.training.plan import Plan
from ammon.training.trainer import CHECKPOINT, METRICS, Moment, generator_at, shuffled, train

PLAN = Plan(steps=12, rate=0.01, warmup=3, every=5, seed=4)


def network(seed: int = 0, dropout: float = 0.3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))


def loss(model: nn.Module, moment: Moment) -> tuple[Tensor, dict[str, Tensor]]:
    """Learn a plane from random points."""
    x = moment.mine(torch.randn(8, 3, generator=moment.generator))
    wrong = model(x).squeeze(-1) - x.sum(-1)
    return wrong.square().mean(), {"largest": wrong.detach().abs().max()}


def measure(model: nn.Module) -> dict[str, float]:
    x = torch.randn(64, 3, generator=generator_at(9, 0))
    return {"loss": float((model(x).squeeze(-1) - x.sum(-1)).detach().square().mean())}


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def without_seconds(rows: list[dict[str, float | int]]) -> list[dict[str, float | int]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


class Running:
    """A loss that carries a running mean of each of its rows."""

    def __init__(self) -> None:
        self.mean = torch.zeros(8)

    def __call__(self, model: nn.Module, moment: Moment) -> Tensor:
        x = moment.mine(torch.randn(8, 3, generator=moment.generator))
        self.mean = 0.9 * self.mean[: len(x)] + 0.1 * x.sum(-1)
        return functional.mse_loss(model(x).squeeze(-1), self.mean)

    def state_dict(self) -> dict[str, Tensor]:
        return {"mean": self.mean}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        self.mean = tensors["mean"]


def test_the_trainer_is_the_plain_loop_of_adamw() -> None:
    model, plain = nn.Linear(3, 1), nn.Linear(3, 1)
    plain.load_state_dict(model.state_dict())
    rows = train(model, loss, PLAN).rows
    optimizer = torch.optim.AdamW(
        [{"params": [plain.weight], "weight_decay": 0.01}, {"params": [plain.bias], "weight_decay": 0.0}], betas=(0.9, 0.95)
    )
    seen = []
    for step in range(12):
        rise, done = (step + 1) / 3, (step - 3) / 9
        rate = 0.01 * (rise if step < 3 else 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        x = torch.randn(8, 3, generator=generator_at(4, step))
        value = (plain(x).squeeze(-1) - x.sum(-1)).square().mean()
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        seen.append(float(value.detach()))
    torch.testing.assert_close(weights(model), weights(plain), rtol=1e-6, atol=0)
    assert [row["step"] for row in rows] == [5, 10, 12]
    expected = [sum(seen[:5]) / 5, sum(seen[5:10]) / 5, sum(seen[10:]) / 2]
    torch.testing.assert_close(torch.tensor([row["loss"] for row in rows]), torch.tensor(expected), rtol=1e-6, atol=0)


def test_the_loss_falls() -> None:
    model = network()
    before = measure(model.eval())["loss"]
    rows = train(model, loss, replace(PLAN, steps=300, every=100), measure=measure).rows
    assert rows[-1]["held_loss"] < 0.1 * before


@pytest.mark.parametrize("stop", [1, 5, 7, 11])
def test_a_training_that_was_interrupted_gives_the_same_weights_and_rows(stop: int, tmp_path: Path) -> None:
    whole = network()
    expected = train(whole, loss, PLAN, measure=measure, folder=tmp_path / "whole").rows

    def interrupting(step: int, steps: int, row: Any) -> None:
        if step == stop:
            os.kill(os.getpid(), signal.SIGINT)

    outside = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        train(network(), loss, PLAN, measure=measure, folder=tmp_path / "part", watch=interrupting)
    # what another process would have drawn in between
    torch.rand(5)
    again = network(seed=1)
    found = train(again, loss, PLAN, measure=measure, folder=tmp_path / "part")
    assert found.progress.step == 12
    assert torch.equal(weights(again), weights(whole))
    assert without_seconds(found.rows) == without_seconds(expected)
    assert without_seconds(read_rows(tmp_path / "part" / METRICS)) == without_seconds(expected)
    assert outside.shape == torch.get_rng_state().shape


def test_dropout_draws_from_the_step_and_leaves_the_generator_outside_alone() -> None:
    model, other = network(), network()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(model, loss, PLAN)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    train(other, loss, PLAN)
    assert torch.equal(weights(model), weights(other))


def test_what_the_loss_carries_goes_on(tmp_path: Path) -> None:
    # steps may be added; the cosine is that of all steps, so only a constant rate gives the same weights
    constant = replace(PLAN, final=1.0)
    whole, again = network(), network()
    train(whole, Running(), constant)
    train(network(), Running(), replace(constant, steps=7), folder=tmp_path)
    train(again, Running(), constant, folder=tmp_path)
    assert torch.equal(weights(again), weights(whole))


def test_a_finished_training_is_read_not_done_again(tmp_path: Path) -> None:
    first = train(network(), loss, PLAN, folder=tmp_path)
    model = network(seed=1)
    again = train(model, lambda model, moment: pytest.fail("nothing is left to do"), PLAN, folder=tmp_path)
    assert again.rows == first.rows
    loaded = network(seed=2)
    load_weights(tmp_path / CHECKPOINT, loaded)
    assert torch.equal(weights(loaded), weights(model))


def test_training_stops_early_when_the_held_out_loss_no_longer_falls() -> None:
    values = iter([3.0, 2.0, 2.5, 2.0, 1.0])
    found = train(network(), loss, replace(PLAN, steps=100, patience=2), measure=lambda model: {"loss": next(values)})
    assert (found.progress.step, found.progress.ended, found.progress.best) == (20, "early", 2.0)


def test_training_stops_when_it_is_enough_and_says_when_a_value_was_first_reached() -> None:
    found = train(network(), loss, replace(PLAN, steps=100), measure=lambda model: {"accuracy": 0.9}, enough=lambda row: row["step"] >= 10)
    assert (found.progress.step, found.progress.ended) == (10, "enough")
    assert found.first("held_accuracy", 0.9) == 5
    assert found.first("held_accuracy", 0.95) is None


@pytest.mark.parametrize("change", [{"rate": 0.02}, {"seed": 5}])
def test_a_checkpoint_of_another_plan_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    train(network(), loss, PLAN, folder=tmp_path)
    with pytest.raises(ValueError, match=f"another plan: {next(iter(change))} is"):
        train(network(), loss, replace(PLAN, **change), folder=tmp_path)


def test_a_checkpoint_of_another_model_data_or_kind_is_refused_in_one_line(tmp_path: Path) -> None:
    train(network(), loss, PLAN, folder=tmp_path, about={"data": "a.txt"})
    assert read_about(tmp_path / CHECKPOINT) == {"data": "a.txt"}
    with pytest.raises(ValueError, match=r"another training: data is 'a\.txt' there, 'b\.txt' here"):
        train(network(), loss, PLAN, folder=tmp_path, about={"data": "b.txt"})
    with pytest.raises(ValueError, match=r"another configuration: weight is nothing there, \[1, 3\] in this model"):
        load_weights(tmp_path / CHECKPOINT, nn.Linear(3, 1))
    other = tmp_path / "other" / CHECKPOINT
    other.parent.mkdir()
    save_file({"x": torch.zeros(1)}, other)
    with pytest.raises(ValueError, match="was not written by a training of ammon"):
        train(network(), loss, PLAN, folder=other.parent)
    other.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="no safetensors file or is damaged") as refused:
        train(network(), loss, PLAN, folder=other.parent)
    assert "\n" not in str(refused.value)


def test_a_loss_that_is_not_finite_stops_training_and_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    def broken(model: nn.Module, moment: Moment) -> Tensor:
        return loss(model, moment)[0] * (math.nan if moment.step == 7 else 1.0)

    with pytest.raises(FloatingPointError, match="nan at step 7"):
        train(network(), broken, PLAN, folder=tmp_path)
    assert [row["step"] for row in read_rows(tmp_path / METRICS)] == [5]


def test_a_line_of_metrics_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    append_row(tmp_path / METRICS, {"step": 5, "loss": 1.0})
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 10, "lo')
    assert read_rows(tmp_path / METRICS) == [{"step": 5, "loss": 1.0}]


def test_bad_plans_are_refused() -> None:
    for wrong in ({"steps": 0}, {"every": 0}, {"rate": 0.0}, {"clip": -1.0}, {"final": 2.0}, {"warmup": -1}, {"betas": (1.0, 0.9)}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            replace(PLAN, **wrong)
    with pytest.raises(ValueError, match="patience counts measurements"):
        train(network(), loss, replace(PLAN, patience=2))
    with pytest.raises(ValueError, match="key loss"):
        train(network(), loss, replace(PLAN, patience=2), measure=lambda model: {"accuracy": 1.0})


def test_shuffled_batches_go_through_all_items_once_a_round_in_an_order_of_its_own() -> None:
    first, second = (torch.cat([shuffled(12, 4, step, seed=3) for step in range(start, start + 3)]) for start in (0, 3))
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(12))
    assert first.tolist() != second.tolist()
    with pytest.raises(ValueError, match="1 to 3 items"):
        shuffled(3, 4, 0, 0)


SCRIPT = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from test_trainer import Running, network
from ammon.training.plan import Plan
from ammon.training.trainer import train

torch.set_num_threads(1)
for steps in (4, 7):
    plan = Plan(steps=steps, final=1.0, every=3)
    train(network(dropout=0.0), Running(), plan, folder=sys.argv[2], measure=lambda model: {"loss": 1.0})
"""


def test_two_processes_of_torchrun_train_as_one_and_go_on_as_two(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, str(script), str(Path(__file__).parent), str(tmp_path / "two")]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    one, two = network(dropout=0.0), network(seed=1, dropout=0.0)
    expected = train(one, Running(), Plan(steps=7, final=1.0, every=3)).rows
    load_weights(tmp_path / "two" / CHECKPOINT, two)
    # sums over rows in another order
    torch.testing.assert_close(weights(two), weights(one), rtol=1e-5, atol=1e-6)
    found = read_rows(tmp_path / "two" / METRICS)
    assert [row["step"] for row in found] == [3, 4, 6, 7]
    assert found[0]["loss"] == pytest.approx(expected[0]["loss"], rel=1e-5)
    assert found[0]["held_loss"] == 1.0


def test_a_batch_that_does_not_divide_among_processes_is_refused() -> None:
    moment = Moment(0, torch.Generator(), rank=1, world=2)
    assert moment.mine(torch.arange(4)).tolist() == [2, 3]
    with pytest.raises(ValueError, match="batch of 3 rows does not divide among 2"):
        moment.mine(torch.arange(3))
