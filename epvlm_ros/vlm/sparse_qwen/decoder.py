"""From the logits after a prompt to the tokens of an answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence

from epvlm_ros.vlm.sparse_qwen.decoding_state import BatchState, DecodingState
from epvlm_ros.vlm.sparse_qwen.sampling import GREEDY, Sampling, TokenChooser


class Decoder(ABC):
    """Writes answers, given a model that computes the logits after one more token."""

    @abstractmethod
    def step(self, state: DecodingState, token_id: int) -> None:
        """Append one token to ``state``, which then holds the logits after it."""

    @abstractmethod
    def step_together(self, state: BatchState, token_ids: Sequence[int]) -> None:
        """Append one token to each answer in ``state``, which then holds the logits after it."""

    def decode(
        self, state: DecodingState, end_token_ids: Collection[int], max_new_tokens: int,
        sampling: Sampling = GREEDY,
    ) -> Iterator[int]:
        """
        Yield the ids of the answer as they are computed.

        Ends before an end token and after ``max_new_tokens``. A token is computed only when
        it is asked for; ``state`` moves on.
        """
        chooser = TokenChooser(sampling, [state.prompt_ids], state.logits.device)
        for index in range(max_new_tokens):
            token_id = chooser.choose(state.logits[None])[0]
            if token_id in end_token_ids:
                return
            yield token_id
            if index + 1 < max_new_tokens:
                self.step(state, token_id)

    def decode_together(
        self, state: BatchState, end_token_ids: Collection[int], max_new_tokens: int,
        sampling: Sampling = GREEDY,
    ) -> Iterator[list[tuple[int, int]]]:
        """
        Yield lists of (number of the question, id of the next token of its answer).

        Every list holds one token of each answer that has not ended; else as ``decode``.
        """
        chooser = TokenChooser(sampling, state.prompts, state.logits.device)
        for index in range(max_new_tokens):
            chosen = chooser.choose(state.logits)
            going_on = [
                row for row, token_id in enumerate(chosen) if token_id not in end_token_ids]
            if not going_on:
                return
            if len(going_on) < len(chosen):
                state.keep(going_on)
                chooser.keep(going_on)
            token_ids = [chosen[row] for row in going_on]
            yield list(zip(state.questions, token_ids))
            if index + 1 < max_new_tokens:
                self.step_together(state, token_ids)
