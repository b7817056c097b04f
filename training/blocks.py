"""Questions with their answers in tokens, side by side behind the pictures."""

from __future__ import annotations

from epvlm_ros.sim.motion_questions import CHANGE_FAMILIES
from epvlm_ros.sim.questions import FAMILIES, Question, RELATIONS, SceneSnapshot
import numpy as np
from training.tokenizer import (
    build_vocabulary, END, PADDING, START, UNKNOWN_WORD, VISION_END, VISION_START)

BLOCK_LENGTH = 26  # tokens of a question with its answer, from <|vision_end|> on
ASKED_FAMILIES = FAMILIES + CHANGE_FAMILIES


def prefix_tokens() -> list[int]:
    """Return the tokens before the visual tokens."""
    numbers = build_vocabulary()
    return [numbers[START], numbers['user'], numbers[VISION_START]]


def encode_words(text: str, numbers: dict[str, int]) -> list[int]:
    """Return the tokens of a text in lower case without punctuation other than commas."""
    unknown = numbers[UNKNOWN_WORD]
    return [numbers.get(word, unknown) for word in text.replace(',', ' ,').split()]


def encode_block(
    question: str, answer: str, numbers: dict[str, int],
) -> tuple[list[int], int] | None:
    """Return the tokens from the end of the image on and where the answer starts, if they fit."""
    asked = [numbers[VISION_END], *encode_words(question, numbers),
             numbers[END], numbers[START], numbers['assistant']]
    tokens = [*asked, *encode_words(answer, numbers), numbers[END]]
    return None if len(tokens) > BLOCK_LENGTH else (tokens, len(asked))


def find_mentions(
    question: Question, snapshot: SceneSnapshot,
) -> list[tuple[int, np.ndarray] | None]:
    """
    Return where the names of single objects end, and where the objects are.

    Returns
    -------
    list of (int, float32 (2,)) or None
        For the subject and the other object: the place of the name's last word among the
        question's tokens, and the centre (y, x) in units.

    """
    words = question.text.split()
    found: list[tuple[int, np.ndarray] | None] = [None, None]
    if question.about not in ('colour', 'shape', 'place', 'relation', 'symbol', 'did',
                              'moved_direction'):
        return found
    for role, name in enumerate((question.subject, question.other)):
        if name is None or len(snapshot.find(name)) != 1:
            continue
        texts = [name.text(), name.text().replace('object', 'thing')]
        ends = [end for end in range(len(words) + 1) for text in texts
                if words[max(0, end - len(text.split())):end] == text.split()]
        place = ends[0] if role == 0 else ends[-1]  # 1 more than the index: <|vision_end|> leads
        found[role] = (place, snapshot.centres[snapshot.find(name)[0]])
    return found


class Blocks:
    """Questions with answers in tokens, as they stand in a ``Batch``."""

    def __init__(self, size: int, num_questions: int, numbers: dict[str, int]) -> None:
        """Make room for questions about scenes, in the words of a vocabulary."""
        shape = (size, num_questions)
        self._numbers = numbers
        self._tokens = np.full((*shape, BLOCK_LENGTH), numbers[PADDING], dtype=np.int64)
        self._is_answer = np.zeros(self._tokens.shape, dtype=bool)
        self._family = np.zeros(shape, dtype=np.int64)
        self._mention = np.zeros((*shape, 2), dtype=np.int64)
        self._mention_centre = np.zeros((*shape, 2, 2), dtype=np.float32)
        self._relation = np.full(shape, -1, dtype=np.int64)

    def write(
        self, place: tuple[int, int], question: Question, answer: str, snapshot: SceneSnapshot,
        instead: str | None = None,
    ) -> bool:
        """
        Put a question about a snapshot with its answer into its place (scene, number), if it fits.

        ``instead`` is the answer where frames show nothing.
        """
        block = encode_block(question.text, answer if instead is None else instead, self._numbers)
        if block is None:
            return False
        words, start = block
        self._tokens[place][:len(words)] = words
        self._is_answer[place][start:len(words)] = True
        self._family[place] = ASKED_FAMILIES.index(question.family)
        if instead is not None:
            return True  # nothing else is to be learned
        if question.relation:
            self._relation[place] = RELATIONS.index(question.relation)
        for role, found in enumerate(find_mentions(question, snapshot)):
            if found is not None:
                self._mention[place][role], self._mention_centre[place][role] = found
        return True

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Return all in the order of ``Batch``."""
        return (self._tokens, self._is_answer, self._family, self._mention,
                self._mention_centre, self._relation)
