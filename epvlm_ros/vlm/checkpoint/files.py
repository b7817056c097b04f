"""The files of a checkpoint folder, looked at before any library reads them."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
from typing import Any

from epvlm_ros.vlm.checkpoint.errors import CheckpointError, of_the_checkpoint
from epvlm_ros.vlm.sparse_qwen import find_family
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

INDEX = 'model.safetensors.index.json'
WHOLE = 'model.safetensors'
_ADAPTER = 'adapter_config.json'
_PROCESSORS = ('preprocessor_config.json', 'processor_config.json')
_READ_BY_THE_LIBRARY = (
    *_PROCESSORS, 'tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json',
    'added_tokens.json', 'chat_template.json', 'generation_config.json')
_LFS_POINTER = b'version https://git-lfs'


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; a CheckpointError says if there is none."""
    if is_lfs_pointer(path):
        raise CheckpointError(f'{path.name} is a Git LFS pointer: run git lfs pull in its folder')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f'{path.name} cannot be read ({error}): get the file again') \
            from error
    if not isinstance(content, dict):
        raise CheckpointError(f'{path.name} holds no JSON object: get the file again')
    return content


def is_lfs_pointer(path: Path) -> bool:
    """Whether a clone without Git LFS left a line of text in place of the file."""
    with path.open('rb') as file:
        return file.read(len(_LFS_POINTER)) == _LFS_POINTER


def find_missing_file(folder: Path, *, with_weights: bool = True) -> str:
    """Return the first file that a checkpoint needs and the folder lacks, or ''."""
    if not (folder / 'config.json').is_file():
        return 'config.json'
    for name in (weight_files(folder) or [WHOLE]) if with_weights else []:
        if not (folder / name).is_file():
            return name
    if not (folder / 'tokenizer.json').is_file() and not all(
            (folder / name).is_file() for name in ('vocab.json', 'merges.txt')):
        return 'tokenizer.json'
    if not any((folder / name).is_file() for name in _PROCESSORS):
        return _PROCESSORS[0]
    return ''


def weight_files(folder: Path) -> list[str]:
    """Return the names of the files that hold the weights: one, those of the index, or none."""
    if not (folder / INDEX).is_file():
        return [WHOLE] if (folder / WHOLE).is_file() else []
    weight_map = read_json(folder / INDEX).get('weight_map')
    if not isinstance(weight_map, dict) or not weight_map or not all(
            isinstance(name, str) and '/' not in name for name in weight_map.values()):
        raise CheckpointError(f'{INDEX} names no files of weights: get the file again')
    return sorted(set(weight_map.values()))


def check_files(folder: Path, *, with_weights: bool = True) -> None:
    """Raise a CheckpointError if files are missing, unreadable, or would be left out."""
    _check_adapter(folder)
    check_config(folder)
    if with_weights:
        _check_weight_files(folder)
    missing = find_missing_file(folder, with_weights=with_weights)
    if missing:
        kind = 'tokenizer' if missing == 'tokenizer.json' else 'image processor'
        also = ', or vocab.json and merges.txt' if missing == 'tokenizer.json' else ''
        raise CheckpointError(
            f'it has no {kind}: add {missing}{also} from the checkpoint that it was made of')
    for name in _READ_BY_THE_LIBRARY:
        if (folder / name).is_file():
            read_json(folder / name)  # the library skips some if they are damaged
    if (folder / 'generation_config.json').is_file():
        _check_generation(read_json(folder / 'generation_config.json'))


def check_config(folder: Path) -> None:
    """Raise a CheckpointError if there is no configuration of a known model."""
    if not (folder / 'config.json').is_file():
        raise CheckpointError(
            'it has no config.json: give a folder with config.json, tokenizer, '
            'preprocessor_config.json and weights as *.safetensors')
    _check_config(read_json(folder / 'config.json'))


def _check_adapter(folder: Path) -> None:
    if not (folder / _ADAPTER).is_file() and not list(folder.glob('adapter_model.*')):
        return
    base = 'its base model'
    if (folder / _ADAPTER).is_file():
        base = read_json(folder / _ADAPTER).get('base_model_name_or_path') or base
    holds = 'an adapter' if weight_files(folder) else 'only an adapter'
    raise CheckpointError(
        f'it holds {holds} (LoRA) of {base}: merge it first (merge_and_unload of peft, then '
        'save_pretrained) and give the folder of the result')


def _check_config(config: dict[str, Any]) -> None:
    with of_the_checkpoint():
        family = find_family(config.get('model_type'))
    if 'auto_map' in config:
        raise CheckpointError(
            'config.json names code of its own (auto_map), which is never run: give a checkpoint '
            f'of plain {family.name}')
    for name in ('text_config', 'vision_config', 'quantization_config'):
        if not isinstance(config.get(name, {}), dict):
            raise CheckpointError(
                f'config.json sets {name} to {config[name]!r}: give the config.json that belongs '
                'to the weights')
    architectures = config.get('architectures')
    wanted = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[family.model_type]
    if architectures and architectures != [wanted]:
        raise CheckpointError(
            f'config.json is of the architecture {architectures}: give a checkpoint of {wanted}')


def _check_weight_files(folder: Path) -> None:
    names = weight_files(folder)
    found = {path.name for path in folder.glob('*.safetensors')}
    if not names:
        others = sorted(
            path.name for kind in ('bin', 'pth', 'pt', 'gguf', 'safetensors', 'npz')
            for path in folder.glob(f'*.{kind}'))
        holds = f'its weights are {others[0]}' if others else 'it has no weights'
        raise CheckpointError(
            f'{holds}: give weights as {WHOLE}, or in parts as *.safetensors with {INDEX} '
            '(save_pretrained of transformers writes them)')
    missing = [name for name in names if name not in found]
    if missing:
        raise CheckpointError(
            f'{len(missing)} of {len(names)} files of weights are missing, such as {missing[0]}: '
            'download the checkpoint again')
    left_out = sorted(found.difference(names))
    if left_out:
        raise CheckpointError(
            f'{left_out[0]} would be left out, since {names[0]} holds the weights: remove it, '
            'or merge it into them')
    for name in names:
        if is_lfs_pointer(folder / name):
            raise CheckpointError(f'{name} is a Git LFS pointer: run git lfs pull in its folder')


def _check_generation(config: dict[str, Any]) -> None:
    ends = config.get('eos_token_id')
    ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
    penalty = config.get('repetition_penalty')
    rules: list[tuple[str, Any, Callable[[], bool]]] = [
        ('eos_token_id', ends, lambda: all(type(end) is int and end >= 0 for end in ends)),
        ('repetition_penalty', penalty, lambda: penalty is None or (
            type(penalty) in (int, float) and 0.0 < penalty < 100.0))]
    for name, value, holds in rules:
        if not holds():
            raise CheckpointError(f'generation_config.json sets {name} to {value}: correct it')
