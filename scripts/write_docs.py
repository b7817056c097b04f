#!/usr/bin/env python3
"""
Write what docs/ takes from the code: the tree of modules and the tables of parameters.

Run it with ``make docs``. docs/architecture.md gets, between its two marks, every module of the
package with the first line of its docstring; docs/parameters.md is written as a whole.
"""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path
import sys
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURE, PARAMETERS = ROOT / 'docs' / 'architecture.md', ROOT / 'docs' / 'parameters.md'
BEGIN, END = '<!-- tree: written by make docs -->\n', '<!-- end of the tree -->\n'
_INTRODUCTION = """\
# Parameters

*Written by `make docs` from the configuration classes; edit those.*

`ros2 param describe` prints the same texts. A wrong value is refused with the reason.
Parameters with a * can change while the node runs; the others are set at the start, those of
`vlm_node` also between `ros2 lifecycle set /vlm_node cleanup` and `configure`.

QoS overrides exist for the topics of events, images, guided frames, queries, answers and overlay:
history, depth, reliability and durability, for example
`qos_overrides./camera/image_raw.subscription.reliability`.
"""


def main() -> None:
    """Write both files."""
    sys.path.insert(0, str(ROOT))
    ARCHITECTURE.write_text(with_tree(ARCHITECTURE.read_text(encoding='utf-8')), encoding='utf-8')
    PARAMETERS.write_text(format_parameters(), encoding='utf-8')


def with_tree(text: str) -> str:
    """Return the text of docs/architecture.md with the tree of today."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f'{before}{BEGIN}{format_tree()}{END}{after}'


def format_tree() -> str:
    """Return all modules, folder by folder, with the first lines of their docstrings."""
    lines = []
    for folder in sorted({path.parent for path in list_modules()}):
        name = folder.relative_to(ROOT).as_posix()
        lines.append(f'\n**`{name}/`** {_summary(folder / "__init__.py")}\n')
        modules = [path for path in sorted(folder.glob('*.py')) if path.name != '__init__.py']
        lines += [f'- `{path.name}`: {_summary(path)}' for path in modules]
    return '\n'.join(lines).lstrip('\n') + '\n\n'


def list_modules() -> list[Path]:
    """Return the modules of both packages."""
    return [*(ROOT / 'epvlm_ros').rglob('*.py'), *(ROOT / 'epvlm_vllm').glob('*.py')]


def _summary(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
    return docstring.partition('\n')[0].replace('``', '`')


def format_parameters() -> str:
    """Return docs/parameters.md."""
    from epvlm_ros.events.config import EventSyncConfig, FilterConfig
    from epvlm_ros.ros.config import EventSyncNodeConfig, VlmNodeConfig
    from epvlm_ros.vlm.config import ServerConfig, VlmConfig

    parts = [_INTRODUCTION]
    for heading, config_class in (
            ('event_sync_node: windows, clocks, grid, registration', EventSyncConfig),
            ('event_sync_node: filters', FilterConfig),
            ('event_sync_node: start', EventSyncNodeConfig),
            ('vlm_node: model, selection, answers', VlmConfig),
            ('vlm_node: a model on a server', ServerConfig),
            ('vlm_node: queries', VlmNodeConfig)):
        rows = [_format_row(item) for item in fields(config_class)]
        parts.append('\n'.join([
            f'## {heading}\n', '| parameter | default | values | meaning |', '| --- ' * 4 + '|',
            *rows]) + '\n')
    return '\n'.join(parts)


def _format_row(item: Any) -> str:
    allowed = item.metadata
    mark = '*' if allowed['dynamic'] else ''
    return f'| `{item.name}`{mark} | {_format_default(item)} | {_format_values(item)} | ' \
           f'{allowed["description"]} |'


def _format_default(item: Any) -> str:
    if item.default == '':
        return 'empty'
    if isinstance(item.default, tuple):
        return ' '.join(f'{number:g}' for number in item.default)
    return str(item.default).lower() if isinstance(item.default, bool) else f'{item.default}'


def _format_values(item: Any) -> str:
    low, high = item.metadata['minimum'], item.metadata['maximum']
    if item.metadata['choices']:
        return ', '.join(item.metadata['choices'])
    if low is None and high is None:
        return {bool: 'true, false', str: 'text', tuple: 'numbers'}.get(type(item.default), '')
    if high is None:
        return f'at least {low:g}'
    return f'{low:.10g} to {high:.10g}'


if __name__ == '__main__':
    main()
