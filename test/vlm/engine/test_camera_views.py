"""Several cameras of one engine: what is kept of one does not disturb that of another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine import EngineAnswer, Moment, VlmEngine
import numpy as np
import pytest
from qwen_checkpoints import make_model, save_original_checkpoint

PICTURES = {name: np.random.default_rng(seed).integers(0, 256, (84, 112, 3), dtype=np.uint8)
            for seed, name in enumerate(('front', 'rear', 'left'))}
MEGABYTE = 1e6


@pytest.fixture(scope='module', name='folder')
def folder_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_original_checkpoint(tmp_path_factory.mktemp('model'), make_model('narrow'))


def make_engine(folder: Path, **parameters: Any) -> VlmEngine:
    return VlmEngine.from_config(VlmConfig(
        model=str(folder), device='cpu', max_new_tokens=6, keep_ratio=0.5, **parameters))


def ask(engine: VlmEngine, camera: str, number: int = 1) -> EngineAnswer:
    """Ask about a camera; the frames of all have the same numbers."""
    return engine.answer_about(
        [Moment(PICTURES[camera], None, number, number * 10 ** 9)], 'what moves?', camera=camera)


@pytest.mark.parametrize('scene_memory', [False, True])
def test_cameras_take_turns_and_answer_as_if_alone(folder: Path, scene_memory: bool) -> None:
    engine = make_engine(folder, scene_memory=scene_memory, memory_fill='at_once')
    alone = {camera: ask(make_engine(
        folder, scene_memory=scene_memory, memory_fill='at_once'), camera).text
        for camera in PICTURES}
    assert len(set(alone.values())) == 3
    assert {camera: ask(engine, camera).text for camera in PICTURES} == alone
    again = {camera: ask(engine, camera) for camera in PICTURES}
    assert {camera: answer.text for camera, answer in again.items()} == alone
    for answer in again.values():  # nothing but the text was computed
        assert answer.flops_reused > 0.5 * answer.flops_used
        assert answer.scene is None or answer.scene.num_refreshed == 0


def test_each_camera_has_a_scene_of_its_own(folder: Path) -> None:
    engine = make_engine(folder, scene_memory=True)
    for camera in ('front', 'rear', 'front'):
        ask(engine, camera)
    for number in range(2, 5):
        ask(engine, 'front', number)
    front, rear = (engine.scene_status_of(camera) for camera in ('front', 'rear'))
    assert front is not None and rear is not None
    assert (front.num_updates, rear.num_updates) == (5, 1)
    assert front.num_restarts == rear.num_restarts == 1
    assert engine.scene_status_of('left') is None
    engine.reconfigure(replace(engine.config, scene_memory=False))
    assert engine.scene_status_of('front') is None


@pytest.mark.parametrize('scene_memory', [False, True])
def test_beyond_the_limit_the_least_recent_one_is_forgotten(
    folder: Path, scene_memory: bool,
) -> None:
    engine = make_engine(folder, scene_memory=scene_memory, memory_fill='at_once')
    ask(engine, 'front')
    view = engine._views.find('front')
    assert view is not None
    one_mb = view.num_bytes / MEGABYTE
    assert one_mb > 0.0
    engine.reconfigure(replace(engine.config, memory_limit=2.5 * one_mb))
    ask(engine, 'rear')
    ask(engine, 'left')
    sizes = {camera: engine._views.use(camera).num_bytes / MEGABYTE for camera in PICTURES}
    assert sizes['front'] == 0.0 and sizes['rear'] == sizes['left'] == pytest.approx(one_mb)
    engine.reconfigure(replace(engine.config, memory_limit=0.1 * one_mb))
    ask(engine, 'front')  # the one in use stays, however large it is
    sizes = {camera: engine._views.use(camera).num_bytes / MEGABYTE for camera in PICTURES}
    assert sizes == {'front': pytest.approx(one_mb), 'rear': 0.0, 'left': 0.0}


def test_a_prefix_counts_its_keys_and_values(folder: Path) -> None:
    engine = make_engine(folder)
    ask(engine, 'front')
    view, config = engine._views.find('front'), engine._model.info.config.text_config
    assert view is not None
    # by hand: user, image start and, without events, all 12 tokens; 4 bytes a number
    num_tokens = 1 + len('user\n') + 1 + 12
    head_dim = config.hidden_size // config.num_attention_heads
    assert view.num_bytes == \
        num_tokens * config.num_hidden_layers * 2 * config.num_key_value_heads * head_dim * 4
