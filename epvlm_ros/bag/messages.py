"""What recordings hold: topics and their serialised messages."""

from __future__ import annotations

from typing import NamedTuple


class BagTopic(NamedTuple):
    """Type and number of messages of a topic, and how durable its publishers offered them."""

    type_name: str
    num_messages: int
    # 'transient_local' (late subscribers get the last messages), 'volatile', both where
    # publishers differ; empty where the recording does not say.
    durabilities: frozenset[str] = frozenset()


class BagMessage(NamedTuple):
    """One message as recorded; ``data`` is its serialised form."""

    topic: str
    type_name: str
    record_time_ns: int
    data: bytes
