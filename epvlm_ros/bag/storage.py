"""The files of a recording: found by its metadata and decompressed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
import shutil
from tempfile import TemporaryDirectory
from typing import Any

import yaml

STORAGES = {'.db3': 'sqlite3', '.mcap': 'mcap'}  # by the suffix of a file
DURABILITIES = {1: 'transient_local', 2: 'volatile'}  # by the number of older recordings


@dataclass
class StorageFiles:
    """The files of one recording, and what its metadata say about them."""

    files: list[Path]
    types: dict[str, str]  # of topics, from metadata.yaml; empty for a bare file
    durabilities: dict[str, frozenset[str]] = field(default_factory=dict)  # likewise
    compresses_messages: bool = False
    temporary: TemporaryDirectory[str] | None = None  # holds decompressed files

    def clean_up(self) -> None:
        """Remove decompressed files."""
        if self.temporary is not None:
            self.temporary.cleanup()
            self.temporary = None


def find_storage(path: Path) -> StorageFiles:
    """
    Find the files of a recording, and decompress those that are compressed as a whole.

    Raises
    ------
    ValueError
        If there is no recording at ``path``, or its metadata.yaml is damaged.

    """
    if not path.exists():
        raise ValueError(f'{path} does not exist: give a rosbag2 folder, .mcap or .db3')
    if path.is_file():
        return StorageFiles([path], {})
    metadata = path / 'metadata.yaml'
    if not metadata.is_file():
        bare = sorted(file.name for file in path.iterdir() if file.suffix in STORAGES)
        remedy = f'read {bare[0]} by itself' if bare else 'give a rosbag2 folder'
        raise ValueError(f'{path} is no rosbag2, it has no metadata.yaml: {remedy}')
    try:
        information = yaml.safe_load(metadata.read_text())['rosbag2_bagfile_information']
        types = {
            topic['topic_metadata']['name']: topic['topic_metadata']['type']
            for topic in information['topics_with_message_count']}
        durabilities = {
            topic['topic_metadata']['name']: _find_durabilities(
                topic['topic_metadata'].get('offered_qos_profiles'))
            for topic in information['topics_with_message_count']}
        compression = (information.get('compression_mode') or '').lower()
        # Old recordings name files from outside of the folder.
        files = [path / Path(name).name for name in information['relative_file_paths']]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(
            f'{metadata} is damaged ({error!r}): rebuild it with ros2 bag reindex') from None
    storage = StorageFiles(
        files, types, durabilities, compresses_messages=compression == 'message')
    if compression == 'file':
        _decompress_files(storage)
    return storage


def _find_durabilities(profiles: Any) -> frozenset[str]:
    """Return the durabilities that QoS profiles offer: a list of them, or its YAML text."""
    if isinstance(profiles, str):
        profiles = yaml.safe_load(profiles)
    offered = [profile.get('durability') for profile in profiles or ()]
    return frozenset(DURABILITIES.get(value, value) for value in offered) & {
        *DURABILITIES.values()}


def decompress(data: bytes) -> bytes:
    """Decompress one message."""
    return bytes(_zstd().decompress(data))


def _decompress_files(storage: StorageFiles) -> None:
    storage.temporary = TemporaryDirectory()
    copies = []
    for file in storage.files:
        copies.append(Path(storage.temporary.name) / file.stem)
        try:
            with _zstd().open(file, 'rb') as source, copies[-1].open('wb') as copy:
                shutil.copyfileobj(source, copy)
        except Exception as error:  # noqa: B902
            storage.clean_up()
            raise ValueError(f'{file} cannot be decompressed: {error}') from None
    storage.files = copies


def _zstd() -> Any:
    try:
        from compression import zstd  # type: ignore
    except ImportError:
        from backports import zstd  # type: ignore
    return zstd
