"""Qwen checkpoints from a folder or the hub: complete and understood, or refused with a remedy."""

from epvlm_ros.vlm.checkpoint.errors import CheckpointError
from epvlm_ros.vlm.checkpoint.hub import EMBEDDED_MODEL, find_folder
from epvlm_ros.vlm.checkpoint.load import (
    Checkpoint, DTYPES, load_checkpoint, load_processor, Processor, read_model_config)

__all__ = [
    'Checkpoint', 'CheckpointError', 'DTYPES', 'EMBEDDED_MODEL', 'find_folder',
    'load_checkpoint', 'load_processor', 'Processor', 'read_model_config']
