"""vLLM in this process, and what it is asked."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from epvlm_vllm.plugin import ARCHITECTURES
import numpy as np
from own_engine import Answer, EMBEDDED, make_prompt
from PIL import Image
from vllm import LLM, SamplingParams


def grids_of(model: str) -> list[list[int]]:
    """Return rows and columns of images that the model takes as they are; no windows fit in."""
    return [[10, 14], [13, 11]] if model == EMBEDDED else [[5, 7], [8, 7]]


def make_picture(model: str, rows: int, cols: int, seed: int = 0) -> Image.Image:
    """Return noise of so many visual tokens, in the size that the model takes as it is."""
    side = 32 if model == 'qwen3' else 28
    pixels = np.random.default_rng(seed).integers(0, 256, (rows * side, cols * side, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def keep_some(num_tokens: int, keep_ratio: float, seed: int = 0) -> list[int]:
    """Return indices of so many of the tokens, ascending."""
    order = np.random.default_rng(seed).permutation(num_tokens)
    return np.sort(order[:max(1, round(keep_ratio * num_tokens))]).tolist()


@cache
def start_engine(
    folder: Path, model_type: str, is_sparse: bool = True, has_caches: bool = True,
) -> VllmEngine:
    """Return an engine, which is kept: the end of one takes with it what all of them share."""
    return VllmEngine(folder, model_type, is_sparse, has_caches)


class VllmEngine:
    """vLLM in float32 with the sparse model of a family, or with its own dense one."""

    def __init__(
        self, folder: Path, model_type: str, is_sparse: bool, has_caches: bool,
    ) -> None:
        self.folder = folder
        architectures = {'architectures': [ARCHITECTURES[model_type]]} if is_sparse else {}
        self.library = LLM(
            model=str(folder), hf_overrides=architectures, dtype='float32', enforce_eager=True,
            max_model_len=1024, max_num_seqs=8, max_logprobs=-1, gpu_memory_utilization=0.05,
            kv_cache_memory_bytes=2 ** 26, distributed_executor_backend='uni',
            block_size=32,  # so that prompts of a hundred tokens are kept as prefixes
            enable_prefix_caching=has_caches, mm_processor_cache_gb=0.1 if has_caches else 0)

    def ask(self, *questions: dict[str, Any], num_tokens: int = 64) -> list[Answer]:
        """Answer questions in one batch, after a run that gives the probabilities."""
        firsts = self._run(questions, max_tokens=1, logprobs=-1)
        outputs = self._run(questions, max_tokens=num_tokens)
        return [
            Answer(list(output.outputs[0].token_ids), _read_first(first),
                   list(output.prompt_token_ids), first.num_cached_tokens)
            for first, output in zip(firsts, outputs)]

    def question(
        self, pictures: list[Any], kept: list[list[int]] | None = None,
        grids: list[list[int]] | None = None, uuids: list[str] | None = None,
    ) -> dict[str, Any]:
        """Return a question about pictures, of which some tokens are kept, as vLLM takes it."""
        question: dict[str, Any] = {
            'prompt_token_ids': make_prompt(self.folder, len(pictures)),
            'multi_modal_data': {'image': pictures}}
        if kept is not None:
            question['mm_processor_kwargs'] = {'kept_indices': kept, 'token_grids': grids}
        if uuids is not None:
            question['multi_modal_uuids'] = {'image': uuids}
        return question

    def _run(self, questions: tuple[dict[str, Any], ...], **options: Any) -> list[Any]:
        return self.library.generate(
            list(questions), SamplingParams(temperature=0, ignore_eos=True, **options),
            use_tqdm=False)


def _read_first(output: Any) -> np.ndarray:
    scores = output.outputs[0].logprobs[0]
    return np.array([scores[token].logprob for token in range(len(scores))])
