"""The weights of a checkpoint: all of them, each in its place and finite, or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from epvlm_ros.vlm.checkpoint.errors import CheckpointError, of_the_checkpoint
from epvlm_ros.vlm.checkpoint.files import INDEX, read_json, weight_files
from epvlm_ros.vlm.checkpoint.streamed import load_streamed
from epvlm_ros.vlm.packed_weights.formats import find_reader
from epvlm_ros.vlm.packed_weights.rounding import find_rounding
from safetensors import safe_open, SafetensorError
import torch
from torch import nn
from transformers import AutoModelForImageTextToText, PreTrainedModel
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING
from transformers.utils import logging

PLAIN_TYPES = ('F64', 'F32', 'F16', 'BF16')
# What older libraries saved although it is computed from the configuration.
_COMPUTED = ('.inv_freq', '.position_ids')
# How the quantization methods of the library call the modules that are left as they are.
_SKIP_LISTS = ('modules_to_not_convert', 'ignore', 'llm_int8_skip_modules')
# Modules that transformers moved since the published checkpoints were packed.
_MOVED = {'visual': 'model.visual', 'model.layers': 'model.language_model.layers'}
_MAX_NAMED = 3


def load_weights(
    folder: Path, config: Any, *, device: str, dtype: torch.dtype, attention: str,
    weights: str = 'as_stored',
) -> PreTrainedModel:
    """
    Load the library's model and refuse it if anything in the folder would be left out.

    Parameters
    ----------
    folder : Path
        Of a checkpoint that ``check_files`` let pass.
    config : transformers.PreTrainedConfig
        Of the folder; names of modules that are not quantized are completed in it.
    device, dtype, attention, weights
        Of the model; the latter as the parameter of that name.

    Raises
    ------
    CheckpointError
        If weights are missing, left over, of another shape, of a type that needs a quantization
        that is not known, NaN or infinite.

    """
    quantization = _quantization(config)
    with of_the_checkpoint():
        reader = find_reader(quantization) if quantization else None
    rounding = find_rounding(weights)
    if reader is None:
        check_quantization(config)
        if quantization and rounding:
            raise CheckpointError(
                f'its weights are quantized by {quantization.get("quant_method")!r} already: '
                'give weights as_stored')
    _check_headers(folder, is_quantized=quantization is not None)
    with _without_reports():
        if reader is None and rounding is None:
            loaded: Any = AutoModelForImageTextToText.from_pretrained(
                folder, config=config, dtype=dtype, attn_implementation=attention,
                local_files_only=True, trust_remote_code=False, use_safetensors=True,
                ignore_mismatched_sizes=True, output_loading_info=True)
        else:
            loaded = load_streamed(
                folder, config, device=device, dtype=dtype, attention=attention, reader=reader,
                rounding=rounding)
    model, report = loaded
    _check_report(report)
    model = model.to(device).eval()
    check_finite(model, dtype)
    return model


def check_quantization(config: Any) -> None:
    """Raise a CheckpointError if nobody knows how to unpack the weights; complete skip lists."""
    quantization = _quantization(config)
    if quantization is None:
        return
    method = quantization.get('quant_method')
    if quantization.get('load_in_4bit') or quantization.get('load_in_8bit'):
        method = 'bitsandbytes_4bit' if quantization.get('load_in_4bit') else 'bitsandbytes_8bit'
    if method not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        raise CheckpointError(
            f'its weights are quantized by {method!r}, which transformers does not know: give '
            'a checkpoint in bfloat16 or of a method that transformers has, or set server to '
            'one that runs it (docs/fleet.md)')
    for name in _SKIP_LISTS:
        if isinstance(quantization.get(name), list):
            quantization[name] = _complete_names(quantization[name])


def _quantization(config: Any) -> dict[str, Any] | None:
    return getattr(config, 'quantization_config', None)


def _complete_names(names: list[str]) -> list[str]:
    """Add the present names of modules whose names at the time of packing are in the list."""
    moved = []
    for name in names:
        prefix, plain = ('re:', name[3:]) if name.startswith('re:') else ('', name)
        moved += [prefix + new + plain[len(old):] for old, new in _MOVED.items()
                  if plain == old or plain.startswith((f'{old}.', f'{old}\\.'))]
    return [*names, *(name for name in moved if name not in names)]


def _check_headers(folder: Path, is_quantized: bool) -> None:
    """Read the names and types of all tensors, which takes no time, before the tensors."""
    found: set[str] = set()
    for name in weight_files(folder):
        try:
            with safe_open(folder / name, 'pt') as tensors:
                for key in tensors.keys():
                    found.add(key)
                    dtype = tensors.get_slice(key).get_dtype()
                    if dtype not in PLAIN_TYPES and not is_quantized:
                        raise CheckpointError(
                            f'its weights are packed ({key} is {dtype}), but config.json has no '
                            'quantization_config: give the whole config.json, or a checkpoint '
                            'in bfloat16')
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f'{name} is damaged ({error}): get the file again') from error
    if (folder / INDEX).is_file():
        lost = sorted(set(read_json(folder / INDEX)['weight_map']).difference(found))
        if lost:
            raise CheckpointError(
                f'{_list(lost)} of {INDEX} are in none of its files: get the checkpoint again')


def _check_report(report: dict[str, Any]) -> None:
    """Refuse what the library would fill with random numbers or leave out."""
    unexpected = sorted(
        key for key in report['unexpected_keys'] if not key.endswith(_COMPUTED))
    missing = sorted(report['missing_keys'])
    if missing:
        also = f'; without a place are {_list(unexpected)}' if unexpected else ''
        raise CheckpointError(
            f'weights are missing ({len(missing)}), such as {missing[0]}{also}: give a complete '
            'checkpoint, and the config.json that belongs to it')
    if report['mismatched_keys']:
        key, found, wanted = sorted(report['mismatched_keys'])[0]
        raise CheckpointError(
            f'{key} has shape {tuple(found)}, config.json makes it {tuple(wanted)}: give the '
            'config.json that belongs to the weights')
    if unexpected:
        raise CheckpointError(
            f'weights have no place in the model: {_list(unexpected)}: give the config.json '
            'that belongs to them, or a checkpoint of this model alone')
    if report.get('error_msgs'):
        raise CheckpointError(f'weights cannot be read: {report["error_msgs"][0]}')


def check_finite(model: nn.Module, dtype: torch.dtype) -> None:
    """Raise a CheckpointError that names the first weight which holds NaN or infinity."""
    for name, weight in (*model.named_parameters(), *model.named_buffers()):
        if weight.dtype == torch.float8_e4m3fn:
            if bool(((weight.view(torch.uint8) & 0x7F) == 0x7F).any()):  # it has no infinity
                raise CheckpointError(
                    f'{name} holds NaN: the checkpoint is damaged: get it again')
        if weight.dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
            continue  # packed
        # one pass without a copy; both are NaN if any number is
        if weight.numel() and not torch.stack(torch.aminmax(weight.detach())).isfinite().all():
            remedy = 'give dtype bfloat16' if dtype == torch.float16 else 'get it again'
            raise CheckpointError(
                f'{name} holds NaN or infinite numbers: the checkpoint is damaged, or a number '
                f'does not fit into {str(weight.dtype).removeprefix("torch.")}: {remedy}')


def _list(names: list[str]) -> str:
    more = f' and {len(names) - _MAX_NAMED} more' if len(names) > _MAX_NAMED else ''
    return ', '.join(names[:_MAX_NAMED]) + more


@contextmanager
def _without_reports() -> Iterator[None]:
    """Keep the library from printing tables of what ``_check_report`` says in one line."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
