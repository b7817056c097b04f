"""
The file ``answers.jsonl``: what a run depends on, then one line for each question.

A line holds the answers to a question under all settings, so an interrupted run can be resumed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

ANSWERS_FILE = 'answers.jsonl'
Record = dict[str, Any]


def hash_file(path: Path) -> str:
    """Return the SHA-256 checksum of a file in hexadecimal digits."""
    checksum = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(1 << 20):
            checksum.update(chunk)
    return checksum.hexdigest()


class AnswerFile:
    """
    The file of answers of a run; a ``ValueError`` names what differs if it is of another run.

    It is created, or resumed: an incomplete last line is cut off. ``description``, in JSON, is
    what the run depends on.
    """

    def __init__(self, path: Path, description: dict[str, Any]) -> None:
        self._path = path
        self.known: dict[int, list[Record]] = {}
        description = json.loads(json.dumps(description))
        if path.is_file() and path.stat().st_size:
            self._read(description)
        else:
            path.write_text(json.dumps({'run': description}) + '\n', encoding='utf-8')

    def append(self, records: list[Record]) -> None:
        """Write the answers to one question, all of them or none."""
        with self._path.open('a', encoding='utf-8') as file:
            file.write(json.dumps(records) + '\n')

    def _read(self, description: dict[str, Any]) -> None:
        content = self._path.read_bytes()
        whole = content[:content.rfind(b'\n') + 1]
        lines = whole.decode('utf-8').splitlines()
        try:
            found = json.loads(lines[0])['run']
            answers = [json.loads(line) for line in lines[1:]]
        except (ValueError, KeyError, TypeError, IndexError):
            raise ValueError(
                f'{self._path} is no file of answers: give another --output, or delete it') \
                from None
        differences = [
            f'{name} was {found.get(name)!r:.200}, now {description.get(name)!r:.200}'
            for name in sorted(found.keys() | description.keys())
            if found.get(name) != description.get(name)]
        if differences:
            raise ValueError(
                f'{self._path} holds answers of another run ({"; ".join(differences)}): give '
                'another --output, or delete it')
        if len(whole) < len(content):
            self._path.write_bytes(whole)
        self.known = {records[0]['number']: records for records in answers}
