"""The weights of the library's model in the form that the fixed-shape functions compute with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Union

from epvlm_ros.vlm.cuda_graphs.static_cache import StaticCache
from epvlm_ros.vlm.packed_weights import PackedEmbedding, PackedLinear, PackedMatrix, stack
import torch
from torch import Tensor

MAX_POSITIONS = 32768  # rows of the table of rotary embeddings
# Where the classes are whose computation is known.
_PACKED_MODULES = (PackedEmbedding, PackedLinear)
_LIBRARY_MODULES = ('torch.nn.modules.', 'transformers.models.', 'transformers.activations')
STATIC_ROPE_TYPES = ('default', 'mrope', 'linear', 'llama3', 'yarn')

Matrix = Union[Tensor, PackedMatrix]


class Unsupported(Exception):
    """There is no fixed-shape function for this model; the text says why."""


class Linear(NamedTuple):
    """A matrix (outputs, inputs) and what is added after it."""

    weight: Matrix
    bias: Tensor | None = None


class Norm(NamedTuple):
    """LayerNorm, or RMSNorm if there is no bias."""

    weight: Tensor
    bias: Tensor | None
    eps: float


class Mlp(NamedTuple):
    """Two layers; a gated one has the matrices of gate and values stacked in ``up``."""

    up: Linear
    down: Linear
    activation: str


class Layer(NamedTuple):
    """One layer of the encoder or the language model; queries, keys and values in one matrix."""

    norm_before_attention: Norm
    qkv: Linear
    out: Linear
    norm_before_mlp: Norm
    mlp: Mlp
    query_norm: Norm | None = None  # of each head
    key_norm: Norm | None = None


class Merger(NamedTuple):
    """A patch merger; takes the patches of a token side by side, normalized before or after."""

    norm: Norm
    mlp: Mlp


@dataclass(frozen=True)
class EncoderWeights:
    """The encoder and the patch merger."""

    patches: Linear  # from the values of a patch to the width of the encoder, never packed
    layers: tuple[Layer, ...]
    windowed: frozenset[int]  # the layers that attend within windows
    window_size: int  # side of a window in visual tokens; 0 without windows
    num_heads: int
    head_dim: int
    inverse_frequencies: Tensor  # float32 (head_dim / 4,), rotary, of rows and of columns
    merger: Merger  # to the width of the language model
    patches_per_token: int
    learned_positions: Tensor | None  # (entries, width); each place in an image mixes some
    deepstack: dict[int, Merger]  # mergers after layers in the middle

    def make_cache(self, capacity: int) -> StaticCache:
        """Return an empty cache for so many patches."""
        return StaticCache(
            len(self.layers), self.num_heads, self.head_dim, capacity, self.like)

    @property
    def like(self) -> Tensor:
        """Return a tensor of the number type and on the device that is computed with."""
        return self.merger.norm.weight

    @classmethod
    def of(cls, encoder: Any) -> EncoderWeights:
        """
        Take the weights of the library's encoder; matrices are merged as in ``DecoderWeights``.

        Raises ``Unsupported`` for another structure than in the families known here.
        """
        config = encoder.config
        kind = config.model_type.removesuffix('_vision')
        if (kind, config.hidden_act) not in (
                ('qwen2_vl', 'quick_gelu'), ('qwen2_5_vl', 'silu'),
                ('qwen3_vl', 'gelu_pytorch_tanh')):
            raise Unsupported(f'the encoder is of type {kind} with {config.hidden_act}')
        _check_modules('the encoder', encoder)
        dim = config.embed_dim if kind == 'qwen2_vl' else config.hidden_size
        full_layers = getattr(config, 'fullatt_block_indexes', range(config.depth))
        window_size_px = getattr(config, 'window_size', 0)
        projection = encoder.patch_embed.proj
        layers = tuple(
            Layer(_norm(block.norm1), _linear(block.attn.qkv), _linear(block.attn.proj),
                  _norm(block.norm2), _encoder_mlp(block.mlp, config.hidden_act))
            for block in encoder.blocks)
        table = getattr(encoder, 'pos_embed', None)
        deepstack = zip(getattr(config, 'deepstack_visual_indexes', ()),
                        getattr(encoder, 'deepstack_merger_list', ()))
        return cls(
            patches=Linear(projection.weight.detach().flatten(1), _detached(projection.bias)),
            layers=layers, windowed=frozenset(range(config.depth)) - frozenset(full_layers),
            window_size=window_size_px // config.spatial_merge_size // config.patch_size,
            num_heads=config.num_heads, head_dim=dim // config.num_heads,
            inverse_frequencies=encoder.rotary_pos_emb.inv_freq.float(),
            merger=_merger(encoder.merger), patches_per_token=config.spatial_merge_size ** 2,
            learned_positions=None if table is None else table.weight.detach(),
            deepstack={number: _merger(module) for number, module in deepstack})


@dataclass(frozen=True)
class DecoderWeights:
    """The language model."""

    embedding: Matrix  # (vocabulary, dim)
    layers: tuple[Layer, ...]
    norm: Norm  # before the output layer
    head: Linear
    num_heads: int
    num_key_value_heads: int
    head_dim: int
    cos: Tensor  # (MAX_POSITIONS, head_dim / 2), rotary, rounded as in the library
    sin: Tensor
    axes: Tensor  # int64 (head_dim / 2,): which of (time, height, width) each frequency is for

    def make_cache(self, capacity: int) -> StaticCache:
        """Return an empty cache for so many tokens."""
        return StaticCache(
            len(self.layers), self.num_key_value_heads, self.head_dim, capacity, self.like)

    @property
    def like(self) -> Tensor:
        """Return a tensor of the number type and on the device that is computed with."""
        return self.norm.weight

    def embed(self, token_ids: Tensor) -> Tensor:
        """Return the embeddings (tokens, dim) of int64 token ids (tokens,)."""
        if isinstance(self.embedding, PackedMatrix):
            return self.embedding.rows(token_ids).unpack(self.like.dtype)
        return self.embedding.index_select(0, token_ids)

    @property
    def group_size(self) -> int:
        """How many heads of queries share one of keys."""
        return self.num_heads // self.num_key_value_heads

    @classmethod
    def of(cls, language_model: Any, head: Any) -> DecoderWeights:
        """
        Take the weights of the library's language model.

        The matrices of queries, keys and values, and of gate and values of the MLP, become one in
        memory, and the library's parameters parts of it: nothing is stored twice. Raises
        ``Unsupported`` for another structure.
        """
        config = language_model.config
        if config.model_type not in ('qwen2_vl_text', 'qwen2_5_vl_text', 'qwen3_vl_text'):
            raise Unsupported(f'the language model is of type {config.model_type}')
        if config.hidden_act != 'silu':
            raise Unsupported(f'the language model has the activation {config.hidden_act}')
        rope = config.rope_parameters
        if rope['rope_type'] not in STATIC_ROPE_TYPES:
            raise Unsupported(f'its rotary embedding is of type {rope["rope_type"]}')
        _check_modules('the language model', language_model, head)
        layers = tuple(
            Layer(_norm(block.input_layernorm),
                  _merge(block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj),
                  _linear(block.self_attn.o_proj), _norm(block.post_attention_layernorm),
                  _gated_mlp(block.mlp), *_head_norms(block.self_attn))
            for block in language_model.layers)
        rotary = language_model.rotary_emb
        inverse = rotary.inv_freq.float()
        embedding, norm = _weight(language_model.embed_tokens), _norm(language_model.norm)
        angles = torch.arange(MAX_POSITIONS, device=inverse.device).float()[:, None] * inverse
        return cls(
            embedding=embedding, layers=layers, norm=norm,
            head=_linear(head), num_heads=config.num_attention_heads,
            num_key_value_heads=config.num_key_value_heads,
            head_dim=language_model.layers[0].self_attn.head_dim,
            cos=(angles.cos() * rotary.attention_scaling).to(norm.weight.dtype),
            sin=(angles.sin() * rotary.attention_scaling).to(norm.weight.dtype),
            axes=_axes(rope, len(inverse)).to(inverse.device))


def _axes(rope: Any, num_frequencies: int) -> Tensor:
    """Return which of (time, height, width) rotates each frequency."""
    sections = rope['mrope_section']
    if not rope.get('mrope_interleaved', False):
        return torch.repeat_interleave(torch.arange(3), torch.tensor(sections))
    axes = torch.zeros(num_frequencies, dtype=torch.int64)
    for axis in (1, 2):  # every third one, as often as its section says
        axes[axis:3 * sections[axis]:3] = axis
    return axes


def _check_modules(what: str, *models: Any) -> None:
    """
    Raise ``Unsupported`` if a module computes something else than its weights say.

    Adapters and weights that others pack do: as modules of their own, with a ``forward`` of their
    own, or with weights that are a tensor class of their own.
    """
    for module in (module for model in models for module in model.modules()):
        if type(module) in _PACKED_MODULES:
            continue
        kind = type(module)
        weight: Any = getattr(module, 'weight', None)
        of_library = kind.__module__.startswith(_LIBRARY_MODULES)
        is_plain = not isinstance(weight, Tensor) or type(weight.data) is Tensor
        if not of_library or not is_plain or 'forward' in vars(module):
            found = kind.__name__ if is_plain else f'{type(weight.data).__name__} weights'
            raise Unsupported(
                f'{what} is made of {found} too: adapters and weights packed by other '
                'libraries have no CUDA graphs')


def _detached(parameter: Any) -> Tensor | None:
    return None if parameter is None else parameter.detach()


def _linear(module: Any) -> Linear:
    return Linear(_weight(module), _detached(module.bias))


def _weight(module: Any) -> Matrix:
    if isinstance(module, _PACKED_MODULES):
        return module.matrix
    weight: Tensor = module.weight.detach()
    return weight


def _norm(module: Any) -> Norm:
    eps = module.eps if hasattr(module, 'eps') else module.variance_epsilon
    return Norm(module.weight.detach(), _detached(getattr(module, 'bias', None)), eps)


def _merger(module: Any) -> Merger:
    if hasattr(module, 'ln_q'):
        first, last, norm = module.mlp[0], module.mlp[2], module.ln_q
    else:
        first, last, norm = module.linear_fc1, module.linear_fc2, module.norm
    return Merger(_norm(norm), Mlp(_linear(first), _linear(last), 'gelu'))


def _encoder_mlp(module: Any, activation: str) -> Mlp:
    if activation == 'silu':
        return _gated_mlp(module)
    first, last = (
        getattr(module, f'fc{number}', None) or getattr(module, f'linear_fc{number}')
        for number in (1, 2))
    return Mlp(_linear(first), _linear(last), activation)


def _head_norms(attention: Any) -> tuple[Norm | None, Norm | None]:
    if not hasattr(attention, 'q_norm'):
        return None, None
    return _norm(attention.q_norm), _norm(attention.k_norm)


def _gated_mlp(module: Any) -> Mlp:
    return Mlp(_merge(module.gate_proj, module.up_proj), _linear(module.down_proj), 'gated_silu')


def _merge(*modules: Any) -> Linear:
    """Put matrices on top of each other and let the modules keep their parts of it."""
    weight: Matrix
    if any(isinstance(module, PackedLinear) for module in modules):
        try:
            weight = stack(modules)
        except (AttributeError, ValueError) as error:
            raise Unsupported(f'matrices that are read together are not alike: {error}') from error
    else:
        weight = _share([module.weight for module in modules])
    if modules[0].bias is None:
        return Linear(weight)
    return Linear(weight, _share([module.bias for module in modules]))


def _share(parameters: list[Any]) -> Tensor:
    merged = torch.cat([parameter.detach() for parameter in parameters])
    for parameter, part in zip(
            parameters, merged.split([len(parameter) for parameter in parameters])):
        parameter.data = part
    return merged
