"""What the configuration of a checkpoint says of its model, without the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from epvlm_ros.vlm.sparse_qwen.families import find_family


@dataclass(frozen=True)
class ModelInfo:
    """What the engine has to know of a model."""

    config: Any  # config.json as a transformers.PreTrainedConfig; not to be changed
    merge_size: int  # patches along one side of a visual token
    image_token_id: int  # stands for a visual token of an image
    video_token_id: int  # stands for one of several moments
    end_token_ids: frozenset[int]  # end an answer, maybe none
    repetition_penalty: float  # 1.0 if the checkpoint sets none
    tells_times: bool  # whether a prompt tells the time of each of several moments

    @classmethod
    def from_configs(cls, config: Any, generation_config: Any) -> ModelInfo:
        """Read config.json and generation_config.json; a ValueError if the family is unknown."""
        ids, penalty = generation_config.eos_token_id, generation_config.repetition_penalty
        return cls(
            config, config.vision_config.spatial_merge_size, config.image_token_id,
            config.video_token_id, frozenset([ids] if isinstance(ids, int) else ids or []),
            1.0 if penalty is None else float(penalty),
            find_family(getattr(config, 'model_type', None)).tells_times)
