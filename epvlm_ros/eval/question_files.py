"""
Question sets in files: JSON lines or parquet with the columns image, question and answer.

``image`` is a path (from the folder of the file), base64 of a picture, or ``{'bytes': ...,
'path': ...}`` as RealWorldQA and others are published; in JSON lines the bytes are base64.
``options`` (optional) is a list of texts or a text per letter; without it options are looked for
in the question. ``answer`` is the letter of an option or a text. Tables are split by ``family`` or
``category`` (optional).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import suppress
import hashlib
import json
from pathlib import Path
import re
from typing import Any

import cv2
from epvlm_ros.eval.answer_file import hash_file
from epvlm_ros.eval.multiple_choice import (
    as_text, join_question, LETTER_INSTRUCTION, read_options, read_truth, split_question)
from epvlm_ros.eval.question_set import Case, Observation, Problem
from epvlm_ros.eval.still_image_events import still_image_activity
import numpy as np

Row = dict[str, Any]
WORDINGS = ('options', 'question')
_READING = 2  # of options and answers, to be raised where rows come to be read otherwise
# Text that is a picture: a data URI, or base64 of the first bytes of PNG, JPEG, GIF, WebP or BMP.
_BASE64_PICTURE = re.compile(
    r'data:|(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR|Qk)[A-Za-z0-9+/\s]{40,}=*\s*$')


class FileSet:
    """
    The questions of a .jsonl or .parquet file, or of a folder of them in the order of their names.

    Of ``wording`` 'options' asks as the file does; 'question' asks without options and
    instruction, for models that know no options, and the answer is scored by its text. ``limit``
    is the most rows to read; 0 for all. A file that cannot be read as a whole is a ``ValueError``.
    """

    def __init__(self, path: Path, wording: str = 'options', limit: int = 0) -> None:
        if wording not in WORDINGS:
            raise ValueError(f'wording is {wording!r}: give one of {", ".join(WORDINGS)}')
        self._files = _find_files(path)
        self._path, self._wording, self._limit = path, wording, limit
        self._num_rows = sum(_count_rows(file) for file in self._files)
        self._pictures: dict[str, Any] = {}  # of the last case and of the image before
        self.problems: list[Problem] = []

    def describe(self) -> dict[str, Any]:
        """Return the name of the file and what is in it and its pictures, as a checksum."""
        checksum = hashlib.sha256()
        for path in [*self._files, *self._find_pictures()]:
            checksum.update(hash_file(path).encode())
        return {'kind': 'file', 'name': self._path.name, 'sha256': checksum.hexdigest(),
                'wording': self._wording, 'reading': _READING}

    def __len__(self) -> int:
        """Return the number of rows to read."""
        return min(self._num_rows, self._limit or self._num_rows)

    def __iter__(self) -> Iterator[Case]:
        """Yield the cases; ``problems`` starts anew."""
        self.problems = []
        contents = (content for file in self._files for content in _READERS[file.suffix](file))
        for row, content in enumerate(contents, 1):
            if self._limit and row > self._limit:
                return
            try:
                case = _make_case(row, content, self._wording)
            except ValueError as error:
                self.problems.append(Problem(row, str(error)))
                continue
            assert not isinstance(content, ValueError)
            before = list(self._pictures.items())[-1:]
            if not before or before[0][0] != case.image:
                self._pictures = {**dict(before), case.image: content['image']}
            yield case

    def _find_pictures(self) -> Iterator[Path]:
        """Yield the files that the rows name as their pictures."""
        for file in self._files:
            for content in _READERS[file.suffix](file):
                with suppress(OSError, ValueError):  # rows that are reported later
                    image = content.get('image') if isinstance(content, dict) else None
                    data, path = _find_source(image)
                    if not data and (self._files[0].parent / path).is_file():
                        yield self._files[0].parent / path

    def observe(self, case: Case) -> Observation | None:
        """Return image and events of a case of the last image, or of the one before it."""
        try:
            rgb = _read_image(self._pictures[case.image], self._files[0].parent)
        except ValueError as error:
            self.problems.append(Problem(case.number, str(error)))
            return None
        return Observation(rgb, still_image_activity(rgb))


def _find_files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in _READERS)
        if not files:
            raise ValueError(f'there is no .jsonl or .parquet file in {path}')
        return files
    if not path.is_file():
        raise ValueError(f'there is no file {path}: give a .jsonl or .parquet file')
    if path.suffix not in _READERS:
        raise ValueError(f'{path} is neither .jsonl nor .parquet: give one of these')
    return [path]


def _make_case(row: int, content: Any, wording: str) -> Case:
    if isinstance(content, ValueError):
        raise content
    if not isinstance(content, dict):
        raise ValueError(f'the row is {content!r:.40}: give an object with columns')
    missing = [name for name in ('image', 'question', 'answer') if content.get(name) is None]
    if missing:
        raise ValueError(f'the row has no {", ".join(missing)}')
    if not isinstance(content['question'], str) or not content['question'].strip():
        raise ValueError(f'the question is {content["question"]!r:.40}: give a text')
    image, answer = content['image'], content['answer']
    if isinstance(answer, bool) or not isinstance(answer, (str, int, float)):
        raise ValueError(f'the answer is {answer!r:.40}: give a text or a number')
    if isinstance(image, dict) and not isinstance(image.get('bytes'), (str, bytes, type(None))):
        raise ValueError(
            f"the image's bytes are {image['bytes']!r:.40}: give base64, in parquet binary")
    asked = split_question(content['question'])
    options = read_options(content.get('options')) or asked.options
    question = content['question'].strip()
    if wording == 'question':
        question = asked.stem
    elif options and not asked.options:
        question = join_question(asked.stem, options, asked.instruction or LETTER_INSTRUCTION)
    family = content.get('family') or content.get('category') or 'all'
    return Case(
        row, _name_image(image), question, read_truth(as_text(answer), options, asked.stem),
        str(family), options)


def _name_image(image: Any) -> str:
    """Return one name for equal images, whatever form they come in."""
    try:
        data, path = _find_source(image)
    except ValueError:  # is reported when the image is read
        data, path = repr(image).encode(), ''
    return hashlib.sha256(data).hexdigest()[:16] if data else path


def _find_source(image: Any) -> tuple[bytes, str]:
    """Return the bytes of a row's picture, or none and its path."""
    content = image if isinstance(image, dict) else {'path': image}
    data, path = content.get('bytes'), content.get('path')
    if isinstance(path, bytes):
        data = data or path
    elif not data and isinstance(path, str) and _BASE64_PICTURE.match(path):
        data = path.partition(',')[2] if path.startswith('data:') else path
    if isinstance(data, str):
        try:
            data = base64.b64decode(''.join(data.split()), validate=True)
        except ValueError:
            raise ValueError("the image's bytes are not valid base64") from None
    if not data and (not isinstance(path, str) or not path):
        raise ValueError('the image has neither bytes nor a path')
    return data or b'', path if isinstance(path, str) and not data else ''


def _read_image(image: Any, folder: Path) -> np.ndarray:
    """Return the picture of a row, uint8 (height, width, 3), red first."""
    data, path = _find_source(image)
    if not data:
        try:
            data = (folder / path).read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, 'strerror', None) or error
            raise ValueError(f'the image {path:.60} cannot be read: {reason}') from None
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:  # of a size beyond what is decoded, for one
        picture = None
    if picture is None:
        raise ValueError(f'the image {path or "in bytes"} is no picture that can be decoded')
    return np.ascontiguousarray(picture[:, :, ::-1])


def _count_rows(path: Path) -> int:
    if path.suffix == '.parquet':
        try:
            return int(_open_parquet(path).metadata.num_rows)
        except (OSError, ValueError) as error:
            raise ValueError(f'{path} cannot be read as parquet: {error}') from None
    with path.open('rb') as file:
        return sum(1 for line in file if line.strip())


def _read_json_lines(path: Path) -> Iterator[Row | ValueError]:
    with path.open('rb') as file:
        for line in file:
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:  # of JSON or of UTF-8
                    yield ValueError(f'the line is no JSON: {error}')


def _read_parquet(path: Path) -> Iterator[Row]:
    for batch in _open_parquet(path).iter_batches(batch_size=16):
        yield from batch.to_pylist()


def _open_parquet(path: Path) -> Any:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise ValueError(
            f'{path} is parquet, which needs pyarrow: pip install pyarrow, or give the same '
            'columns as JSON lines') from None
    return ParquetFile(path)


_READERS: dict[str, Callable[[Path], Iterator[Any]]] = {
    '.jsonl': _read_json_lines, '.parquet': _read_parquet}
