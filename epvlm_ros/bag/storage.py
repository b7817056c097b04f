"""The files of a recording: found by its metadata and decompressed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
import shutil
from tempfile import TemporaryDirectory
from typing import Any

import yaml

STORAGES = {'.db3': 'sqlite3', '.mcap': 'mcap'}  # by the suffix of a file
_ZSTD = '.zstd'
_ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
DURABILITIES = {1: 'transient_local', 2: 'volatile'}  # by the number of older recordings


@dataclass
class StorageFiles:
    """The files of one recording, and what its metadata say about them."""

    files: list[Path]
    types: dict[str, str]  # of topics, from metadata.yaml; empty for a bare file
    durabilities: dict[str, frozenset[str]] = field(default_factory=dict)  # likewise
    problems: list[str] = field(default_factory=list)  # one line each
    temporary: TemporaryDirectory[str] | None = None  # holds copies and decompressed files

    def make_temporary_folder(self) -> Path:
        """Return a folder that lasts until the clean-up."""
        if self.temporary is None:
            self.temporary = TemporaryDirectory()
        return Path(self.temporary.name)

    def clean_up(self) -> None:
        """Remove the temporary folder."""
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
        return _find_files_without_metadata(path)
    try:
        information = yaml.safe_load(metadata.read_text())['rosbag2_bagfile_information']
        types = {
            topic['topic_metadata']['name']: topic['topic_metadata']['type']
            for topic in information['topics_with_message_count']}
        durabilities = {
            topic['topic_metadata']['name']: find_durabilities(
                topic['topic_metadata'].get('offered_qos_profiles'))
            for topic in information['topics_with_message_count']}
        compression = (information.get('compression_mode') or '').lower()
        # Old recordings name files from outside of the folder.
        files = [path / Path(name).name for name in information['relative_file_paths']]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(
            f'{metadata} is damaged ({error!r}): rebuild it with ros2 bag reindex') from None
    storage = StorageFiles(files, types, durabilities)
    if compression == 'file':
        _decompress_files(storage)
    return storage


def _find_files_without_metadata(folder: Path) -> StorageFiles:
    """Return all files of a folder: a recorder that was killed leaves no metadata.yaml."""
    files = sorted(
        (file for file in folder.iterdir() if Path(file.name.removesuffix(_ZSTD)).suffix in
         STORAGES), key=lambda file: (len(file.name), file.name))  # rec_2 before rec_10
    if not files:
        raise ValueError(
            f'{folder} is no rosbag2, it has neither metadata.yaml nor .mcap or .db3 files: give '
            'a rosbag2 folder; "epvlm convert" makes one of other recordings')
    number = 'its file is' if len(files) == 1 else f'all of its {len(files)} files are'
    storage = StorageFiles(files, {}, problems=[
        f'{folder} has no metadata.yaml: {number} read as one recording; "ros2 bag reindex" '
        'writes the missing metadata'])
    if files[0].suffix == _ZSTD:
        _decompress_files(storage)
    return storage


def find_durabilities(profiles: Any) -> frozenset[str]:
    """Return the durabilities that QoS profiles offer: a list of them, or its YAML text."""
    if isinstance(profiles, str):
        profiles = yaml.safe_load(profiles)
    offered = [profile.get('durability') for profile in profiles or ()]
    return frozenset(DURABILITIES.get(value, value) for value in offered) & {
        *DURABILITIES.values()}


def decompress_message(data: bytes) -> bytes:
    """Return a message as it was serialised, which never begins as compressed data do."""
    return bytes(_zstd().decompress(data)) if data.startswith(_ZSTD_MAGIC) else data


def _decompress_files(storage: StorageFiles) -> None:
    folder = storage.make_temporary_folder()
    copies = []
    for file in storage.files:
        copies.append(folder / file.stem)
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
