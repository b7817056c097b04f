"""
Start ``vllm serve`` with the sparse model of a checkpoint: ``epvlm-serve MODEL [OPTIONS]``.

All options but one are those of ``vllm serve``, which see, and go to it as they are.
"""

from __future__ import annotations

from importlib.util import find_spec
import json
import os
import sys

from epvlm_vllm.plugin import ARCHITECTURES
from epvlm_vllm.version import check_version

USAGE = """usage: epvlm-serve MODEL [--max-request-bytes BYTES] [options of vllm serve]

MODEL is a folder, or a name on the model hub, of a Qwen2-VL, Qwen2.5-VL or Qwen3-VL checkpoint.
Requests of more than BYTES (33554432) are refused. Options of vllm serve: vllm serve --help=all"""


def main() -> None:
    """Become ``vllm serve``."""
    if len(sys.argv) < 2 or sys.argv[1].startswith('-'):
        sys.exit(USAGE)
    try:
        command, variables = make_command(sys.argv[1], sys.argv[2:])
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        sys.exit(f'epvlm-serve: {error}')
    os.execve(command[0], command, {**os.environ, **variables})


def make_command(model: str, options: list[str]) -> tuple[list[str], dict[str, str]]:
    """
    Return the command that serves a checkpoint, and variables of its environment.

    Raises an error of one line where vLLM is absent or of another version, the checkpoint cannot
    be read or is of no family that is known here, or an option would choose another model.
    """
    check_installed_version()
    overrides, options = take_overrides(options)
    max_bytes, options = take_option('--max-request-bytes', options)
    if max_bytes is not None and not (max_bytes.isdigit() and int(max_bytes) > 0):
        raise ValueError(f'--max-request-bytes: {max_bytes!r}: give a positive integer')
    model_type = read_model_type(model)
    if model_type not in ARCHITECTURES:
        raise ValueError(
            f'{model} is of type {model_type!r}: give a checkpoint of one of '
            f'{", ".join(ARCHITECTURES)}, or run vllm serve, which takes no kept_indices')
    overrides['architectures'] = [ARCHITECTURES[model_type]]
    command = [
        sys.executable, '-m', 'vllm.entrypoints.cli.main', 'serve', model, *options,
        '--hf-overrides', json.dumps(overrides),
        # requests carry kept_indices in them; the sparse models take nothing else from there
        '--trust-request-mm-kwargs',
        '--middleware', 'epvlm_vllm.request_size.RequestSizeLimit']
    return command, {'EPVLM_MAX_REQUEST_BYTES': max_bytes} if max_bytes else {}


def check_installed_version() -> None:
    """Raise an error if vLLM is absent or of a version that this was not made for."""
    if find_spec('vllm') is None:
        raise ImportError(
            'vllm is not installed here: install it as its documentation says for this machine')
    from vllm.version import __version__
    check_version(__version__)


def take_overrides(options: list[str]) -> tuple[dict, list[str]]:
    """Return the caller's own ``--hf-overrides``, and the other options."""
    if any(normalise(option).startswith('--hf-overrides.') for option in options):
        raise ValueError(
            '--hf-overrides.NAME would replace the sparse model: give --hf-overrides and one '
            'JSON object')
    text, options = take_option('--hf-overrides', options)
    overrides = json.loads(text or '{}')
    if not isinstance(overrides, dict) or 'architectures' in overrides:
        raise ValueError(
            f'--hf-overrides: {text}: give a JSON object without architectures: epvlm-serve '
            'sets these; vllm serve takes any')
    return overrides, options


def take_option(name: str, options: list[str]) -> tuple[str | None, list[str]]:
    """Return the value of an option, None if it is not there, and the other options."""
    for place, option in enumerate(options):
        given, equals, value = option.partition('=')
        if normalise(given) == name:
            if equals:
                return value, options[:place] + options[place + 1:]
            if place + 1 == len(options):
                raise ValueError(f'{name}: give a value after it')
            return options[place + 1], options[:place] + options[place + 2:]
    return None, options


def normalise(option: str) -> str:
    """Return an option as vLLM reads it: it takes underscores for hyphens."""
    return option.replace('_', '-') if option.startswith('--') else option


def read_model_type(model: str) -> str:
    """Return ``model_type`` in the config.json of a folder, or of a name on the model hub."""
    from transformers import PretrainedConfig

    config, _ = PretrainedConfig.get_config_dict(model)
    if not config:
        raise ValueError(f'{model}: no config.json there: give the folder of a checkpoint')
    return str(config.get('model_type'))


if __name__ == '__main__':
    main()
