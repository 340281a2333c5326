"""Laboratory: every experiment by name. A literal; a new experiment is one line here."""

from ammon.experiments import basins, capacity, local_rules
from ammon.experiments.base import Experiment

_ALL = (
    capacity.EXPERIMENT,
    basins.EXPERIMENT,
    local_rules.EXPERIMENT,
)

EXPERIMENTS: dict[str, Experiment] = {experiment.name: experiment for experiment in _ALL}
