"""A model with packed weights, filled tensor by tensor: the peak is the model and one tensor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
import copy
from functools import partial
from pathlib import Path
from typing import Any

from epvlm_ros.vlm.checkpoint.errors import CheckpointError
from epvlm_ros.vlm.checkpoint.files import weight_files
from epvlm_ros.vlm.packed_weights import PackedEmbedding, PackedLinear
from epvlm_ros.vlm.packed_weights.formats import is_packed, Reader
from epvlm_ros.vlm.packed_weights.rounding import Rounding
from safetensors import safe_open
import torch
from torch import nn, Tensor
from transformers import AutoModelForImageTextToText, GenerationConfig, PreTrainedModel

# Scales of what is not quantized here: inputs, and keys and values.
_UNUSED = frozenset({
    'input_scale', 'input_zero_point', 'input_global_scale', 'activation_scale', 'output_scale',
    'k_scale', 'v_scale', 'q_scale', 'weight_shape'})


def load_streamed(
    folder: Path, config: Any, *, device: str, dtype: torch.dtype, attention: str,
    reader: Reader | None = None, rounding: Rounding | None = None,
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """
    Build the library's model on no device, and fill it from the files of a checkpoint.

    Modules whose tensors in the files are packed are read by ``reader``, whatever lists the
    configuration has. Of the plain ones linear layers and the embedding are packed by
    ``rounding``. Returns the model and what is amiss, as ``from_pretrained`` reports it.
    """
    plain_config = copy.deepcopy(config)
    if hasattr(plain_config, 'quantization_config'):
        del plain_config.quantization_config  # nothing of the library is to unpack
    with torch.device('meta'):
        model: Any = AutoModelForImageTextToText.from_config(
            plain_config, dtype=dtype, attn_implementation=attention)
    if (folder / 'generation_config.json').is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    filling = _Filling(model, device, dtype, reader, rounding)
    with ExitStack() as stack:
        for name, parts in _modules(folder, stack):
            filling.fill(name, parts)
    filling.check()
    filling.tie()
    for module in model.modules():
        if any(buffer.is_meta for buffer in module.buffers(recurse=False)):
            module.to_empty(device='cpu', recurse=False)
            model._init_weights(module)  # rotary embeddings, computed from the configuration
            module.to(device)
    return model.eval(), filling.report()


class _Filling:
    """A model of which some modules have their weights already."""

    def __init__(
        self, model: Any, device: str, dtype: torch.dtype, reader: Reader | None,
        rounding: Rounding | None,
    ) -> None:
        self._model, self._device, self._dtype = model, device, dtype
        self._reader, self._rounding = reader, rounding
        self._num_read = 0
        self._unexpected: list[str] = []
        self._mismatched: list[tuple[str, Any, Any]] = []

    def fill(self, name: str, parts: Mapping[str, Callable[[], Tensor]]) -> None:
        """Give a module its tensors, which are read now."""
        try:
            module: Any = self._model.get_submodule(name)
        except AttributeError:
            module = None
        if isinstance(module, nn.Linear) and is_packed(parts):
            self._fill_packed(name, module, {
                part: read() for part, read in parts.items() if part not in _UNUSED})
            return
        for part, read in sorted(parts.items()):  # a bias before its matrix
            target = None if module is None else module._parameters.get(part)
            if target is None:
                if part not in _UNUSED:
                    self._unexpected.append(f'{name}.{part}')
                continue
            tensor = read()
            if tensor.shape != target.shape:
                self._mismatched.append(
                    (f'{name}.{part}', tuple(tensor.shape), tuple(target.shape)))
            elif not self._fill_rounded(name, module, part, tensor):
                self._set(module, part, self._plain(f'{name}.{part}', tensor))

    def check(self) -> None:
        """Raise a CheckpointError if there should have been packed modules, and are none."""
        if self._reader is not None and not self._num_read:
            raise CheckpointError(
                'config.json has a quantization_config, but no weights are packed: remove it, or '
                'give the weights that belong to it')

    def tie(self) -> None:
        """Let the output layer share the weights of the embedding, if it has none of its own."""
        model = self._model
        embedding = model.get_input_embeddings()
        head = model.get_output_embeddings()
        weight = head._parameters.get('weight')
        if not model.config.tie_word_embeddings or weight is None or not weight.is_meta:
            return
        if isinstance(embedding, PackedEmbedding):
            model.set_output_embeddings(PackedLinear(embedding.matrix, None))
        else:
            head.weight = embedding.weight

    def report(self) -> dict[str, Any]:
        """Return what is missing, left over and of another shape."""
        wrong = {key for key, _, _ in self._mismatched}
        return {
            'missing_keys': {
                name for name, weight in self._model.named_parameters()
                if weight.is_meta and name not in wrong},
            'unexpected_keys': set(self._unexpected), 'mismatched_keys': set(self._mismatched)}

    def _fill_packed(self, name: str, module: nn.Linear, parts: dict[str, Tensor]) -> None:
        if self._reader is None:
            raise CheckpointError(
                f'the weights of {name} are packed, but config.json has no quantization_config '
                'that is known here: give the whole config.json')
        bias = parts.pop('bias', None)
        shape = (module.out_features, module.in_features)
        try:
            matrix = self._reader({
                part: tensor.to(self._device) for part, tensor in parts.items()}, shape)
        except ValueError as error:
            raise CheckpointError(f'{name}: {error}') from error
        if bias is not None:
            bias = self._plain(f'{name}.bias', bias)
        self._model.set_submodule(name, PackedLinear(matrix, bias))
        self._num_read += 1

    def _fill_rounded(self, name: str, module: Any, part: str, tensor: Tensor) -> bool:
        if self._rounding is None or part != 'weight' or not isinstance(
                module, (nn.Linear, nn.Embedding)):
            return False
        matrix = self._rounding(name, self._plain(f'{name}.{part}', tensor))
        if matrix is None:
            return False
        packed: nn.Module = PackedEmbedding(matrix, self._dtype)
        if isinstance(module, nn.Linear):
            packed = PackedLinear(matrix, None)
            packed.bias = module.bias
        self._model.set_submodule(name, packed)
        return True

    def _plain(self, name: str, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point() or tensor.element_size() < 2:
            raise CheckpointError(
                f'{name} is {tensor.dtype}, and nothing says how it is packed: give the '
                'config.json that belongs to the weights, or a checkpoint in bfloat16')
        return tensor.to(self._device, self._dtype, copy=True)

    def _set(self, module: nn.Module, part: str, tensor: Tensor) -> None:
        setattr(module, part, nn.Parameter(tensor, requires_grad=False))


def _modules(
    folder: Path, stack: ExitStack,
) -> Iterator[tuple[str, dict[str, Callable[[], Tensor]]]]:
    """Yield the modules of a checkpoint by their present names, with what reads each tensor."""
    modules: dict[str, dict[str, Callable[[], Tensor]]] = defaultdict(dict)
    for file_name in weight_files(folder):
        file = stack.enter_context(safe_open(folder / file_name, 'pt'))
        for key in file.keys():
            module, _, part = _present_name(key).rpartition('.')
            modules[module][part] = partial(file.get_tensor, key)
    yield from modules.items()


def _present_name(key: str) -> str:
    """Return how transformers calls a weight that was published as ``key``."""
    if key.startswith('visual.'):
        return f'model.{key}'
    if key.startswith('model.') and not key.startswith(('model.visual.', 'model.language_model.')):
        return 'model.language_model.' + key.removeprefix('model.')
    return key
