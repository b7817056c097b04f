"""One file of a recording: its topics and messages."""

from __future__ import annotations

from pathlib import Path
from typing import Collection, Iterator, NamedTuple

from epvlm_ros.bag.storage import decompress, DURABILITIES, StorageFiles, STORAGES
from rosbags.interfaces import Connection, ConnectionExtRosbag2
from rosbags.rosbag2 import Reader

_NO_TYPE = '__schemaless__'  # what rosbags says where an mcap channel has no schema


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


class StorageFile:
    """
    One open file of a recording.

    It is opened by itself and not through its folder: a folder's storage_identifier may be empty,
    and rosbags ignores topics whose settings differ between metadata.yaml and the file. Raises a
    ValueError if the file is missing, of another kind or damaged.
    """

    def __init__(self, path: Path, files: StorageFiles) -> None:
        if path.suffix not in STORAGES:
            raise ValueError(f'{path} is neither .mcap nor .db3: give a recording of rosbag2')
        if not path.is_file():
            raise ValueError(f'{path} is missing, metadata.yaml names it: restore the file')
        self._path, self._files = path, files
        try:
            self._reader = Reader(path)
            self._reader.open()
        except Exception as error:  # noqa: B902  damaged files fail in many ways
            raise ValueError(f'{path} cannot be read as a recording: {error}') from None

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    @property
    def kind(self) -> str:
        """Return 'sqlite3' or 'mcap'."""
        return STORAGES[self._path.suffix]

    @property
    def time_range_ns(self) -> tuple[int, int] | None:
        """Return the first and the last record time, None in an empty file."""
        if not self._reader.message_count:
            return None
        return self._reader.start_time, self._reader.end_time - 1

    @property
    def topics(self) -> list[tuple[str, BagTopic]]:
        """Return the topics by name; one comes again for each type or publisher that differs."""
        return [
            (connection.topic, BagTopic(
                self._type(connection), connection.msgcount, _find_durabilities(connection)))
            for connection in self._reader.connections]

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """
        Iterate over the messages of some topics in the order of their record time.

        Raises
        ------
        ValueError
            While iterating, if the file is damaged.

        """
        connections = [item for item in self._reader.connections if item.topic in topics]
        if not connections:
            return
        try:
            for connection, record_time_ns, data in self._reader.messages(connections):
                data = bytes(data)
                if self._files.compresses_messages:
                    data = decompress(data)
                yield BagMessage(
                    connection.topic, self._type(connection), record_time_ns, data)
        except GeneratorExit:
            raise
        except Exception as error:  # noqa: B902  damaged files fail in many ways
            raise ValueError(f'{self._path} is damaged: {error!r}') from None

    def _type(self, connection: Connection) -> str:
        if connection.msgtype == _NO_TYPE:
            return self._files.types.get(connection.topic, '')
        return connection.msgtype


def _find_durabilities(connection: Connection) -> frozenset[str]:
    assert isinstance(connection.ext, ConnectionExtRosbag2)
    offered = (profile.durability.name.lower() for profile in connection.ext.offered_qos_profiles)
    return frozenset(offered) & {*DURABILITIES.values()}
