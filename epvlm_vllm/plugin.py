"""What vLLM calls in each of its processes: makes the sparse models known under their names."""

from __future__ import annotations

# By the model_type in config.json. vLLM takes one where config.json, or --hf-overrides, names it.
ARCHITECTURES = {
    'qwen2_vl': 'SparseQwen2VLForConditionalGeneration',
    'qwen2_5_vl': 'SparseQwen2_5_VLForConditionalGeneration',
    'qwen3_vl': 'SparseQwen3VLForConditionalGeneration',
}


def register() -> None:
    """Register the models by name; a model is imported, and vLLM's version checked, when used."""
    from vllm import ModelRegistry

    for name in ARCHITECTURES.values():
        if name not in ModelRegistry.models:
            ModelRegistry.register_model(name, f'epvlm_vllm.models:{name}')
