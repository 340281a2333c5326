"""The type checker of the tests: beartype, with int where float is asked, as mypy reads it (PEP 484)."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
