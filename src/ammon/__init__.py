"""ammon: associative memory on one idea. Compare a cue with addresses, sharpen, mix contents, settle.

`memory = ammon.modern_hopfield(dim=784); memory.write(patterns); memory.recall(cue).state`
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ammon import cmr as cmr
    from ammon import experiments as experiments
    from ammon.analysis.cost import cost as cost
    from ammon.analysis.lyapunov import check_lyapunov as check_lyapunov
    from ammon.catalog import CATALOG as CATALOG
    from ammon.catalog import amari as amari
    from ammon.catalog import astrocyte as astrocyte
    from ammon.catalog import bayesian_optimal as bayesian_optimal
    from ammon.catalog import bcpnn as bcpnn
    from ammon.catalog import compositional as compositional
    from ammon.catalog import delta as delta
    from ammon.catalog import dense as dense
    from ammon.catalog import diffusion as diffusion
    from ammon.catalog import exponential as exponential
    from ammon.catalog import exponential_sequence as exponential_sequence
    from ammon.catalog import hebbian_expansion as hebbian_expansion
    from ammon.catalog import holographic as holographic
    from ammon.catalog import hopfield as hopfield
    from ammon.catalog import kernel_logistic as kernel_logistic
    from ammon.catalog import kernel_ridge as kernel_ridge
    from ammon.catalog import kohonen as kohonen
    from ammon.catalog import large_dim_dense as large_dim_dense
    from ammon.catalog import learned_dense as learned_dense
    from ammon.catalog import log_sum_relu as log_sum_relu
    from ammon.catalog import minerva2 as minerva2
    from ammon.catalog import mixed_sequence as mixed_sequence
    from ammon.catalog import modern_hopfield as modern_hopfield
    from ammon.catalog import modular_bcpnn as modular_bcpnn
    from ammon.catalog import perceptron as perceptron
    from ammon.catalog import predictive as predictive
    from ammon.catalog import pseudo_inverse as pseudo_inverse
    from ammon.catalog import random_features as random_features
    from ammon.catalog import rectified_dense as rectified_dense
    from ammon.catalog import sequence as sequence
    from ammon.catalog import sparse_distributed as sparse_distributed
    from ammon.catalog import sparse_hopfield as sparse_hopfield
    from ammon.catalog import storkey as storkey
    from ammon.catalog import synchronous_hopfield as synchronous_hopfield
    from ammon.catalog import temporal_predictive as temporal_predictive
    from ammon.catalog import todam as todam
    from ammon.catalog import u_hop as u_hop
    from ammon.catalog import universal as universal
    from ammon.catalog import willshaw as willshaw
    from ammon.dynamics.descend import descend as descend
    from ammon.dynamics.settle import Recall as Recall
    from ammon.dynamics.settle import settle as settle
    from ammon.energies.network import EnergyNetwork as EnergyNetwork
    from ammon.energies.neurons import Neurons as Neurons
    from ammon.episodes.store import Episodes as Episodes
    from ammon.memories.associative import AssociativeMemory as AssociativeMemory
    from ammon.memories.base import Memory as Memory
    from ammon.memories.binary import BinaryMemory as BinaryMemory
    from ammon.memories.pairwise import PairwiseMemory as PairwiseMemory
    from ammon.parts.corruption import Blur as Blur
    from ammon.parts.corruption import Flip as Flip
    from ammon.parts.corruption import Mask as Mask
    from ammon.parts.corruption import Noise as Noise
    from ammon.parts.corruption import Swap as Swap
    from ammon.parts.lagrangians import Lagrangian as Lagrangian
    from ammon.parts.patterns import bipolar as bipolar
    from ammon.parts.patterns import modular_patterns as modular_patterns
    from ammon.parts.patterns import prepare as prepare
    from ammon.parts.patterns import random_patterns as random_patterns
    from ammon.parts.patterns import sparse_patterns as sparse_patterns
    from ammon.parts.patterns import unit as unit
    from ammon.parts.retrieve import retrieve as retrieve
    from ammon.parts.separations import Softmax as Softmax
    from ammon.parts.similarity import Dot as Dot
    from ammon.parts.similarity import Euclidean as Euclidean
    from ammon.parts.similarity import Similarity as Similarity
    from ammon.saving import load as load
    from ammon.saving import save as save

# torch takes a second to import, so nothing is imported before it is used (PEP 562)
_HOMES = {
    "ammon.analysis.cost": "cost",
    "ammon.catalog": (
        "CATALOG amari astrocyte bayesian_optimal bcpnn compositional delta dense diffusion exponential exponential_sequence "
        "hebbian_expansion holographic hopfield kernel_logistic kernel_ridge kohonen large_dim_dense learned_dense log_sum_relu "
        "minerva2 mixed_sequence modern_hopfield modular_bcpnn perceptron predictive pseudo_inverse random_features rectified_dense "
        "sequence sparse_distributed sparse_hopfield storkey synchronous_hopfield temporal_predictive todam u_hop universal willshaw"
    ),
    "ammon.analysis.lyapunov": "check_lyapunov",
    "ammon.dynamics.descend": "descend",
    "ammon.dynamics.settle": "Recall settle",
    "ammon.energies.network": "EnergyNetwork",
    "ammon.energies.neurons": "Neurons",
    "ammon.episodes.store": "Episodes",
    "ammon.memories.associative": "AssociativeMemory",
    "ammon.memories.base": "Memory",
    "ammon.memories.binary": "BinaryMemory",
    "ammon.memories.pairwise": "PairwiseMemory",
    "ammon.parts.corruption": "Blur Flip Mask Noise Swap",
    "ammon.parts.lagrangians": "Lagrangian",
    "ammon.parts.patterns": "bipolar modular_patterns prepare random_patterns sparse_patterns unit",
    "ammon.parts.retrieve": "retrieve",
    "ammon.parts.separations": "Softmax",
    "ammon.parts.similarity": "Dot Euclidean Similarity",
    "ammon.saving": "load save",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}
# rooms with names of their own: am.cmr.CMR, am.experiments.capacity
_ROOMS = ("cmr", "experiments")
__all__ = ["__version__", *_ROOMS, *_HOME_OF]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"ammon.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'ammon' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
