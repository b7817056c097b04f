"""Memory of one scene, which functions of fixed shapes read from and write to."""

from __future__ import annotations

from epvlm_ros.vlm.cuda_graphs import encoder, language_model
from epvlm_ros.vlm.cuda_graphs.sizes import padded_size
from epvlm_ros.vlm.cuda_graphs.weights import DecoderWeights, EncoderWeights
from epvlm_ros.vlm.sparse_qwen import PromptLayout, VisionInput
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


class EncoderBuffers:
    """
    What the encoder keeps of a scene and looks up for its patches.

    Behind the tokens of the image there is one more, which takes what is computed of padding and
    is never known. Tables have a row for each patch, those of that token included.

    Parameters
    ----------
    weights : EncoderWeights
        Of the encoder.
    image : VisionInput
        An image of the size of the scene.
    mixture : tuple of torch.Tensor, optional
        Entries and shares of the learned positions of its patches, see ``EncoderInput``.

    """

    def __init__(
        self, weights: EncoderWeights, image: VisionInput, mixture: tuple[Tensor, ...],
    ) -> None:
        per_token, device = weights.patches_per_token, weights.like.device
        self.cache = weights.make_cache((image.num_tokens + 1) * per_token)
        places = image.patch_positions(round(per_token ** 0.5))
        self.cos, self.sin = encoder.rotation_of(
            weights, functional.pad(places, (0, 0, 0, per_token)).to(device))
        self.learned: Tensor | None = None
        if weights.learned_positions is not None:
            mixed = encoder.mix_positions(
                weights.learned_positions, *(part.to(device) for part in mixture))
            self.learned = functional.pad(mixed, (0, 0, 0, per_token))
        self.window_tokens: Tensor | None = None
        if weights.windowed:
            self.window_tokens = torch.from_numpy(
                _window_tokens(image.rows, image.cols, weights.window_size)).to(device)
        self.known = torch.zeros(image.num_tokens + 1, dtype=torch.bool, device=device)

    def reset(self) -> None:
        """Forget everything; what is not known must hold numbers too, since 0 x NaN is NaN."""
        self.cache.both.zero_()
        self.known.zero_()

    @property
    def num_bytes(self) -> int:
        """Memory of keys, values and tables."""
        tables = (self.cache.both, self.cos, self.sin, self.learned, self.window_tokens)
        return sum(table.nbytes for table in tables if table is not None)


class LanguageBuffers:
    """
    What the language model keeps of a scene and looks up for its tokens.

    Slots of the cache are text, the visual tokens and one more, which takes padding: nobody sees
    it, since all others stand before it. Rows of ``inputs``, embeddings and then what is added
    after the first, second, ... layer, are the visual tokens, that one, and the text.

    Parameters
    ----------
    weights : DecoderWeights
        Of the language model.
    num_tokens : int
        Visual tokens.
    num_text : int
        Tokens of text before them that there has to be room for.
    num_deepstack : int
        Layers that visual features are added after.

    """

    def __init__(
        self, weights: DecoderWeights, num_tokens: int, num_text: int, num_deepstack: int,
    ) -> None:
        self._weights, self._num_tokens = weights, num_tokens
        self.most_text = padded_size(num_text + 1, 64, 4)
        like, capacity = weights.like, self.most_text + num_tokens + 1
        self.cache = weights.make_cache(capacity)
        self.inputs = [like.new_zeros(capacity, weights.embedding.shape[1])
                       for _ in range(1 + num_deepstack)]
        self.cos, self.sin = (table.new_zeros(capacity, table.shape[1])
                              for table in (weights.cos, weights.sin))
        self.visible = torch.zeros(capacity, dtype=torch.bool, device=like.device)
        self.first = torch.zeros(1, dtype=torch.int64, device=like.device)  # visual slot

    def reset(self) -> None:
        """Forget everything."""
        for table in (self.cache.both, *self.inputs):
            table.zero_()

    def begin(self, layout: PromptLayout) -> None:
        """Take text and positions of a prompt up to its image; no slot is visible."""
        device, length = self.first.device, len(layout.prompt_ids)
        num_text = length - self._num_tokens
        self.first.fill_(num_text)
        self.visible.zero_()
        rotation = language_model.rotation_of(
            self._weights, layout.positions[:, :length].to(device))
        for table, values in zip((self.cos, self.sin), rotation):
            table[:length] = values
        text = layout.prompt_ids[:num_text].to(device)
        start = self._num_tokens + 1
        self.inputs[0][start:start + num_text] = self._weights.embed(text)

    def take_features(self, other: LanguageBuffers) -> None:
        """Take over the features of the visual tokens."""
        for own, table in zip(self.inputs, other.inputs):
            own[:self._num_tokens] = table[:self._num_tokens]

    @property
    def num_bytes(self) -> int:
        """Memory of keys, values and tables."""
        return sum(table.nbytes for table in (self.cache.both, self.cos, self.sin, *self.inputs))


class SceneBuffers:
    """
    Both of one scene.

    ``encoder`` is None where tokens are encoded by themselves. Others share the memory, one after
    the other, if ``fits`` says so.
    """

    def __init__(
        self, rows: int, cols: int, encoder_part: EncoderBuffers | None, language: LanguageBuffers,
    ) -> None:
        self._grid = rows, cols
        self.encoder, self.language = encoder_part, language

    def fits(self, rows: int, cols: int, num_text: int) -> bool:
        """Tell whether another scene with so much text before it could be kept here."""
        return (rows, cols) == self._grid and num_text <= self.language.most_text

    def reset(self) -> None:
        """Forget everything."""
        self.language.reset()
        if self.encoder is not None:
            self.encoder.reset()

    @property
    def num_bytes(self) -> int:
        """Memory of both."""
        encoder_bytes = self.encoder.num_bytes if self.encoder is not None else 0
        return self.language.num_bytes + encoder_bytes


def _window_tokens(rows: int, cols: int, side: int) -> np.ndarray:
    """
    Return the tokens in the window of each token, int64 (tokens + 1, side ** 2).

    Windows at the edge are filled up with the token behind the last one, whose own has no other.
    """
    num_tokens = rows * cols
    row, col = np.divmod(np.arange(num_tokens), cols)
    inside_row, inside_col = np.divmod(np.arange(side * side), side)
    other_row = row[:, None] // side * side + inside_row
    other_col = col[:, None] // side * side + inside_col
    tokens = np.full((num_tokens + 1, side * side), num_tokens)
    tokens[:-1] = np.where(
        (other_row < rows) & (other_col < cols), other_row * cols + other_col, num_tokens)
    return tokens
