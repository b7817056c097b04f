"""A Qwen checkpoint, loaded from a folder or the hub with errors that name the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
import json
from pathlib import Path
import sys
from typing import Any

import epvlm_ros
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.cuda_graphs import with_cuda_graphs
from epvlm_ros.vlm.patch_grid import PatchGeometry
from epvlm_ros.vlm.sparse_qwen import find_family, SparseBackend, SparseQwenVl
from safetensors import SafetensorError
import torch
from transformers import AutoConfig, AutoTokenizer, Qwen2VLImageProcessorPil
from transformers.utils import cached_file, logging

EMBEDDED_MODEL = Path(epvlm_ros.__file__).parent / 'models' / 'tiny'
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


@dataclass(frozen=True)
class Checkpoint:
    """
    The parts of a loaded checkpoint.

    ``tokenizer`` is a ``transformers.PreTrainedTokenizerBase``, ``image_processor`` a
    ``transformers.Qwen2VLImageProcessorPil``, ``geometry`` what it does to the size of an image.
    """

    model: SparseBackend
    tokenizer: Any
    chat_template: str
    image_processor: Any
    geometry: PatchGeometry


def load_checkpoint(config: VlmConfig) -> Checkpoint:
    """
    Load model, tokenizer and image processor.

    Never runs code that comes with a checkpoint, reads weights from safetensors only, and
    touches the network only if ``config.allow_download`` is true.

    Raises
    ------
    ValueError
        If there is no such model or device, its family is not supported, or a part is missing.

    """
    source = _find_source(config.model)
    device = _find_device(config.device)
    dtype = _find_dtype(config, device)
    options: dict[str, Any] = {
        'local_files_only': not config.allow_download, 'trust_remote_code': False}
    if not sys.stderr.isatty():
        # A bar that is drawn over and over makes a log unreadable.
        logging.disable_progress_bar()
    with _remedies(source, config):
        model_config = AutoConfig.from_pretrained(source, **options)
        find_family(model_config.model_type)  # before gigabytes of weights are read
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        chat_template = tokenizer.chat_template or _read_processor_template(source, options)
        # the one of all families, without torchvision: pixels are the same on every machine
        image_processor = Qwen2VLImageProcessorPil.from_pretrained(source, **options)
        eager = SparseQwenVl.from_pretrained(
            source, device=device, dtype=dtype, attn_implementation=config.attention,
            use_safetensors=True, **options)
        model: SparseBackend = eager
        if config.acceleration == 'auto' and device != 'cpu':
            model = with_cuda_graphs(eager, (config.keep_ratio,), config.cache_tokens)
        geometry = _read_geometry(image_processor, model)
    if config.max_pixels:
        geometry = _bound_pixels(geometry, config.max_pixels)
        image_processor.size = {
            'shortest_edge': geometry.min_pixels, 'longest_edge': geometry.max_pixels}
    return Checkpoint(model, tokenizer, chat_template, image_processor, geometry)


def find_folder(config: VlmConfig) -> Path:
    """
    Return the folder that a checkpoint is loaded from; a ValueError if there is none.

    For a hub name it is the snapshot in the local cache, whose name is the commit.
    """
    source = _find_source(config.model)
    if Path(source).is_dir():
        return Path(source)
    with _remedies(source, config):
        path = cached_file(source, 'config.json', local_files_only=not config.allow_download)
        assert path is not None  # a missing file is raised
        return Path(path).parent


def _find_source(model: str) -> str:
    """Return the folder or hub name; a missing folder is not looked for on the hub."""
    folder = Path(model).expanduser() if model else EMBEDDED_MODEL
    if folder.is_dir():
        return str(folder)
    if not model:
        raise ValueError(
            f'the embedded model {folder} is missing: install epvlm_ros again, or give a model')
    is_hub_name = model.count('/') <= 1 and model[0] not in './~' and model[-1] != '/'
    if not is_hub_name or folder.exists():
        raise ValueError(
            f'there is no model folder {folder}: give a folder with config.json, or a hub name')
    return model


def _find_device(name: str) -> str:
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == 'auto':
        return 'cuda' if num_gpus else 'cpu'
    kind, _, index = name.partition(':')
    if kind not in ('cpu', 'cuda') or (':' in name and not (kind == 'cuda' and index.isdigit())):
        raise ValueError(f'device is {name!r}: give auto, cpu, cuda or cuda:N')
    if kind == 'cuda' and int(index or 0) >= num_gpus:
        raise ValueError(
            f'device is {name!r} but torch sees {num_gpus} GPUs here: give auto, cpu or one of '
            'these, or install a torch built for CUDA')
    return name


def _find_dtype(config: VlmConfig, device: str) -> torch.dtype:
    if config.dtype == 'auto':
        return torch.float32 if device == 'cpu' else torch.bfloat16
    if config.dtype == 'float32' and config.attention == 'flash_attention_2':
        raise ValueError(
            'flash_attention_2 does not compute in float32: give dtype bfloat16, or attention '
            'sdpa')
    return DTYPES[config.dtype]


@contextmanager
def _remedies(source: str, config: VlmConfig) -> Iterator[None]:
    """Turn what the libraries raise into a ValueError that says what to do."""
    try:
        yield
    except (ImportError, KeyError, OSError, RuntimeError, SafetensorError, ValueError) as error:
        reason = ' '.join(str(error).split())
        if isinstance(error, ImportError):
            remedy = 'install what it names, or give attention sdpa'
        elif Path(source).is_dir():
            remedy = (
                'give a folder with config.json, tokenizer, preprocessor_config.json and '
                'weights as *.safetensors')
        elif config.allow_download:
            remedy = 'check the hub name and the network, or give a folder'
        else:
            remedy = (
                'give a folder, download it beforehand, or allow it with allow_download: true')
        raise ValueError(f'cannot load the model {source}: {remedy}. Reason: {reason}') from error


def _read_processor_template(source: str, options: dict[str, Any]) -> str:
    """Read the template from where older checkpoints have it: beside the processor."""
    path = cached_file(
        source, 'chat_template.json', local_files_only=options['local_files_only'])
    assert path is not None  # a missing file is raised
    return json.loads(Path(path).read_text(encoding='utf-8'))['chat_template']


def _bound_pixels(geometry: PatchGeometry, max_pixels: int) -> PatchGeometry:
    token_pixels = geometry.token_size_px ** 2
    if max_pixels < token_pixels:
        raise ValueError(
            f'max_pixels is {max_pixels}: give 0, or at least {token_pixels}, one visual token of '
            'this model')
    return replace(
        geometry, min_pixels=min(geometry.min_pixels, max_pixels), max_pixels=max_pixels)


def _read_geometry(image_processor: Any, model: SparseBackend) -> PatchGeometry:
    vision = model.info.config.vision_config
    cuts = (image_processor.patch_size, image_processor.merge_size,
            image_processor.temporal_patch_size)
    wanted = (vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size)
    if cuts != wanted:
        raise ValueError(
            f'preprocessor_config.json cuts (patch_size, merge_size, temporal_patch_size) '
            f'{cuts}, the model needs {wanted}: make them the same')
    size = image_processor.size
    return PatchGeometry(
        patch_size_px=image_processor.patch_size, merge_size=image_processor.merge_size,
        min_pixels=size['shortest_edge'], max_pixels=size['longest_edge'])
