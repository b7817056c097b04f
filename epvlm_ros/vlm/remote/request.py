"""The body of a chat completion about one picture, of which some visual tokens are kept."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.patch_grid import PatchGrid
import numpy as np


def make_request(
    picture: bytes, grid: PatchGrid, kept_indices: np.ndarray, question: str, config: VlmConfig,
    repetition_penalty: float,
) -> dict[str, Any]:
    """
    Return the request as JSON, but for the name of the model.

    Whatever a server might take from the checkpoint's generation_config.json is given. Without
    dropped tokens it is one that every server with this API understands.

    Parameters
    ----------
    picture : bytes
        JPEG, of the resized size of the grid.
    grid : PatchGrid
        Its visual tokens.
    kept_indices : numpy.ndarray
        int64, ``row * cols + col`` of those to compute on, ascending.
    question : str
        What the user says beside the picture.
    config : VlmConfig
        System prompt, length of the answer and sampling.
    repetition_penalty : float
        At least 1; that of the configuration may be left to the checkpoint.

    """
    url = 'data:image/jpeg;base64,' + b64encode(picture).decode()
    messages: list[dict[str, Any]] = [{'role': 'user', 'content': [
        {'type': 'image_url', 'image_url': {'url': url}}, {'type': 'text', 'text': question}]}]
    if config.system_prompt:
        messages.insert(0, {'role': 'system', 'content': config.system_prompt})
    body: dict[str, Any] = {
        'messages': messages, 'stream': True, 'stream_options': {'include_usage': True},
        'max_tokens': config.max_new_tokens, 'temperature': config.temperature,
        'top_p': config.top_p, 'top_k': 0, 'seed': config.seed,
        'repetition_penalty': repetition_penalty, 'logprobs': True, 'top_logprobs': 2}
    if len(kept_indices) < grid.num_tokens:
        body['mm_processor_kwargs'] = {
            'kept_indices': [kept_indices.tolist()], 'token_grids': [[grid.rows, grid.cols]]}
    return body
