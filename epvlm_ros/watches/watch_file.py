"""The file that keeps standing questions over a restart."""

from __future__ import annotations

import json
import os
from pathlib import Path

from epvlm_ros.watches.standing_question import StandingQuestion

_FORMAT = 'standing questions of epvlm_ros, 1'


class WatchFile:
    """
    Standing questions as JSON, replaced as a whole with every change.

    Parameters
    ----------
    path : Path
        Need not exist yet; its folder does.

    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> tuple[list[StandingQuestion], str]:
        """
        Return what is in the file, and a line about a file that cannot be used.

        Such a file is renamed, so that nothing overwrites it.

        Raises
        ------
        ValueError
            If the file can neither be read nor renamed.

        """
        try:
            return self._parse(self._path.read_bytes()), ''
        except FileNotFoundError:
            return [], ''
        except OSError as error:
            raise ValueError(f'watches_file {self._path} cannot be read: {error}') from None
        except ValueError as error:
            aside = self._put_aside()
            return [], (
                f'watches_file {self._path} is damaged or of another kind ({error}): it is '
                f'{aside} now, and there are no standing questions')

    def write(self, questions: list[StandingQuestion]) -> None:
        """Replace the file; a ValueError, and it stays as it was, if that is not possible."""
        text = json.dumps({'format': _FORMAT,
                           'watches': [standing.to_dict() for standing in questions]}, indent=1)
        partial = self._path.with_name(f'{self._path.name}.{os.getpid()}.partial')
        try:
            with partial.open('w', encoding='utf-8') as file:
                file.write(text + '\n')
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise ValueError(
                f'watches_file {self._path} cannot be written: {error}; nothing was changed'
            ) from None

    def _parse(self, data: bytes) -> list[StandingQuestion]:
        try:
            values = json.loads(data)
        except (ValueError, RecursionError):
            raise ValueError('no JSON') from None
        if not isinstance(values, dict) or values.get('format') != _FORMAT \
                or not isinstance(values.get('watches'), list):
            raise ValueError(f'its format is not "{_FORMAT}"')
        questions = [StandingQuestion.from_dict(watch) for watch in values['watches']]
        if len({standing.watch_id for standing in questions}) != len(questions):
            raise ValueError('a watch_id occurs twice')
        return questions

    def _put_aside(self) -> Path:
        number = 1
        while (aside := self._path.with_name(f'{self._path.name}.aside-{number}')).exists():
            number += 1
        try:
            return self._path.rename(aside)
        except OSError as error:
            raise ValueError(
                f'watches_file {self._path} is damaged or of another kind and cannot be renamed: '
                f'{error}') from None
