"""Schema: the tables of a store in SQLite, its version, and how an older version becomes this one.

A file of SQLite says in its header whose it is (application_id) and which version of the tables it holds (user_version).
"""

import sqlite3

# "AMMN"
APPLICATION = 0x414D4D4E

# what brings version n - 1 to n; the first makes the tables
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
        "INSERT INTO meta VALUES ('revision', 0)",
        "CREATE TABLE sessions (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        "CREATE TABLE speakers (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        # ids are never used again, so they ascend with time of writing; what is scanned stands before what may be long
        """CREATE TABLE episodes (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            revision INTEGER NOT NULL,
            session INTEGER NOT NULL REFERENCES sessions,
            speaker INTEGER REFERENCES speakers,
            time INTEGER NOT NULL,
            zone INTEGER NOT NULL,
            length INTEGER NOT NULL,
            strength REAL NOT NULL DEFAULT 1,
            uses INTEGER NOT NULL DEFAULT 0,
            used INTEGER,
            key BLOB NOT NULL,
            text TEXT,
            metadata TEXT NOT NULL
        )""",
        "CREATE INDEX episodes_by_session ON episodes (session, time, id)",
        "CREATE INDEX episodes_by_speaker ON episodes (speaker, time, id)",
        "CREATE INDEX episodes_by_time ON episodes (time, id)",
        "CREATE INDEX episodes_by_revision ON episodes (revision)",
        "CREATE TABLE deleted (id INTEGER PRIMARY KEY, revision INTEGER NOT NULL)",
        "CREATE INDEX deleted_by_revision ON deleted (revision)",
        "CREATE TABLE labels (name TEXT, value TEXT, episode INTEGER, PRIMARY KEY (name, value, episode)) WITHOUT ROWID",
        "CREATE INDEX labels_by_episode ON labels (episode)",
        "CREATE TABLE bookmarks (name TEXT PRIMARY KEY, place INTEGER NOT NULL) WITHOUT ROWID",
        # the index holds the terms of words.py, not the text
        "CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize='unicode61 remove_diacritics 0')",
        "CREATE VIRTUAL TABLE words_known USING fts5vocab(words, row)",
        "CREATE VIRTUAL TABLE words_found USING fts5vocab(words, instance)",
    ),
)


def bring_up(connection: sqlite3.Connection, place: str) -> None:
    """Make or migrate the tables. ValueError if the file is another program's, or of a newer version."""
    version = version_of(connection, place)
    if version == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # another process may have done it while this one waited
        for number, statements in enumerate(MIGRATIONS[version_of(connection, place) :], start=version_of(connection, place) + 1):
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def version_of(connection: sqlite3.Connection, place: str) -> int:
    """Of the tables; 0 for a fresh file. Reads only, so that what is not ours stays as it is."""
    [application], [version] = (connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version"))
    [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION and (application or version or tables):
        raise ValueError(f"Episodes.open: {place} is a database of another program; give the path of a store, or of no file.")
    if version > len(MIGRATIONS):
        raise ValueError(
            f"Episodes.open: {place} was written by a newer version of ammon (tables of version {version}, this one knows "
            f"{len(MIGRATIONS)}); it is left as it is. Install that version to open it."
        )
    return int(version)
