"""The image processor of a checkpoint and what it does to the size of an image."""

from __future__ import annotations

from dataclasses import replace
import math
from pathlib import Path
from typing import Any

from epvlm_ros.vlm.checkpoint.errors import CheckpointError, of_the_checkpoint
from epvlm_ros.vlm.patch_grid import PatchGeometry
import numpy as np
from transformers import Qwen2VLImageProcessorPil

# Names of one processor in the versions of the library.
KNOWN_TYPES = (
    'Qwen2VLImageProcessor', 'Qwen2VLImageProcessorFast', 'Qwen2VLImageProcessorPil',
    'Qwen2_5_VLImageProcessor', None)
_PIXEL_BOUNDS = {'min_pixels': 'shortest_edge', 'max_pixels': 'longest_edge'}


def load_image_processor(
    folder: Path, vision_config: Any, max_pixels: int,
) -> tuple[Any, PatchGeometry]:
    """
    Load the image processor and try it on a small picture.

    Parameters
    ----------
    folder : Path
        Of the checkpoint.
    vision_config : transformers.PreTrainedConfig
        Of the encoder that the patches are for.
    max_pixels : int
        Upper bound of the resized image; 0 leaves that of the checkpoint.

    Returns
    -------
    transformers.Qwen2VLImageProcessorPil, PatchGeometry
        The one of all families, without torchvision: pixels are the same on every machine.

    Raises
    ------
    CheckpointError
        If it is of another model or does not fit the encoder.

    """
    settings, _ = Qwen2VLImageProcessorPil.get_image_processor_dict(folder, local_files_only=True)
    kind = settings.get('image_processor_type') or settings.get('feature_extractor_type')
    if kind not in KNOWN_TYPES:
        raise CheckpointError(
            f'its image processor is a {kind}: give the preprocessor_config.json of a Qwen model')
    if not settings.get('do_resize', True):
        raise CheckpointError(
            'preprocessor_config.json sets do_resize to false, but frames have any size: set it '
            'to true')
    processor = Qwen2VLImageProcessorPil.from_dict(_with_edges(settings))
    cuts = (processor.patch_size, processor.merge_size, processor.temporal_patch_size)
    wanted = (vision_config.patch_size, vision_config.spatial_merge_size,
              vision_config.temporal_patch_size)
    if cuts != wanted:
        raise CheckpointError(
            f'preprocessor_config.json cuts (patch_size, merge_size, temporal_patch_size) '
            f'{cuts}, the model needs {wanted}: make them the same')
    with of_the_checkpoint():
        geometry = PatchGeometry(
            patch_size_px=processor.patch_size, merge_size=processor.merge_size,
            min_pixels=processor.size['shortest_edge'],
            max_pixels=processor.size['longest_edge'])
    if max_pixels:
        geometry = _bound_pixels(geometry, max_pixels)
        processor.size = {
            'shortest_edge': geometry.min_pixels, 'longest_edge': geometry.max_pixels}
    _try(processor, geometry)
    return processor, geometry


def _with_edges(settings: dict[str, Any]) -> dict[str, Any]:
    """Call the bounds in ``size`` what the library calls them; before 4.49 it saved others."""
    size = settings.get('size')
    if isinstance(size, dict):
        size = settings['size'] = {_PIXEL_BOUNDS.get(name, name): size[name] for name in size}
    if size is not None and (
            not isinstance(size, dict) or set(size) != set(_PIXEL_BOUNDS.values())):
        raise CheckpointError(
            f'preprocessor_config.json sets size to {size}: give shortest_edge and longest_edge, '
            'the bounds of the area in pixels')
    bounds = {name: settings.get(name) for name in _PIXEL_BOUNDS} | (size or {})
    for name, bound in bounds.items():
        if bound is not None and (type(bound) is not int or bound < 1):
            raise CheckpointError(
                f'preprocessor_config.json sets {name} to {bound!r}: give a number of pixels')
    return settings


def _bound_pixels(geometry: PatchGeometry, max_pixels: int) -> PatchGeometry:
    token_pixels = geometry.token_size_px ** 2
    if max_pixels < token_pixels:
        raise CheckpointError(
            f'max_pixels is {max_pixels}: give 0, or at least {token_pixels}, one visual token of '
            'this model')
    return replace(
        geometry, min_pixels=min(geometry.min_pixels, max_pixels), max_pixels=max_pixels)


def _try(processor: Any, geometry: PatchGeometry) -> None:
    """Make patches of a grey picture: what is wrong shows before the first frame."""
    side = geometry.token_size_px * max(
        1, math.isqrt(geometry.min_pixels) // geometry.token_size_px)
    picture = np.full((side, side + geometry.token_size_px // 2, 3), 128, np.uint8)
    grid = geometry.grid(*picture.shape[:2])
    with np.errstate(divide='ignore', invalid='ignore'):
        made = processor(images=[picture], return_tensors='pt')
    patches = (geometry.merge_size * grid.rows, geometry.merge_size * grid.cols)
    if made['image_grid_thw'].tolist() != [[1, *patches]]:
        raise CheckpointError(
            f'its image processor makes {made["image_grid_thw"].tolist()} patches of a picture, '
            f'not {patches}: give the preprocessor_config.json that belongs to the model')
    if not made['pixel_values'].isfinite().all():
        raise CheckpointError(
            'its image processor makes infinite pixels: correct image_std and rescale_factor in '
            'preprocessor_config.json')
