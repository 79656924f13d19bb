"""The schema of the SQLite engine's file, as the steps that lead to it."""

from __future__ import annotations

__all__ = ["APPLICATION_ID", "MIGRATIONS", "TABLES", "VERSION"]

#: What ``PRAGMA application_id`` says of our files: "sync".
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
#: Apart from the messages, since a nonce is known for longer than its message is kept.
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
#: One row. ``seed`` is random, for the epochs of rooms. ``indexed`` is the last
#: message whose words are in ``texts``: they go there many at a time, since each
#: transaction that touches it writes twenty pages.
_STATE = "CREATE TABLE state (seed TEXT NOT NULL, indexed INTEGER NOT NULL)"
_STATE_ROW = "INSERT INTO state VALUES (hex(randomblob(16)), 0)"
_TEXT_DROPPED = """
CREATE TRIGGER text_dropped AFTER DELETE ON messages
WHEN old.id <= (SELECT indexed FROM state) BEGIN
    INSERT INTO texts (texts, rowid, text) VALUES ('delete', old.id, old.text);
END
"""

#: Each step's statements, from an empty file on. A step that was released stays
#: as it is: what changes is a step more.
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

#: The tables that there are from the first version on.
TABLES = frozenset({"rooms", "messages", "nonces", "texts", "state"})

#: The present version, as ``PRAGMA user_version`` says it.
VERSION = len(MIGRATIONS)
