"""Loading of checkpoints: the layouts of a folder, and every way in which one can be wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from epvlm_ros.vlm import checkpoint as checkpoint_module
from epvlm_ros.vlm.checkpoint import load_checkpoint
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.sparse_qwen import SparseQwenVl
import pytest
from qwen_checkpoints import (
    CHAT_TEMPLATE, library_inputs, make_model, make_prompt, make_vision, save_checkpoint,
    save_original_checkpoint, save_processor_checkpoint, write_json)
from qwen_shapes import END_OF_TEXT, SHAPES, TURN_END
from safetensors.torch import load_file, save_file
import torch

CPU = {'device': 'cpu'}


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


@pytest.mark.parametrize('name', [
    'config.json', 'model.safetensors', 'preprocessor_config.json'])
def test_a_missing_file_is_an_error_with_a_remedy(folder: Path, name: str) -> None:
    (folder / name).unlink()
    message = load_error(folder)
    assert str(folder) in message and 'give a folder with config.json' in message


def test_a_missing_template_is_an_error(folder: Path) -> None:
    (folder / 'chat_template.jinja').unlink()
    assert 'chat_template.json' in load_error(folder)


def test_weights_that_run_code_are_not_read(folder: Path) -> None:
    weights = load_file(folder / 'model.safetensors')
    (folder / 'model.safetensors').unlink()
    torch.save(weights, folder / 'pytorch_model.bin')
    assert '*.safetensors' in load_error(folder)


def test_missing_weights_are_not_made_up(folder: Path) -> None:
    weights = load_file(folder / 'model.safetensors')
    del weights['visual.blocks.1.attn.proj.weight']
    save_file(weights, folder / 'model.safetensors', metadata={'format': 'pt'})
    message = load_error(folder)
    assert 'weights are missing (1)' in message and 'blocks.1.attn.proj.weight' in message


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    weights = load_file(folder / 'model.safetensors')
    weights['visual.blocks.1.attn.proj.weight'] = torch.zeros(3, 3)
    save_file(weights, folder / 'model.safetensors', metadata={'format': 'pt'})
    assert 'cannot load the model' in load_error(folder)


def test_damaged_weights_are_an_error(folder: Path) -> None:
    content = (folder / 'model.safetensors').read_bytes()
    (folder / 'model.safetensors').write_bytes(content[:len(content) // 2])
    assert 'give a folder with' in load_error(folder)


def test_other_models_are_refused(folder: Path) -> None:
    write_json(folder / 'config.json', {'model_type': 'qwen3_vl_moe'})
    assert (
        "of type 'qwen3_vl_moe': give a checkpoint of one of Qwen2-VL (qwen2_vl), "
        'Qwen2.5-VL (qwen2_5_vl), Qwen3-VL (qwen3_vl)') in load_error(folder)


def test_code_beside_a_checkpoint_is_never_run(folder: Path, tmp_path: Path) -> None:
    trace = tmp_path / 'trace'
    (folder / 'code.py').write_text(f'open({str(trace)!r}, "w").close()\n', encoding='utf-8')
    write_json(folder / 'config.json', {
        'model_type': 'qwen3_tiny', 'auto_map': {'AutoConfig': 'code.TinyConfig'}})
    assert 'cannot load the model' in load_error(folder)
    assert not trace.exists()


def test_an_image_processor_that_does_not_fit_is_refused(folder: Path) -> None:
    write_json(folder / 'preprocessor_config.json', {
        'image_processor_type': 'Qwen2VLImageProcessor', 'patch_size': 16, 'merge_size': 2,
        'temporal_patch_size': 2})
    assert '(16, 2, 2), the model needs (14, 2, 2)' in load_error(folder)


def test_a_missing_folder_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    for missing in (tmp_path / 'none', './none', 'a/b/c', 'none/'):
        assert 'there is no model folder' in load_error(missing, allow_download=True)
    (tmp_path / 'file').write_text('', encoding='utf-8')
    assert 'there is no model folder' in load_error(tmp_path / 'file')


def test_a_hub_name_stays_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:
    def connect(*args: Any) -> None:
        raise AssertionError('went online')

    monkeypatch.setattr('socket.socket.connect', connect)
    message = load_error('epvlm-test/no-such-model')
    assert 'epvlm-test/no-such-model' in message and 'allow_download' in message


def test_a_missing_embedded_model_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:
    monkeypatch.setattr(checkpoint_module, 'EMBEDDED_MODEL', tmp_path / 'tiny')
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
    assert load_error(saved, max_pixels=783) == (
        'max_pixels is 783: give 0, or at least 784, one visual token of this model')
