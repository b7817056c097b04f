"""
Checkpoints whose weights are packed as published models have them, of small random models.

Numbers, scales and zero points are drawn, and each word is put together bit by bit after the
description of its format; what they stand for is computed in float32 and given to the library's
model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any

import numpy as np
from qwen_checkpoints import make_model, save_original_checkpoint, write_json
from safetensors.torch import load_file, save_file
import torch
from torch import nn, Tensor

GROUP = 16  # published ones have 128, which no small layer has
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # the output of each four bits of a word, lowest first
FP8_BLOCK = 32


@dataclass(frozen=True)
class Packed:
    """The tensors of a packed layer, and the weights (outputs, inputs) that they stand for."""

    tensors: dict[str, Tensor]
    weights: Tensor


@dataclass(frozen=True)
class Format:
    """How a checkpoint is packed: the published keys of its configuration, and a packer."""

    quantization: dict[str, Any]
    pack: Callable[[tuple[int, int], np.random.Generator], Packed]
    packs_encoder: bool = False


def put_into_words(numbers: np.ndarray, bits: int, order: Any = None) -> Tensor:
    """Put unsigned numbers (rows, columns) of a row into int32 words, the first one lowest."""
    each = 32 // bits
    rows, columns = numbers.shape
    words = np.zeros((rows, -(-columns // each)), np.uint64)
    for row in range(rows):
        for word in range(words.shape[1]):
            for place in range(each):
                column = word * each + (order[place] if order else place)
                if column < columns:
                    words[row, word] |= np.uint64(int(numbers[row, column]) << (bits * place))
    return torch.from_numpy(words.astype(np.uint32).view(np.int32))


def draw(
    shape: tuple[int, int], bits: int, random: np.random.Generator, group: int = GROUP,
    symmetric: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return numbers (outputs, inputs), zeros and float16 scales (outputs, groups)."""
    rows, columns = shape
    groups = -(-columns // group)
    most = 2 ** bits
    middle = most // 2
    numbers = random.integers(0, most, (rows, columns))
    # zero points away from the ends: packed minus one, one of 0 has no place
    zeros = np.full((rows, groups), middle) if symmetric else random.integers(
        max(1, middle - 3), middle + 4, (rows, groups))
    size = 4.5 / most / columns ** 0.5  # so that weights are as large as those of make_model
    scales = (size * random.uniform(0.7, 1.3, (rows, groups))).astype(np.float16)
    return numbers, zeros, scales


def weights_of(
    numbers: np.ndarray, zeros: np.ndarray, scales: np.ndarray, groups: np.ndarray,
) -> Tensor:
    """Return (number - zero) * scale, where ``groups`` says of which group each column is."""
    exact = (numbers - zeros[:, groups]).astype(np.float32) * scales[:, groups].astype(np.float32)
    return torch.from_numpy(exact)


def pack_awq(shape: tuple[int, int], random: np.random.Generator) -> Packed:
    numbers, zeros, scales = draw(shape, 4, random)
    return Packed({
        'qweight': put_into_words(numbers.T, 4, AWQ_ORDER),
        'qzeros': put_into_words(zeros.T, 4, AWQ_ORDER),
        'scales': torch.from_numpy(scales.T.copy()),
    }, weights_of(numbers, zeros, scales, np.arange(shape[1]) // GROUP))


def gptq_packer(
    bits: int = 4, symmetric: bool = True, by_activation: bool = False, offset: int = 1,
) -> Callable[[tuple[int, int], np.random.Generator], Packed]:

    def pack(shape: tuple[int, int], random: np.random.Generator) -> Packed:
        numbers, zeros, scales = draw(shape, bits, random, symmetric=symmetric)
        groups = np.arange(shape[1]) // GROUP
        if by_activation:
            groups = random.permutation(groups)
        return Packed({
            'qweight': put_into_words(numbers, bits).T.contiguous(),
            'qzeros': put_into_words(zeros.T - offset, bits),
            'scales': torch.from_numpy(scales.T.copy()),
            'g_idx': torch.from_numpy(groups.astype(np.int32)),
        }, weights_of(numbers, zeros, scales, groups))

    return pack


def words_packer(
    bits: int = 4, symmetric: bool = True, by_channel: bool = False, by_activation: bool = False,
) -> Callable[[tuple[int, int], np.random.Generator], Packed]:
    """Return a packer of compressed-tensors, format pack-quantized."""

    def pack(shape: tuple[int, int], random: np.random.Generator) -> Packed:
        rows, columns = shape
        group = columns if by_channel else GROUP
        numbers, zeros, scales = draw(shape, bits, random, group, symmetric)
        groups = np.arange(columns) // group
        if by_activation:
            groups = random.permutation(groups)
        tensors = {
            'weight_packed': put_into_words(numbers, bits),
            'weight_scale': torch.from_numpy(scales).bfloat16(),
            'weight_shape': torch.tensor(shape)}
        if not symmetric:
            tensors['weight_zero_point'] = put_into_words(zeros.T, bits).T.contiguous()
        if by_activation:
            tensors['weight_g_idx'] = torch.from_numpy(groups.astype(np.int32))
        rounded = tensors['weight_scale'].float().numpy()
        return Packed(tensors, weights_of(numbers, zeros, rounded, groups))

    return pack


def pack_fp8_blocks(shape: tuple[int, int], random: np.random.Generator) -> Packed:
    rows, columns = shape
    # clipped: of numbers beyond 464 some versions of torch make the largest one, others NaN
    numbers = torch.from_numpy(
        random.normal(0.0, 100.0, shape).clip(-448, 448).astype(np.float32)).to(
        torch.float8_e4m3fn)
    blocks = [-(-size // FP8_BLOCK) for size in shape]
    scales = random.uniform(0.7, 1.3, blocks).astype(np.float32) * 0.015 / columns ** 0.5
    weights = numbers.float()
    for row in range(rows):
        for block in range(blocks[1]):
            part = slice(block * FP8_BLOCK, (block + 1) * FP8_BLOCK)
            weights[row, part] *= float(scales[row // FP8_BLOCK, block])
    return Packed({'weight': numbers, 'weight_scale_inv': torch.from_numpy(scales)}, weights)


def channel_packer(
    kind: torch.dtype, per_tensor: bool = False,
) -> Callable[[tuple[int, int], np.random.Generator], Packed]:
    """Return a packer of compressed-tensors, formats float-quantized and int-quantized."""

    def pack(shape: tuple[int, int], random: np.random.Generator) -> Packed:
        numbers = torch.from_numpy(
            random.normal(0.0, 40.0, shape).clip(-127, 127).astype(np.float32)).to(kind)
        scales = torch.from_numpy(
            random.uniform(0.7, 1.3, (1 if per_tensor else shape[0], 1)) * 0.035
            / shape[1] ** 0.5).bfloat16()
        return Packed({
            'weight': numbers, 'weight_scale': scales[0] if per_tensor else scales,
        }, numbers.float() * scales.float())

    return pack


def _gptq(**settings: Any) -> dict[str, Any]:
    return {
        'bits': 4, 'checkpoint_format': 'gptq', 'desc_act': False, 'group_size': GROUP,
        'lm_head': False, 'pack_dtype': 'int32', 'quant_method': 'gptq', 'sym': True, **settings}


def _compressed(kind: str, **weights: Any) -> dict[str, Any]:
    args = {
        'actorder': None, 'block_structure': None, 'dynamic': False, 'group_size': None,
        'num_bits': 8, 'observer': 'minmax', 'observer_kwargs': {}, 'strategy': 'channel',
        'symmetric': True, 'type': 'int', **weights}
    return {
        'config_groups': {'group_0': {
            'input_activations': None, 'output_activations': None, 'targets': ['Linear'],
            'weights': args}},
        'format': kind, 'global_compression_ratio': None,
        'ignore': ['re:visual.*', 'lm_head'], 'kv_cache_scheme': None,
        'quant_method': 'compressed-tensors', 'quantization_status': 'compressed'}


_GROUPS = {'num_bits': 4, 'strategy': 'group', 'group_size': GROUP}
FORMATS: dict[str, Format] = {
    'awq': Format({
        'bits': 4, 'group_size': GROUP, 'modules_to_not_convert': ['visual'],
        'quant_method': 'awq', 'version': 'gemm', 'zero_point': True}, pack_awq),
    'awq, present names': Format({
        'bits': 4, 'group_size': GROUP, 'modules_to_not_convert': ['model.visual', 'lm_head'],
        'quant_method': 'awq', 'version': 'GEMM', 'zero_point': True}, pack_awq),
    'gptq': Format(_gptq(), gptq_packer()),
    'gptq, asymmetric': Format(_gptq(sym=False), gptq_packer(symmetric=False)),
    'gptq, 8 bits': Format(_gptq(bits=8, sym=False), gptq_packer(8, symmetric=False)),
    'gptq, by activation': Format(
        _gptq(desc_act=True), gptq_packer(symmetric=False, by_activation=True)),
    'gptq_v2': Format(
        _gptq(checkpoint_format='gptq_v2', sym=False), gptq_packer(symmetric=False, offset=0)),
    'pack-quantized, W4A16': Format(
        _compressed('pack-quantized', **_GROUPS), words_packer()),
    'pack-quantized, asymmetric': Format(
        _compressed('pack-quantized', **_GROUPS, symmetric=False), words_packer(symmetric=False)),
    'pack-quantized, by activation': Format(
        _compressed('pack-quantized', **_GROUPS | {'actorder': 'group'}),
        words_packer(by_activation=True)),
    'pack-quantized, W8A16': Format(
        _compressed('pack-quantized'), words_packer(8, by_channel=True)),
    'fp8 in blocks': Format({
        'activation_scheme': 'dynamic', 'fmt': 'e4m3', 'modules_to_not_convert': ['lm_head'],
        'quant_method': 'fp8', 'weight_block_size': [FP8_BLOCK, FP8_BLOCK]},
        pack_fp8_blocks, packs_encoder=True),
    'float-quantized': Format(
        _compressed('float-quantized', type='float'), channel_packer(torch.float8_e4m3fn)),
    'float-quantized, one scale': Format(
        _compressed('float-quantized', type='float', strategy='tensor'),
        channel_packer(torch.float8_e4m3fn, per_tensor=True)),
    'int-quantized': Format(
        _compressed('int-quantized'), channel_packer(torch.int8), packs_encoder=True),
}


def save_packed_checkpoint(folder: Path, shape: str, name: str, seed: int = 0) -> Any:
    """Write a checkpoint of one of ``FORMATS``, and return the library's model unpacked."""
    packing = FORMATS[name]
    model = make_model(shape, seed=seed)
    random = np.random.default_rng(seed)
    tensors: dict[str, dict[str, Tensor]] = {}
    for module_name, module in model.named_modules():
        in_encoder = module_name.startswith('model.visual.')
        if not isinstance(module, nn.Linear) or module_name == 'lm_head' or (
                in_encoder and not packing.packs_encoder):
            continue
        packed = packing.pack((module.out_features, module.in_features), random)
        module.weight.data = packed.weights.contiguous()
        tensors[module_name] = packed.tensors
    save_original_checkpoint(folder, model)
    path = folder / 'model.safetensors'
    stored = load_file(path)
    for module_name, parts in tensors.items():
        if model.config.model_type != 'qwen3_vl':
            module_name = module_name.replace('model.visual.', 'visual.')
            module_name = module_name.replace('model.language_model.', 'model.')
        del stored[f'{module_name}.weight']
        stored.update({f'{module_name}.{part}': tensor for part, tensor in parts.items()})
    save_file(stored, path, metadata={'format': 'pt'})
    config = json.loads((folder / 'config.json').read_text(encoding='utf-8'))
    write_json(folder / 'config.json', {**config, 'quantization_config': packing.quantization})
    return model
