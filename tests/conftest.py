"""Shapes and types of the inner floors are checked while the tests run; at the public edge the library's own errors must come."""

import torch
from jaxtyping import install_import_hook

PARTS = [
    f"ammon.parts.{name}"
    for name in (
        "attend",
        "binding",
        "corruption",
        "expansions",
        "features",
        "kernels",
        "lagrangians",
        "reduction",
        "retrieve",
        "separations",
        "similarity",
        "top_k",
    )
]
ENERGIES = [
    f"ammon.energies.{name}" for name in ("associative", "attention", "base", "flips", "owned", "pairwise_flips", "quadratic", "stored")
]
INNER = [*PARTS, *ENERGIES, "ammon.dynamics.drift", "ammon.dynamics.sweep", "ammon.dynamics.implicit", "ammon.learning"]
# the tests run in two processes on two cores: more threads would only wait for each other
torch.set_num_threads(1)
install_import_hook(INNER, "typecheck.check")
