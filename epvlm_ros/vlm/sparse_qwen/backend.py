"""The interface between the engine and a model that computes on the kept visual tokens."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from epvlm_ros.vlm.sparse_qwen.decoding_state import PromptPrefix
from epvlm_ros.vlm.sparse_qwen.model_info import ModelInfo
from epvlm_ros.vlm.sparse_qwen.sampling import Sampling, Token
from epvlm_ros.vlm.sparse_qwen.scene.scene_backend import SceneBackend
from epvlm_ros.vlm.sparse_qwen.text_scores import TextScore
from epvlm_ros.vlm.sparse_qwen.vision_input import VisionInput
from torch import Tensor

Features = Any  # what encode made of an image; only the backend that made it looks inside
State = Any  # where an answer, or several, stand; likewise


class SparseBackend(Protocol):
    """
    A vision-language model that computes on the kept visual tokens only.

    The way of a question::

        VisionInput --encode--> Features --prefill--------> State --decode--> tokens
                                         --prefill_image--> PromptPrefix --extend--> State

    ``encode`` runs the encoder and the patch merger on the kept patches. ``prefill`` runs the
    language model on a whole prompt; its state also holds, as ``prefix``, the part up to the end
    of the images. ``prefill_image`` computes that part alone, ahead of a question. ``extend`` goes
    on from it with the text of a further question, which is all that such a question costs.
    ``decode`` yields the answer token by token, ``extend_together`` and ``decode_together`` do so
    for several questions side by side. ``score_texts`` weighs given answers.

    A state may be outdated by the next prompt. A prefix is a snapshot: it stays as it is whatever
    runs after it. Callers read of it what is on the host, and hand on the rest: keys and values
    may be tensors, memory that CUDA graphs read, or on a server.

    For one thread. Token ids are int64 on the CPU, shape (tokens,); a dense prompt has one image
    or video token for each visual token, kept or not.
    """

    @property
    def info(self) -> ModelInfo:
        """Return what the configuration says of the model."""

    @property
    def description(self) -> str:
        """Return size, device and number type for a log line."""

    @property
    def device_name(self) -> str:
        """Return where the model computes, for messages, such as cuda:0."""

    def encode(self, vision: VisionInput) -> Features:
        """Compute the visual features of the kept tokens."""

    def prefill(self, prompt_ids: Tensor, vision: VisionInput, features: Features) -> State:
        """Compute a whole dense prompt about an image from its start."""

    def prefill_image(
        self, prompt_ids: Tensor, vision: VisionInput, features: Features,
    ) -> PromptPrefix:
        """Compute a dense prompt up to the end of its image; what follows is ignored."""

    def extend(self, prefix: PromptPrefix, text_ids: Tensor) -> State:
        """Compute the text after the image, at least one token; the prefix is not changed."""

    def extend_together(self, prefix: PromptPrefix, texts: Sequence[Tensor]) -> State:
        """Compute several texts side by side; each answer is that of ``extend``."""

    def decode(
        self, state: State, end_token_ids: Collection[int], max_new_tokens: int,
        sampling: Sampling = ...,
    ) -> Iterator[Token]:
        """
        Yield the tokens of the answer as they are computed; ``state`` moves on.

        Ends before an end token and after ``max_new_tokens``. Raises ``NonFiniteLogits`` if those
        after the prompt, at least, are NaN or infinite.
        """

    def decode_together(
        self, state: State, end_token_ids: Collection[int], max_new_tokens: int,
        sampling: Sampling = ...,
    ) -> Iterator[list[tuple[int, Token]]]:
        """
        Yield lists of (number of the question, next token of its answer).

        Every list holds one token of each answer that has not ended; else as ``decode``.
        """

    def score_texts(
        self, state: State, texts: Sequence[Tensor], end_token_ids: Collection[int],
    ) -> list[TextScore]:
        """
        Return how likely each text, at least one token, is as the whole answer.

        By the logits alone, with any of the end tokens behind it. ``state``, which stands after
        the prompt, stays as it is. Raises ``NonFiniteLogits`` as ``decode``.
        """

    def scene_forward(self, attends_to_scene: bool = ...) -> SceneBackend:
        """
        Return what keeps scenes in memory.

        ``attends_to_scene`` says whether refreshed tokens see the others in the encoder. If not,
        no state of the encoder is kept and they are encoded by themselves, which costs accuracy.
        """

    def known_system_prefix(self, prompt_ids: Tensor) -> PromptPrefix | None:
        """Return what stands before the image if it is known from the prompt before."""

    def checked(self, check: Callable[[], None]) -> AbstractContextManager[None]:
        """Return a context in which ``check`` is called between layers, where that is possible."""

    def warm_up(
        self, shortest_prompt_ids: Tensor, rows: int, cols: int, numbers_kept: Iterable[int],
        sampling: Sampling, should_stop: Callable[[], bool],
    ) -> None:
        """
        Get ready for questions about images of one size, so that the first ones are fast.

        Parameters
        ----------
        shortest_prompt_ids : torch.Tensor
            The dense prompt of the shortest question.
        rows, cols : int
            The grid of visual tokens.
        numbers_kept : iterable of int
            How many of them are computed on.
        sampling : Sampling
            How tokens will be sampled.
        should_stop : callable
            Tells whether to leave out the rest.

        """
