"""
Start ``vllm serve`` with the sparse model of a checkpoint: ``epvlm-serve MODEL [OPTIONS]``.

All options are those of ``vllm serve``, which see, and go to it as they are.
"""

from __future__ import annotations

import json
import os
import sys

from epvlm_vllm.plugin import ARCHITECTURES
from epvlm_vllm.version import check_version

USAGE = (
    'usage: epvlm-serve MODEL [options of vllm serve]\n\n'
    'MODEL is a folder, or a name on the model hub, of a Qwen2-VL, Qwen2.5-VL or Qwen3-VL '
    'checkpoint.')


def main() -> None:
    """Become ``vllm serve``."""
    if len(sys.argv) < 2 or sys.argv[1].startswith('-'):
        sys.exit(USAGE)
    try:
        command = make_command(sys.argv[1], sys.argv[2:])
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        sys.exit(f'epvlm-serve: {error}')
    os.execv(command[0], command)


def make_command(model: str, options: list[str]) -> list[str]:
    """
    Return the command that serves a checkpoint.

    Raises an error of one line where vLLM is absent or of another version, the checkpoint cannot
    be read, or is of no family that is known here.
    """
    check_installed_version()
    overrides, options = take_overrides(options)
    model_type = read_model_type(model)
    if model_type not in ARCHITECTURES:
        raise ValueError(
            f'{model} is of type {model_type!r}: give a checkpoint of one of '
            f'{", ".join(ARCHITECTURES)}, or run vllm serve, which answers without kept_indices')
    overrides['architectures'] = [ARCHITECTURES[model_type]]
    return [
        sys.executable, '-m', 'vllm.entrypoints.cli.main', 'serve', model,
        '--hf-overrides', json.dumps(overrides),
        # requests carry kept_indices in them; the sparse models take nothing else from there
        '--trust-request-mm-kwargs',
        *options]


def check_installed_version() -> None:
    """Raise an error if vLLM is absent or of a version that this was not made for."""
    from importlib.util import find_spec

    if find_spec('vllm') is None:
        raise ImportError(
            'vllm is not installed here: install it as its documentation says for this machine')
    from vllm.version import __version__
    check_version(__version__)


def take_overrides(options: list[str]) -> tuple[dict, list[str]]:
    """Return the caller's own ``--hf-overrides``, and the other options."""
    overrides: dict = {}
    others = list(options)
    for place, option in enumerate(options):
        name, equals, value = option.partition('=')
        if name.replace('_', '-') == '--hf-overrides':
            if not equals and place + 1 == len(options):
                raise ValueError('--hf-overrides: give a JSON object after it')
            overrides = json.loads(value if equals else options[place + 1])
            del others[place:place + (1 if equals else 2)]
            break
    if 'architectures' in overrides:
        raise ValueError(
            '--hf-overrides: leave architectures out, epvlm-serve sets them; vllm serve takes any')
    return overrides, others


def read_model_type(model: str) -> str:
    """Return ``model_type`` in the config.json of a folder, or of a name on the model hub."""
    from transformers import PretrainedConfig

    config, _ = PretrainedConfig.get_config_dict(model)
    return str(config.get('model_type'))


if __name__ == '__main__':
    main()
