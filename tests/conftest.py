"""Shapes and types of the inner floors are checked while the tests run; at the public edge the library's own errors must come."""

from jaxtyping import install_import_hook

INNER = ["ammon.parts", "ammon.energies", "ammon.dynamics.sweep", "ammon.dynamics.implicit", "ammon.learning", "ammon.analysis"]
install_import_hook(INNER, "typecheck.check")
