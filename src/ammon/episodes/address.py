"""Address: the URL of a store on a database server, taken apart before the database library sees it, so that no password is printed.

postgresql://user:password@host:5432/database?store=name: `store` names the schema that holds the tables, by default "ammon"; the other
parameters, several hosts among them, are those of libpq.
"""

import re
from dataclasses import dataclass

DEFAULT = "ammon"
NAME = re.compile(r"(?!pg_|information_schema$)[a-z_][a-z0-9_]{0,62}")
HOST = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::(\d*))?")
SPECIAL = (
    "in a user name or a password write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23 and % as %25 "
    "(urllib.parse.quote(password, safe=''))"
)


@dataclass(frozen=True)
class Address:
    """Where a store is. conninfo: for libpq, the password in it. schema: of the tables. shown: for people, without the password."""

    conninfo: str
    schema: str
    shown: str

    def __repr__(self) -> str:
        return f"Address({self.shown})"


def address(url: str) -> Address:
    """The address that a URL gives; ValueError, without the URL's secrets, if it is none."""
    where = "Episodes.open"
    scheme, _, rest = url.partition("://")
    head, _, query = rest.partition("?")
    authority, slash, database = head.partition("/")
    pairs = [pair for pair in query.split("&") if pair]
    if (
        "#" in rest
        or "@" in database
        or authority.count("@") > 1
        or re.search(r"%(?![0-9a-fA-F]{2})", rest)
        or any("=" not in pair for pair in pairs)
    ):
        raise ValueError(f"{where}: this URL cannot be taken apart; {SPECIAL}.")
    user, at, hosts = authority.rpartition("@")
    name, _, password = user.partition(":")
    if ":" in password:
        raise ValueError(f"{where}: this URL cannot be taken apart; {SPECIAL}.")
    for host in hosts.split(","):
        found = HOST.fullmatch(host)
        if found is None or (found[2] and not 0 < int(found[2]) < 65536):
            raise ValueError(
                f"{where}: a host and a port from 1 to 65535 are needed, as in postgresql://user@host:5432/database; {SPECIAL}."
            )
    chosen = [pair.partition("=")[2] for pair in pairs if pair.startswith("store=")]
    schema = chosen[-1] if chosen else DEFAULT
    if not NAME.fullmatch(schema):
        raise ValueError(f"{where}: store= must be a name of lower-case letters, digits and _, up to 63, got {schema!r}.")
    passed = [pair for pair in pairs if not pair.startswith("store=")]
    # without these an unreachable host could be waited for without end
    named = {pair.partition("=")[0] for pair in passed}
    added = [f"{key}={value}" for key, value in (("connect_timeout", "10"), ("application_name", "ammon")) if key not in named]
    conninfo = f"postgresql://{authority}{slash or '/'}{database}?{'&'.join([*passed, *added])}"
    public = [pair for pair in pairs if not pair.startswith(("password=", "sslpassword=", "passfile="))]
    shown = f"{scheme}://{name}{at}{hosts}{slash}{database}{'?' if public else ''}{'&'.join(public)}"
    return Address(conninfo, schema, shown)
