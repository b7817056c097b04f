"""One file of a recording: its topics and messages."""

from __future__ import annotations

from pathlib import Path
import shutil
import sqlite3
from typing import Collection, Iterator, Protocol

from epvlm_ros.bag.mcap_scan import McapScan
from epvlm_ros.bag.messages import BagMessage, BagTopic
from epvlm_ros.bag.storage import decompress_message, DURABILITIES, StorageFiles, STORAGES
from rosbags.interfaces import Connection, ConnectionExtRosbag2
from rosbags.rosbag2 import Reader

_NO_TYPE = '__schemaless__'  # what rosbags says where an mcap channel has no schema


class StorageFile(Protocol):
    """One open file of a recording."""

    problem: str  # what of it cannot be read and how to save it; empty if all can

    def close(self) -> None:
        """Close the file."""

    @property
    def time_range_ns(self) -> tuple[int, int] | None:
        """Return the first and the last record time, None in an empty file."""

    @property
    def topics(self) -> list[tuple[str, BagTopic]]:
        """Return the topics by name; one comes again for each type or publisher that differs."""

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """Iterate in the order of record times; a ValueError where the file is damaged."""


def open_storage_file(path: Path, files: StorageFiles) -> StorageFile:
    """
    Open one file of a recording.

    It is opened by itself and not through its folder: a folder's storage_identifier may be empty,
    and rosbags ignores topics whose settings differ between metadata.yaml and the file.

    Raises
    ------
    ValueError
        If the file is missing, of another kind or damaged.

    """
    if path.suffix not in STORAGES:
        raise ValueError(
            f'{path} is neither .mcap nor .db3: give a recording of rosbag2; "epvlm convert" '
            'makes one of .raw, .dat, .bag (ROS 1), .aedat4, .h5, .npz and text')
    if not path.is_file():
        raise ValueError(f'{path} is missing, metadata.yaml names it: restore the file')
    try:
        return RosbagsFile(path, files)
    except Exception as error:  # noqa: B902  damaged files fail in many ways
        if path.suffix == '.mcap' and path.stat().st_size:
            return McapScan(path, files.types)
        raise ValueError(f'{path} cannot be read as a recording: {error}') from None


class RosbagsFile:
    """A file that is whole."""

    problem = ''

    def __init__(self, path: Path, files: StorageFiles) -> None:
        self._path, self._types = path, files.types
        self._reader = Reader(_merge_logs(path, files))
        self._reader.open()

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

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
        """Iterate in the order of record times; a ValueError where the file is damaged."""
        connections = [item for item in self._reader.connections if item.topic in topics]
        if not connections:
            return
        try:
            for connection, record_time_ns, data in self._reader.messages(connections):
                yield BagMessage(
                    connection.topic, self._type(connection), record_time_ns,
                    decompress_message(bytes(data)))
        except GeneratorExit:
            raise
        except Exception as error:  # noqa: B902  damaged files fail in many ways
            raise ValueError(f'{self._path} is damaged: {error!r}') from None

    def _type(self, connection: Connection) -> str:
        if connection.msgtype == _NO_TYPE:
            return self._types.get(connection.topic, '')
        return connection.msgtype


def _find_durabilities(connection: Connection) -> frozenset[str]:
    assert isinstance(connection.ext, ConnectionExtRosbag2)
    offered = (profile.durability.name.lower() for profile in connection.ext.offered_qos_profiles)
    return frozenset(offered) & {*DURABILITIES.values()}


def _merge_logs(path: Path, files: StorageFiles) -> Path:
    """
    Return a database that holds all messages: the file, or a copy where it lacks some.

    A recorder that was killed leaves messages in a write-ahead log, or half a transaction and a
    journal to undo it. rosbags reads neither, and SQLite would write to the recording.
    """
    logs = [log for log in (path.with_name(f'{path.name}-wal'),
                            path.with_name(f'{path.name}-journal'))
            if log.is_file() and log.stat().st_size]
    if path.suffix != '.db3' or not logs:
        return path
    folder = files.make_temporary_folder()
    try:
        for file in (path, *logs):
            shutil.copyfile(file, folder / file.name)
    except OSError as error:
        raise ValueError(
            f'{path} and its log cannot be copied ({error}): set TMPDIR to a folder with enough '
            'space') from None
    copy = folder / path.name
    database = sqlite3.connect(copy)
    try:
        database.execute('PRAGMA journal_mode = DELETE').fetchall()
    finally:
        database.close()
    return copy
