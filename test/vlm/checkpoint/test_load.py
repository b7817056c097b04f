"""Loading of checkpoints: layouts of a folder, devices and number types."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from epvlm_ros.vlm.checkpoint import hub, load_checkpoint
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.sparse_qwen import SparseQwenVl
import pytest
from qwen_checkpoints import (
    CHAT_TEMPLATE, library_inputs, make_model, make_prompt, make_vision, save_checkpoint,
    save_original_checkpoint, save_processor_checkpoint, write_json)
from qwen_shapes import END_OF_TEXT, SHAPES, TURN_END
import torch

CPU: dict[str, Any] = {'device': 'cpu'}


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize(
    'save', [save_checkpoint, save_processor_checkpoint, save_original_checkpoint])
def test_all_layouts_load(shape: str, save: Callable[..., Path], tmp_path: Path) -> None:
    model = make_model(shape)
    checkpoint = load_checkpoint(VlmConfig(model=str(save(tmp_path / 'model', model)), **CPU))
    assert checkpoint.chat_template == CHAT_TEMPLATE
    assert checkpoint.model.info.end_token_ids == {TURN_END, END_OF_TEXT}
    token_size_px = 32 if shape.startswith('qwen3') else 28
    assert checkpoint.geometry.token_size_px == token_size_px
    published = (65536, 16777216) if shape.startswith('qwen3') else (3136, 12845056)
    assert (checkpoint.geometry.min_pixels, checkpoint.geometry.max_pixels) == (
        published if save is save_original_checkpoint else (3136, 64 * token_size_px ** 2))

    vision, prompt_ids = make_vision(3, 5, keep_ratio=1.0, shape=shape), make_prompt(15)
    with torch.no_grad():
        expected = model(**library_inputs(vision, prompt_ids)).logits[0]
    assert isinstance(checkpoint.model, SparseQwenVl)
    logits = checkpoint.model.prompt_logits(
        prompt_ids, vision, checkpoint.model.encode(vision))
    assert (logits - expected).abs().max() <= 1e-4


@pytest.fixture(scope='module', name='saved')
def saved_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp('saved'), make_model('narrow'))


@pytest.fixture(name='folder')
def folder_fixture(saved: Path, tmp_path: Path) -> Path:
    """Return a copy of a checkpoint, to be broken."""
    folder = tmp_path / 'model'
    folder.mkdir()
    for path in saved.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def load_error(folder: Path | str, **config: Any) -> str:
    with pytest.raises(ValueError) as error:
        load_checkpoint(VlmConfig(model=str(folder), **{**CPU, **config}))
    return str(error.value)


def test_code_beside_a_checkpoint_is_never_run(folder: Path, tmp_path: Path) -> None:
    trace = tmp_path / 'trace'
    (folder / 'code.py').write_text(f'open({str(trace)!r}, "w").close()\n', encoding='utf-8')
    for model_type in ('qwen3_tiny', 'qwen2_vl'):
        write_json(folder / 'config.json', {
            'model_type': model_type, 'auto_map': {'AutoConfig': 'code.TinyConfig'}})
        assert 'cannot load the model' in load_error(folder)
    assert not trace.exists()


def test_a_missing_folder_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    for missing in (tmp_path / 'none', './none', 'a/b/c', 'none/'):
        assert 'there is no model folder' in load_error(missing, allow_download=True)
    (tmp_path / 'file').write_text('', encoding='utf-8')
    assert 'there is no model folder' in load_error(tmp_path / 'file')


def test_a_missing_embedded_model_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:
    monkeypatch.setattr(hub, 'EMBEDDED_MODEL', tmp_path / 'tiny')
    assert 'install epvlm_ros again' in load_error('')


@pytest.mark.parametrize('device', ['gpu', 'cuda:', 'cuda:x', 'cpu:0', '', 'cuda:99'])
def test_unknown_devices_are_refused(saved: Path, device: str) -> None:
    message = load_error(saved, device=device)
    assert f'device is {device!r}' in message and 'give auto, cpu' in message


def test_flash_attention_needs_half_precision(saved: Path) -> None:
    message = load_error(saved, attention='flash_attention_2', dtype='float32')
    assert 'dtype bfloat16' in message


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_dtype_and_attention_are_as_given(saved: Path, dtype: str) -> None:
    checkpoint = load_checkpoint(
        VlmConfig(model=str(saved), dtype=dtype, attention='eager', **CPU))
    vision = make_vision(2, 2, keep_ratio=0.5)
    assert checkpoint.model.encode(vision).tokens.dtype == getattr(torch, dtype)
    assert checkpoint.model.info.config.vision_config._attn_implementation == 'eager'
    assert checkpoint.model.info.config.text_config._attn_implementation == 'eager'


def test_automatic_choices_follow_the_machine(saved: Path) -> None:
    checkpoint = load_checkpoint(VlmConfig(model=str(saved)))
    features = checkpoint.model.encode(make_vision(2, 2, keep_ratio=0.5)).tokens
    on_gpu = torch.cuda.is_available()
    assert features.device.type == ('cuda' if on_gpu else 'cpu')
    assert features.dtype == (torch.bfloat16 if on_gpu else torch.float32)


def test_max_pixels_bounds_the_image(saved: Path) -> None:
    checkpoint = load_checkpoint(VlmConfig(model=str(saved), max_pixels=9 * 784, **CPU))
    grid = checkpoint.geometry.grid(480, 640)
    assert (grid.rows, grid.cols) == (2, 3)
    small = load_checkpoint(VlmConfig(model=str(saved), max_pixels=784, **CPU))
    assert small.geometry.grid(480, 640).num_tokens == 1
    assert load_error(saved, max_pixels=783).endswith(
        ': max_pixels is 783: give 0, or at least 784, one visual token of this model')
