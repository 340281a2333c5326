"""Free recall: `am.cmr.CMR` and what it is put together from. Nothing is imported before it is used (PEP 562)."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ammon.cmr.bayes import Posterior as Posterior
    from ammon.cmr.choice import PositionStop as PositionStop
    from ammon.cmr.choice import PowerChoice as PowerChoice
    from ammon.cmr.choice import RatioStop as RatioStop
    from ammon.cmr.choice import SoftmaxChoice as SoftmaxChoice
    from ammon.cmr.choice import StrengthStop as StrengthStop
    from ammon.cmr.fisher import information as information
    from ammon.cmr.fisher import uncertainty as uncertainty
    from ammon.cmr.fitting import Fit as Fit
    from ammon.cmr.fitting import evolve as evolve
    from ammon.cmr.fitting import standard_errors as standard_errors
    from ammon.cmr.layers import ContextCue as ContextCue
    from ammon.cmr.layers import Features as Features
    from ammon.cmr.layers import ItemCue as ItemCue
    from ammon.cmr.layers import Items as Items
    from ammon.cmr.layers import Pool as Pool
    from ammon.cmr.layers import Source as Source
    from ammon.cmr.layers import cosine_similarity as cosine_similarity
    from ammon.cmr.likelihood import ClippedFloor as ClippedFloor
    from ammon.cmr.likelihood import SmoothFloor as SmoothFloor
    from ammon.cmr.lists import Lists as Lists
    from ammon.cmr.lists import once as once
    from ammon.cmr.model import CMR as CMR
    from ammon.cmr.parameters import PARAMETERS as PARAMETERS
    from ammon.cmr.presets import PRESETS as PRESETS
    from ammon.cmr.psifr_tables import read_table as read_table
    from ammon.cmr.psifr_tables import sample as sample
    from ammon.cmr.psifr_tables import write_table as write_table
    from ammon.cmr.race import AccumulatorRace as AccumulatorRace
    from ammon.cmr.rivals import rank as rank
    from ammon.cmr.sessions import simulate_sessions as simulate_sessions

_HOMES = {
    "bayes": "Posterior",
    "choice": "PositionStop PowerChoice RatioStop SoftmaxChoice StrengthStop",
    "fisher": "information uncertainty",
    "fitting": "Fit evolve standard_errors",
    "layers": "ContextCue Features ItemCue Items Pool Source cosine_similarity",
    "likelihood": "ClippedFloor SmoothFloor",
    "lists": "Lists once",
    "model": "CMR",
    "parameters": "PARAMETERS",
    "presets": "PRESETS",
    "psifr_tables": "read_table sample write_table",
    "race": "AccumulatorRace",
    "rivals": "rank",
    "sessions": "simulate_sessions",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}
__all__ = list(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'ammon.cmr' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ammon.cmr.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
