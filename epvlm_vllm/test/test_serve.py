"""The launcher's command, and the starts that it and the models refuse."""

import json
import sys

from epvlm_vllm import serve
from epvlm_vllm.plugin import ARCHITECTURES, register
from epvlm_vllm.version import check_version
import pytest
from vllm import ModelRegistry


@pytest.fixture
def checkpoint(tmp_path):
    def write(model_type):
        (tmp_path / 'config.json').write_text(json.dumps({'model_type': model_type}))
        return str(tmp_path)
    return write


def overrides_of(command):
    return json.loads(command[command.index('--hf-overrides') + 1])


@pytest.mark.parametrize('model_type, architecture', [
    ('qwen2_vl', 'SparseQwen2VLForConditionalGeneration'),
    ('qwen2_5_vl', 'SparseQwen2_5_VLForConditionalGeneration'),
    ('qwen3_vl', 'SparseQwen3VLForConditionalGeneration')])
def test_the_command_serves_the_sparse_model_of_the_family(checkpoint, model_type, architecture):
    folder = checkpoint(model_type)
    command, variables = serve.make_command(folder, ['--port', '1', '--dtype=half'])
    assert command[:7] == [
        sys.executable, '-m', 'vllm.entrypoints.cli.main', 'serve', folder, '--port', '1']
    assert '--dtype=half' in command and '--trust-request-mm-kwargs' in command
    assert overrides_of(command) == {'architectures': [architecture]}
    assert variables == {}


@pytest.mark.parametrize('option', [
    ['--hf-overrides', '{"a": 1}'], ['--hf-overrides={"a": 1}'], ['--hf_overrides', '{"a": 1}']])
def test_overrides_of_the_caller_are_kept(checkpoint, option):
    command, _ = serve.make_command(checkpoint('qwen2_vl'), [*option, '--seed', '3'])
    assert overrides_of(command) == {
        'a': 1, 'architectures': ['SparseQwen2VLForConditionalGeneration']}
    assert command.count('--hf-overrides') == 1 and '--hf_overrides' not in command
    assert command[command.index('--seed') + 1] == '3'


def test_the_limit_of_requests_goes_to_the_middleware(checkpoint):
    command, variables = serve.make_command(
        checkpoint('qwen2_vl'), ['--max-request-bytes', '1000'])
    assert variables == {'EPVLM_MAX_REQUEST_BYTES': '1000'}
    assert '--max-request-bytes' not in command


@pytest.mark.parametrize('options, message', [
    (['--hf-overrides', '{"architectures": ["X"]}'], 'without architectures'),
    (['--hf-overrides', '[1]'], 'give a JSON object'),
    (['--hf-overrides', 'x'], 'Expecting value'),
    (['--hf-overrides'], 'give a value after it'),
    (['--hf-overrides.text_config.hidden_size', '3'], 'would replace the sparse model'),
    (['--hf_overrides.a=3'], 'would replace the sparse model'),
    (['--max-request-bytes', '-3'], "'-3': give a positive integer")])
def test_options_that_it_refuses(checkpoint, options, message):
    with pytest.raises(ValueError, match=message):
        serve.make_command(checkpoint('qwen2_vl'), options)


def test_a_checkpoint_of_another_family_is_refused(checkpoint):
    with pytest.raises(ValueError, match="is of type 'llava'.*qwen2_vl, qwen2_5_vl, qwen3_vl"):
        serve.make_command(checkpoint('llava'), [])


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises((OSError, ValueError), match='config.json'):
        serve.make_command(str(tmp_path), [])


@pytest.mark.parametrize('arguments', [[], ['--port', '1']])
def test_without_a_model_it_says_how_it_is_called(arguments, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['epvlm-serve', *arguments])
    with pytest.raises(SystemExit, match='usage: epvlm-serve MODEL'):
        serve.main()


def test_errors_are_one_line(checkpoint, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['epvlm-serve', checkpoint('llava')])
    with pytest.raises(SystemExit, match='^epvlm-serve: .*llava[^\n]*$'):
        serve.main()


@pytest.mark.parametrize('version', ['0.31.2', '0.33.0', '1.0', '0.3.2', 'dev'])
def test_other_versions_of_vllm_are_refused_by_name(version):
    with pytest.raises(RuntimeError, match=rf'made for vLLM 0\.32 and this is vLLM {version}:'):
        check_version(version)


@pytest.mark.parametrize('version', ['0.32.0', '0.32.1', '0.32.0+cpu', '0.32.1rc1'])
def test_patches_of_the_version_are_taken(version):
    check_version(version)


def test_the_installed_plug_in_has_registered_its_models():
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    register()  # vLLM may load plug-ins several times
    assert set(ARCHITECTURES.values()) <= ModelRegistry.get_supported_archs()
