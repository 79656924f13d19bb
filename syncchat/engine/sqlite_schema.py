"""The schema of the SQLite engine's file, as a list of migration steps."""

from __future__ import annotations

__all__ = ["APPLICATION_ID", "MIGRATIONS", "TABLES", "VERSION"]

#: ``PRAGMA application_id`` of the engine's files: "sync" in ASCII.
APPLICATION_ID = 0x73796E63

_ROOMS = """
CREATE TABLE rooms (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    epoch TEXT NOT NULL,
    last INTEGER NOT NULL
)
"""
_MESSAGES = """
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    room INTEGER NOT NULL REFERENCES rooms (id),
    offset INTEGER NOT NULL,
    time REAL NOT NULL,
    nick TEXT NOT NULL,
    text TEXT NOT NULL,
    kind TEXT NOT NULL,
    nonce TEXT,
    UNIQUE (room, offset)
)
"""
#: A separate table, since a nonce may be kept for longer than its message.
_NONCES = """
CREATE TABLE nonces (
    room INTEGER NOT NULL REFERENCES rooms (id),
    nonce TEXT NOT NULL,
    offset INTEGER NOT NULL,
    time REAL NOT NULL,
    PRIMARY KEY (room, nonce)
) WITHOUT ROWID
"""
_NONCE_TIMES = "CREATE INDEX nonce_times ON nonces (time)"
_TIMES = "CREATE INDEX times ON messages (time)"
_TEXTS = """
CREATE VIRTUAL TABLE texts USING fts5 (
    text,
    content = 'messages',
    content_rowid = 'id',
    tokenize = 'unicode61 remove_diacritics 0'
)
"""
#: One row. ``seed`` is random; the epochs of rooms derive from it. ``indexed`` is the id of
#: the last message that is in ``texts``. Messages are indexed many at a time, since each
#: transaction that changes the index writes twenty pages.
_STATE = "CREATE TABLE state (seed TEXT NOT NULL, indexed INTEGER NOT NULL)"
_STATE_ROW = "INSERT INTO state VALUES (hex(randomblob(16)), 0)"
_TEXT_DROPPED = """
CREATE TRIGGER text_dropped AFTER DELETE ON messages
WHEN old.id <= (SELECT indexed FROM state) BEGIN
    INSERT INTO texts (texts, rowid, text) VALUES ('delete', old.id, old.text);
END
"""

#: The statements of each step, beginning with an empty file. Never change a released step:
#: add another one.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        _ROOMS,
        _MESSAGES,
        _NONCES,
        _NONCE_TIMES,
        _TIMES,
        _TEXTS,
        _STATE,
        _STATE_ROW,
        _TEXT_DROPPED,
    ),
)

#: The tables that every version has.
TABLES = frozenset({"rooms", "messages", "nonces", "texts", "state"})

#: The present version of the schema, as in ``PRAGMA user_version``.
VERSION = len(MIGRATIONS)
