"""Presets: published members of the family, each with its table of parameters.

Similarities (LSA in the papers) are not published with them; without one a preset leaves the semantic cue out.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ammon.cmr.choice import PositionStop, PowerChoice
from ammon.cmr.layers import ContextCue, Items, Pool, Semantics, Source
from ammon.cmr.likelihood import ClippedFloor
from ammon.cmr.model import CMR
from ammon.cmr.race import AccumulatorRace


@dataclass(frozen=True)
class Preset:
    """A model and a published vector of its parameters."""

    model: CMR
    values: dict[str, float]
    paper: str


def cymr(similarity: Pool | None = None) -> Preset:
    """The configuration of cymr's documentation: softmax choice, additive primacy, clipped probabilities."""
    values = {
        "beta_enc": 0.7, "beta_start": 0.3, "beta_rec": 0.9, "learn_fc": 0.15, "learn_cf": 0.15, "primacy_scale": 0.2, "primacy_decay": 2.0,
        "temperature": 0.1, "stop_scale": 0.001, "stop_growth": 0.25,
    }  # fmt: skip
    return Preset(CMR(floor=ClippedFloor()), values, "cymr 0.14, documentation")


def gunn2025(similarity: Pool | None = None) -> Preset:
    """BaseCMR of Gunn & Polyn 2025 with the medians over 126 subjects of PEERS: power choice, multiplicative primacy, shared support."""
    values = {
        "beta_enc": 0.817, "beta_start": 0.183, "beta_rec": 0.888, "learn_fc": 0.379, "learn_cf": 1.0, "shared_cf": 4.0, "pre_cf": 3.1,
        "primacy_scale": 4.2, "primacy_decay": 1.2, "sensitivity": 15.9, "stop_scale": 0.0046, "stop_growth": 0.384,
    }  # fmt: skip
    model = CMR(choice=PowerChoice(), stop=PositionStop(), primacy="multiplicative")
    return Preset(model, values, "Gunn & Polyn 2025, BaseCMR, medians")


def polyn2009(similarity: Pool | None = None) -> Preset:
    """The full model of Polyn, Norman & Kahana 2009, table 1: temporal and source context, accumulators with response times."""
    values = {
        "beta_enc": 0.77, "beta_rec": 0.51, "beta_enc.source": 0.59, "beta_rec.source": 0.59, "beta_shift": 0.77, "learn_fc": 0.898,
        "learn_cf": 1.0, "learn_cf.source": 0.129, "pre_cf": 0.0, "primacy_scale": 1.07, "primacy_decay": 0.98, "race_leak": 0.111,
        "race_inhibition": 0.338, "race_noise": 0.380, "race_time_constant": 574.0,
    }  # fmt: skip
    # items do not support themselves before the experiment: only their likes do
    semantics, more = _cued(similarity, 2.78)
    model = CMR((Items(), Source()), semantics, AccumulatorRace(step=100, limit=90_000), primacy="multiplicative")
    return Preset(model, {**values, **more}, "Polyn, Norman & Kahana 2009, table 1")


LOHNAS = {
    # beta_enc beta_rec phi_s phi_d K L eta gamma_cf gamma_fc beta_end_list alpha omega s c_thresh, list length
    "K02": (0.5198, 0.6278, 1.4089, 0.9896, 0.3127, 0.1296, 0.3928, 0.8953, 0.4251, 0.8025, 0.6790, 11.894, 1.2924, 0.0737, 10),
    "L13": (0.4808, 0.3292, 1.3004, 0.3939, 0.0984, 0.1427, 0.4125, 0.7801, 0.6471, 1.0, 0.7938, 7.2787, 1.8679, 0.1936, 16),
    "L67": (0.6346, 0.9365, 1.9877, 0.1, 0.1898, 0.1335, 0.3534, 0.6693, 0.5002, 0.8363, 0.6274, 11.079, 2.4698, 0.1852, 12),
}


def lohnas2015(similarity: Pool | None = None, experiment: str = "K02") -> Preset:
    """CMR2 of Lohnas, Polyn & Kahana 2015 for one of its experiments (K02, L13, L67): to be run by `simulate_sessions`."""
    if experiment not in LOHNAS:
        raise ValueError(f"lohnas2015: the experiment must be one of {', '.join(LOHNAS)}, got {experiment!r}.")
    enc, rec, phi_s, phi_d, leak, inhibition, noise, g_cf, g_fc, end, alpha, omega, s, least, length = LOHNAS[experiment]
    values = {
        "beta_enc": enc, "beta_rec": rec, "primacy_scale": phi_s, "primacy_decay": phi_d, "race_leak": leak, "race_inhibition": inhibition,
        "race_noise": noise, "learn_cf": g_cf, "learn_fc": g_fc, "beta_end_list": end, "repeat_alpha": alpha, "repeat_omega": omega,
        "match_threshold": least, "race_time_constant": 1000.0,
    }  # fmt: skip
    # M^CF before the experiment is (1 - γ_cf) (I + s LSA of other items)
    semantics, more = _cued(similarity, (1 - g_cf) * s)
    race = AccumulatorRace(step=10, limit=75_000, competitors=4 * length, repeats=True, outputs=length)
    model = CMR(semantics=semantics, choice=race, primacy="multiplicative", association="previous")
    return Preset(model, {**values, **more}, f"Lohnas, Polyn & Kahana 2015, {experiment}")


def _cued(similarity: Pool | None, weight: float) -> tuple[Semantics | None, dict[str, float]]:
    return (None, {}) if similarity is None else (ContextCue(similarity, diagonal=False), {"semantic": weight})


PRESETS: dict[str, Callable[..., Preset]] = {"cymr": cymr, "gunn2025": gunn2025, "polyn2009": polyn2009, "lohnas2015": lohnas2015}
