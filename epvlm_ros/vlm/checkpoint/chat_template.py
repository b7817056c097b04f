"""The chat template of a checkpoint, from where the library's processor takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from epvlm_ros.vlm.checkpoint.errors import CheckpointError
from epvlm_ros.vlm.checkpoint.files import read_json

DEFAULT = 'default'


def read_chat_template(folder: Path, tokenizer: Any) -> str:
    """
    Return the template that the library's processor would use.

    That of the processor goes first, since that of the tokenizer is often one for text only
    (Qwen2.5-VL): processor_config.json, chat_template.json, chat_template.jinja, and only then
    tokenizer_config.json.

    Raises
    ------
    CheckpointError
        If there is none, or several and none is called default.

    """
    for name in ('processor_config.json', 'chat_template.json'):
        if (folder / name).is_file():
            template = read_json(folder / name).get('chat_template')
            if template is not None:
                return _choose(template, name)
    if (folder / 'chat_template.jinja').is_file():
        return (folder / 'chat_template.jinja').read_text(encoding='utf-8')
    if tokenizer.chat_template is None:
        raise CheckpointError(
            'it has no chat template: add chat_template.json or chat_template.jinja from the '
            'checkpoint that it was made of')
    return _choose(tokenizer.chat_template, 'tokenizer_config.json')


def _choose(template: Any, file_name: str) -> str:
    """Return the template, or the one called default of a list or an object of several."""
    named = template
    if isinstance(template, list) and all(isinstance(item, dict) for item in template):
        named = {item.get('name'): item.get('template') for item in template}
    if isinstance(named, dict):
        if DEFAULT not in named:
            raise CheckpointError(
                f'{file_name} has the chat templates {", ".join(map(str, named)) or "[]"}, none '
                f'of which is called {DEFAULT}: call one so')
        named = named[DEFAULT]
    if not isinstance(named, str):
        raise CheckpointError(
            f'the chat template in {file_name} is no text: get the file again')
    return named
