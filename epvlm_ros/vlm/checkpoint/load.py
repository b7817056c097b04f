"""A Qwen checkpoint with all its parts, loaded with errors that name the remedy."""

from __future__ import annotations

from dataclasses import dataclass, replace
import logging
from pathlib import Path
import sys
from typing import Any

from epvlm_ros.vlm.checkpoint.chat_template import read_chat_template
from epvlm_ros.vlm.checkpoint.errors import CheckpointError, named, of_the_checkpoint
from epvlm_ros.vlm.checkpoint.files import check_config, check_files
from epvlm_ros.vlm.checkpoint.hub import find_folder
from epvlm_ros.vlm.checkpoint.image_processor import load_image_processor
from epvlm_ros.vlm.checkpoint.weights import load_weights
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.cuda_graphs import with_cuda_graphs
from epvlm_ros.vlm.memory_plan import (
    device_memory, GIGABYTE, MemoryPlan, plan_memory, WEIGHTS)
from epvlm_ros.vlm.patch_grid import PatchGeometry
from epvlm_ros.vlm.sparse_qwen import ModelInfo, SparseBackend, SparseQwenVl
import torch
from transformers import AutoConfig, AutoTokenizer, GenerationConfig
from transformers.utils.logging import disable_progress_bar

DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
_LOCALLY: dict[str, Any] = {'local_files_only': True, 'trust_remote_code': False}
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Processor:
    """
    What stands between a model and people: texts to tokens, images to patches; no weights.

    ``tokenizer`` is a ``transformers.PreTrainedTokenizerBase``, ``image_processor`` a
    ``transformers.Qwen2VLImageProcessorPil``, ``geometry`` what it does to the size of an image.
    """

    info: ModelInfo
    tokenizer: Any
    chat_template: str
    image_processor: Any
    geometry: PatchGeometry

    @property
    def end_token_ids(self) -> frozenset[int]:
        """Return the tokens that end an answer, maybe none."""
        return self.info.end_token_ids or frozenset(
            {self.tokenizer.eos_token_id}.difference([None]))


@dataclass(frozen=True)
class Checkpoint(Processor):
    """A loaded checkpoint: what stands before the model, and the model."""

    model: SparseBackend


def load_checkpoint(config: VlmConfig) -> Checkpoint:
    """
    Load model, tokenizer and image processor.

    Never runs code that comes with a checkpoint, reads weights from safetensors only, and
    touches the network only if ``config.allow_download`` is true and there is no complete copy on
    this machine. Nothing in the folder is left out in silence: what is not understood is refused.

    Raises
    ------
    ValueError
        If there is no such model or device, its family is not supported, or a part is missing,
        damaged or foreign.

    """
    if not sys.stderr.isatty():
        # A bar that is drawn over and over makes a log unreadable.
        disable_progress_bar()
    device = _find_device(config.device)
    dtype = _find_dtype(config, device)
    folder = find_folder(config)
    remedy = 'give a checkpoint as save_pretrained of transformers writes it'
    if config.attention == 'flash_attention_2':
        remedy = 'install what it names, or give attention sdpa'
    with named(str(config.model or folder), remedy):
        check_files(folder)
        model_config = AutoConfig.from_pretrained(folder, **_LOCALLY)
        _check_rope(model_config.text_config)
        _check_memory(model_config, config, device, dtype)
        processor = _read_processor(folder, model_config, config)
        library_model = load_weights(
            folder, model_config, device=device, dtype=dtype, attention=config.attention,
            weights=config.weights)
        with of_the_checkpoint():
            eager = SparseQwenVl(library_model)
        _warn_about_ends(folder, processor.end_token_ids, model_config.text_config.vocab_size)
        model: SparseBackend = eager
        if config.acceleration == 'auto' and device != 'cpu':
            model = with_cuda_graphs(eager, (config.keep_ratio,), config.cache_tokens)
    return Checkpoint(**{**vars(processor), 'info': model.info}, model=model)


def load_processor(config: VlmConfig) -> Processor:
    """
    Load all of a checkpoint but its weights, which need not be there.

    Nothing of ``config`` counts that is about weights and device; else as ``load_checkpoint``.
    """
    folder = find_folder(config, with_weights=False)
    remedy = 'give the files beside the weights as save_pretrained of transformers writes them'
    with named(str(config.model or folder), remedy):
        check_files(folder, with_weights=False)
        model_config = AutoConfig.from_pretrained(folder, **_LOCALLY)
        return _read_processor(folder, model_config, config)


def _read_processor(folder: Path, model_config: Any, config: VlmConfig) -> Processor:
    tokenizer = AutoTokenizer.from_pretrained(folder, **_LOCALLY)
    _check_tokenizer(tokenizer, model_config)
    image_processor, geometry = load_image_processor(
        folder, model_config.vision_config, config.max_pixels)
    if (folder / 'generation_config.json').is_file():
        generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
    else:
        generation = GenerationConfig.from_model_config(model_config)
    return Processor(
        ModelInfo.from_configs(model_config, generation), tokenizer,
        read_chat_template(folder, tokenizer), image_processor, geometry)


def read_model_config(config: VlmConfig) -> tuple[Any, PatchGeometry]:
    """
    Return the configuration of a model, and what happens to the sizes of images; no weights.

    Raises a ValueError as ``load_checkpoint``, but not for what is missing beside.
    """
    folder = find_folder(config)
    with named(str(config.model or folder), 'give a folder with config.json'):
        check_config(folder)
        model_config = AutoConfig.from_pretrained(folder, **_LOCALLY)
        _, geometry = load_image_processor(
            folder, model_config.vision_config, config.max_pixels)
    return model_config, geometry


def _check_memory(
    model_config: Any, config: VlmConfig, device: str, dtype: torch.dtype,
) -> None:
    """Refuse a model that the device could not hold, whatever else it held."""
    memory = device_memory(device)

    def plan(weights: str) -> MemoryPlan:
        return plan_memory(
            model_config, replace(config, weights=weights), 0, on_gpu=device != 'cpu',
            dtype=dtype)

    needed = plan(config.weights)
    if needed.total <= memory:
        return
    smaller = [f'{name}, {plan(name)}' for name in WEIGHTS if plan(name).total <= memory]
    remedy = f'weights {smaller[0]}' if smaller else 'a smaller model, or weights int4'
    raise CheckpointError(
        f'it needs {needed} without any image, and {device} has {memory / GIGABYTE:.1f} GB: '
        f'give {remedy}; epvlm plan tells more')


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


def _check_rope(text_config: Any) -> None:
    """Without sections all axes of M-RoPE would be rotated by the position in time."""
    sections = (text_config.rope_parameters or {}).get('mrope_section')
    head_dim = getattr(text_config, 'head_dim', None) or (
        text_config.hidden_size // text_config.num_attention_heads)
    if not isinstance(sections, list) or len(sections) != 3 or 2 * sum(sections) != head_dim:
        raise CheckpointError(
            f'config.json sets mrope_section to {sections}, which does not fit heads of '
            f'{head_dim}: give the config.json that belongs to the weights')


def _check_tokenizer(tokenizer: Any, config: Any) -> None:
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if not 0 <= largest < config.text_config.vocab_size:
        raise CheckpointError(
            f'its tokenizer has ids up to {largest}, the model embeds '
            f'{config.text_config.vocab_size}: give the tokenizer that belongs to the model')
    for name in ('image_token_id', 'video_token_id'):
        if getattr(config, name) not in tokenizer.added_tokens_decoder:
            raise CheckpointError(
                f'{name} of config.json is {getattr(config, name)}, which is no special token of '
                'its tokenizer: give the tokenizer that belongs to the model')


def _warn_about_ends(folder: Path, end_token_ids: frozenset[int], vocab_size: int) -> None:
    """Tell what runs, but not as the makers meant it."""
    if not any(token_id < vocab_size for token_id in end_token_ids):
        _logger.warning(
            'answers of %s end at max_new_tokens only: its end tokens are %s, its vocabulary has '
            '%d; set eos_token_id in generation_config.json', folder, sorted(end_token_ids),
            vocab_size)
    if not (folder / 'generation_config.json').is_file():
        _logger.warning(
            '%s has no generation_config.json: answers end with %s of config.json and without '
            'the repetition penalty that the checkpoint may have been published with; add the '
            'file, or set repetition_penalty', folder, sorted(end_token_ids))
