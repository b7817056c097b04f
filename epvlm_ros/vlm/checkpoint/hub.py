"""From the name of a model to the folder of its files; all that touches the network."""

from __future__ import annotations

from pathlib import Path

import epvlm_ros
from epvlm_ros.vlm.checkpoint.errors import CheckpointError, named
from epvlm_ros.vlm.checkpoint.files import find_missing_file
from epvlm_ros.vlm.config import VlmConfig
from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache

EMBEDDED_MODEL = Path(epvlm_ros.__file__).parent / 'models' / 'tiny'
ANSWER_TIME_S = 10.0  # of the hub; the library itself waits for ever and tries again
_FILES = ['*.json', '*.jinja', '*.txt']
_WEIGHTS = ['*.safetensors']


def find_folder(config: VlmConfig, *, with_weights: bool = True) -> Path:
    """
    Return the folder that a checkpoint is loaded from; its weights may not be needed.

    A complete snapshot in the cache of the hub library is used as it is. Without one, and only
    if ``config.allow_download`` is true, the network is used. The name of a snapshot's folder is
    its commit.

    Raises
    ------
    ValueError
        If there is no such model.

    """
    folder = Path(config.model).expanduser() if config.model else EMBEDDED_MODEL
    if folder.is_dir():
        if config.revision:
            raise ValueError(
                f'revision is {config.revision!r}, but {folder} is a folder: leave it empty, or '
                'give a hub name')
        return folder
    if not config.model:
        raise ValueError(
            f'the embedded model {folder} is missing: install epvlm_ros again, or give a model')
    name, revision = _split_revision(config)
    is_hub_name = name.count('/') <= 1 and name[0] not in './~' and name[-1] != '/'
    if not is_hub_name or folder.exists():
        raise ValueError(
            f'there is no model folder {folder}: give a folder with config.json, or a hub name')
    remedy = 'check the hub name, the revision and the network, or give a folder'
    with named(config.model, remedy):
        return _find_snapshot(name, revision, config.allow_download, with_weights)


def _split_revision(config: VlmConfig) -> tuple[str, str]:
    name, _, revision = config.model.partition('@')
    if not name or ('@' in config.model and not revision):
        raise ValueError(f'model is {config.model!r}: give name@revision, or a name alone')
    if revision and config.revision not in ('', revision):
        raise ValueError(
            f'model is {config.model!r} and revision is {config.revision!r}: give one revision')
    return name, revision or config.revision


def _find_snapshot(
    name: str, revision: str, allow_download: bool, with_weights: bool,
) -> Path:
    at = f' at revision {revision}' if revision else ''
    cached = try_to_load_from_cache(name, 'config.json', revision=revision or None)
    missing = f'it is not on this machine{at}'
    if isinstance(cached, str):
        folder = Path(cached).parent
        missing_file = find_missing_file(folder, with_weights=with_weights)
        if not missing_file:
            return folder
        missing = f'its copy on this machine lacks {missing_file}'
    if not allow_download:
        raise CheckpointError(
            f'{missing}: give a folder, download it beforehand, or allow it with '
            'allow_download: true')
    # asked first with a time limit: that there is no network is told in seconds
    HfApi().model_info(name, revision=revision or None, timeout=ANSWER_TIME_S)
    return Path(snapshot_download(
        name, revision=revision or None, allow_patterns=_FILES + with_weights * _WEIGHTS,
        ignore_patterns=['*/*'], etag_timeout=ANSWER_TIME_S))
