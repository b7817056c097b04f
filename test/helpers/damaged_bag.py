"""Recordings of sqlite3 with single messages that are not what they should be."""

from contextlib import closing
import sqlite3


def replace_in_message(path, topic, number, old, new):
    """Replace bytes, which must be there once, in one message of a topic, counted from 0."""
    (file,) = path.glob('*.db3')
    with closing(sqlite3.connect(file)) as database, database:
        row, data = database.execute(
            'SELECT messages.id, data FROM messages JOIN topics ON topics.id = topic_id '
            'WHERE name = ? ORDER BY timestamp LIMIT 1 OFFSET ?', (topic, number)).fetchone()
        assert data.count(old) == 1
        database.execute(
            'UPDATE messages SET data = ? WHERE id = ?', (data.replace(old, new), row))


def make_too_high(path, topic, number, height, width):
    """Let an image say that it is a row higher than it is."""
    old, new = (rows.to_bytes(4, 'little') + width.to_bytes(4, 'little')
                for rows in (height, height + 1))
    replace_in_message(path, topic, number, old, new)
