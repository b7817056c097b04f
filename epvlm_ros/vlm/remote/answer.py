"""From what a server sent to an answer of the engine."""

from __future__ import annotations

import math
import time

from epvlm_ros.vlm.engine import EngineAnswer
from epvlm_ros.vlm.engine.costs import PrefillCosts
from epvlm_ros.vlm.engine.moment import SelectedMoments
from epvlm_ros.vlm.remote.chat_stream import ChatStream
from epvlm_ros.vlm.remote.server_error import ServerError


def check_prompt(stream: ChatStream, num_dense_tokens: int, selected: SelectedMoments) -> None:
    """
    Raise a ServerError if the server has computed on another number of tokens than it should.

    ``num_dense_tokens`` are those of the prompt with all visual ones. So a server that ignores
    the kept tokens is found out, and one with another chat template or image size.
    """
    num_kept = len(selected.kept_indices)
    wanted = num_dense_tokens - selected.num_tokens + num_kept
    if stream.num_prompt_tokens == wanted:
        return
    error = ServerError(
        f'the server counted {stream.num_prompt_tokens} tokens of the prompt '
        f'(usage.prompt_tokens), not {wanted}, {num_kept} of them visual: run epvlm-serve '
        'there, with the checkpoint that model names, its chat template and its image sizes')
    error.num_tokens = len(stream.tokens)
    raise error


def make_answer(
    stream: ChatStream, ending: str, selected: SelectedMoments, costs: PrefillCosts, model: str,
) -> EngineAnswer:
    """Return an answer that has ended now, by whatever; ``model`` wrote it."""
    tokens, now_s = stream.tokens, time.perf_counter()
    first_s = now_s if stream.first_token_s is None else stream.first_token_s
    return EngineAnswer(
        text=stream.text, kept_indices=selected.kept_indices,
        num_moments=len(selected.moments), rows=selected.grid.rows, cols=selected.grid.cols,
        num_tokens=selected.num_tokens, num_tokens_kept=len(selected.kept_indices),
        flops_dense=costs.dense, flops_used=costs.used, flops_reused=0,
        time_to_first_token_s=first_s - stream.start_s, total_time_s=now_s - stream.start_s,
        num_generated_tokens=len(tokens),
        mean_log_probability=math.fsum(
            token.log_probability for token in tokens) / max(1, len(tokens)),
        first_token_margin=tokens[0].margin if tokens else 0.0, fallback=selected.fallback,
        ending=ending, model=model)
