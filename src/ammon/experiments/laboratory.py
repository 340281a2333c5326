"""Laboratory: every experiment by name. A literal; a new experiment is one line here."""

from ammon.experiments import (
    basins,
    binding,
    capacity,
    emergence,
    energy_landscape,
    episodic_evidence,
    induction,
    local_rules,
    long_text,
    memorization,
    morphing,
    passkey,
    prototypes,
    read_contiguity,
    recovery,
    ridge,
    rule_exceptions,
    sequence,
    sequential,
    signal_to_noise,
    similarity_separation,
    spurious,
)
from ammon.experiments.base import Experiment

_ALL = (
    capacity.EXPERIMENT,
    basins.EXPERIMENT,
    local_rules.EXPERIMENT,
    morphing.EXPERIMENT,
    signal_to_noise.EXPERIMENT,
    ridge.EXPERIMENT,
    similarity_separation.EXPERIMENT,
    emergence.EXPERIMENT,
    spurious.EXPERIMENT,
    prototypes.EXPERIMENT,
    sequential.EXPERIMENT,
    sequence.EXPERIMENT,
    energy_landscape.EXPERIMENT,
    induction.EXPERIMENT,
    memorization.EXPERIMENT,
    binding.EXPERIMENT,
    passkey.EXPERIMENT,
    rule_exceptions.EXPERIMENT,
    long_text.EXPERIMENT,
    recovery.EXPERIMENT,
    episodic_evidence.EXPERIMENT,
    read_contiguity.EXPERIMENT,
)

EXPERIMENTS: dict[str, Experiment] = {experiment.name: experiment for experiment in _ALL}
