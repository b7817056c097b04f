"""
The sparse models of epvlm_ros with the weights that vLLM serves, to hold its answers against.

For a process of its own (`OwnEngines`): vLLM 0.32 looks at every attribute of every module when
an engine starts and stumbles over llvmlite, which epvlm_ros imports. So nothing is imported here
before it is used.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
import json
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

EMBEDDED = 'embedded'
MODEL_TYPES = {
    'qwen2': 'qwen2_vl', 'qwen2.5': 'qwen2_5_vl', 'qwen3': 'qwen3_vl', EMBEDDED: 'qwen2_vl'}
QUESTION = 'what color is the moving circle ?'


@dataclass(frozen=True)
class Answer:
    """Greedy tokens, and the log-probabilities (vocabulary,) of the first of them."""

    token_ids: list[int]
    log_probabilities: np.ndarray
    prompt_ids: list[int]
    num_cached_tokens: int = 0


class OwnEngines:
    """Models of epvlm_ros in another process, of checkpoints that it writes below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = ProcessPoolExecutor(1, mp_context=get_context('spawn'))

    def save(self, name: str) -> Path:
        """Return the folder of the checkpoint of one of ``MODEL_TYPES``."""
        return self._process.submit(_save, name, self._folder / name).result()

    def ask(self, name: str, picture: Image.Image, kept: list[int]) -> Answer:
        """Answer a question about one picture with 64 tokens."""
        return self._process.submit(_ask, name, self._folder / name, picture, kept).result()

    def close(self) -> None:
        """End the process."""
        self._process.shutdown()


def make_prompt(folder: Path, num_images: int = 1, question: str = QUESTION) -> list[int]:
    """Return the tokens of a question, with one token for each image."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    content = [{'type': 'image'}] * num_images + [{'type': 'text', 'text': question}]
    text = tokenizer.apply_chat_template(
        [{'role': 'user', 'content': content}], tokenize=False, add_generation_prompt=True)
    return tokenizer.encode(text, add_special_tokens=False)


def _make_shape(name: str) -> Any:
    """Return sizes with heads of 32 values: vLLM's attention on a CPU wants no less."""
    from qwen_shapes import Shape

    text = {
        'hidden_size': 128, 'intermediate_size': 112, 'num_hidden_layers': 3,
        'num_attention_heads': 4, 'num_key_value_heads': 2, 'head_dim': 32}
    vision = {
        'qwen2': {
            'depth': 2, 'embed_dim': 64, 'num_heads': 2, 'mlp_ratio': 2, 'hidden_size': 128},
        'qwen2.5': {  # windows of 3 x 3 tokens
            'depth': 4, 'hidden_size': 64, 'num_heads': 2, 'intermediate_size': 80,
            'out_hidden_size': 128, 'window_size': 84, 'fullatt_block_indexes': [1, 3]},
        'qwen3': {
            'depth': 3, 'hidden_size': 64, 'num_heads': 2, 'intermediate_size': 80,
            'out_hidden_size': 128, 'num_position_embeddings': 36,
            'deepstack_visual_indexes': [0, 2]},
    }
    return Shape(MODEL_TYPES[name], vision[name], text, (4, 6, 6), name != 'qwen2.5')


@cache
def _make_model(name: str) -> Any:
    from qwen_checkpoints import make_model

    return make_model(name if name == EMBEDDED else _make_shape(name))


@cache
def _save(name: str, folder: Path) -> Path:
    from epvlm_ros.vlm.checkpoint import EMBEDDED_MODEL
    from qwen_checkpoints import save_checkpoint

    if name == EMBEDDED:
        folder.symlink_to(EMBEDDED_MODEL)
        return folder
    save_checkpoint(folder, _make_model(name))
    path = folder / 'preprocessor_config.json'
    # as in all published checkpoints; vLLM does not normalise images where it finds neither
    path.write_text(json.dumps({
        **json.loads(path.read_text()), 'image_mean': [0.48, 0.46, 0.41],
        'image_std': [0.27, 0.26, 0.28]}))
    return folder


@cache
def _make_engine(name: str) -> Any:
    from epvlm_ros.vlm.sparse_qwen import SparseQwenVl

    return SparseQwenVl(_make_model(name))


def _ask(name: str, folder: Path, picture: Image.Image, kept: list[int]) -> Answer:
    from epvlm_ros.vlm.sparse_qwen import VisionInput
    import torch
    from transformers import AutoImageProcessor

    model = _make_engine(name)
    inputs = AutoImageProcessor.from_pretrained(folder)(images=[picture], return_tensors='pt')
    _, rows, cols = inputs['image_grid_thw'][0].tolist()
    vision = VisionInput(inputs['pixel_values'], rows // 2, cols // 2, np.array(kept))
    prompt: list[int] = []
    for token in make_prompt(folder):
        prompt += [token] * (vision.num_tokens if token == model.info.image_token_id else 1)
    state = model.prefill(torch.tensor(prompt), vision, model.encode(vision))
    first = torch.log_softmax(state.logits.double(), dim=-1).numpy()
    return Answer(list(map(int, model.decode(state, (), 64))), first, prompt)
