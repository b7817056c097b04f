"""
Puts a trained checkpoint into the package: ``python -m training.ship FOLDER --what TEXT``.

The course of the run is added to that of the checkpoint that it started from, which is the one in
the package unless ``--afresh`` says that it started from nothing. The figures and the model card
are written by hand afterwards, see CONTRIBUTING.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import shutil
from typing import Any

from epvlm_ros.vlm.checkpoint import EMBEDDED_MODEL

_FILES = (
    'chat_template.jinja', 'config.json', 'generation_config.json', 'model.safetensors',
    'preprocessor_config.json', 'tokenizer.json', 'tokenizer_config.json')
_REPORTED_EVERY = 100  # steps


def main(arguments: list[str] | None = None) -> None:
    """Copy the files and write the course."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('folder', type=Path, help='what training.train wrote')
    parser.add_argument('--what', required=True, help='what the run trained, for training.json')
    parser.add_argument('--afresh', action='store_true', help='it started from random weights')
    parser.add_argument('--to', type=Path, default=Path(EMBEDDED_MODEL), help='of the package')
    options = parser.parse_args(arguments)
    ship(options.folder, options.to, options.what, afresh=options.afresh)


def ship(folder: Path, target: Path, what: str, *, afresh: bool = False) -> None:
    """Copy a checkpoint to a folder whose ``training.json`` lists the runs it went through."""
    missing = [name for name in (*_FILES, 'training.json') if not (folder / name).exists()]
    if missing:
        raise ValueError(f'{folder} has no {", ".join(missing)}: give the folder of a training')
    report: dict[str, Any] = json.loads((folder / 'training.json').read_text())
    photographs = report['config'].get('photographs')
    if photographs:  # a folder of the machine that trained
        report['config']['photographs'] = Path(photographs).name
    report['course'] = [
        item for item in report['course'] if item['step'] == 1 or not (
            item['step'] % _REPORTED_EVERY)]
    course = target / 'training.json'
    runs = [] if afresh else json.loads(course.read_text())
    for name in _FILES:
        shutil.copyfile(folder / name, target / name)
    course.write_text(json.dumps([*runs, {'what': what, **report}], indent=1) + '\n')


if __name__ == '__main__':
    main()
