"""Batches of scenes with questions in tokens, made on the CPU by worker processes."""

from __future__ import annotations

from typing import Any, NamedTuple

from epvlm_ros.sim.question_maker import draw_questions
from epvlm_ros.sim.questions import (
    FAMILIES, MOTION, Question, RELATIONS, SceneSnapshot, snapshot_scene)
from epvlm_ros.sim.renderer import stack_scenes
from epvlm_ros.sim.sampling import sample_scene
from epvlm_ros.sim.scene import SPLITS
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from training.config import FAMILY_WEIGHTS, GRIDS
from training.free_tints import names_a_colour, paint_freely
from training.tokenizer import (
    build_vocabulary, END, PADDING, START, UNKNOWN_WORD, VISION_END, VISION_START)

TOKEN_SIZE_PX = 28
BLOCK_LENGTH = 26  # tokens of a question with its answer, from <|vision_end|> on
_ATTEMPTS = 6
_NOT_TO_BE_SEEN = 'direction'  # no picture shows it: the model learns to say so


class Batch(NamedTuple):
    """
    Scenes with questions.

    Attributes
    ----------
    grid : tuple of int
        Rows and columns of visual tokens.
    scenes : dict of str to Tensor
        Stacked scenes.
    times_s : Tensor float32 (scenes,)
        When the picture is taken.
    has_names : Tensor bool (scenes,)
        Whether the objects' colours are those that have names, see ``free_tints``.
    tokens : Tensor int64 (scenes, questions, BLOCK_LENGTH)
        From the end of the image to the end of the answer, padded.
    is_answer : Tensor bool, like tokens
        The tokens that the model is to say, the end of the answer included.
    family : Tensor int64 (scenes, questions)
        Indices into ``FAMILIES``.
    mention : Tensor int64 (scenes, questions, 2)
        Where the last words of the names of the subject and of the other object are among the
        tokens; 0 where there is none or no single object of that name.
    mention_centre : Tensor float32 (scenes, questions, 2, 2)
        Centres (y, x) of those objects in units.
    relation : Tensor int64 (scenes, questions)
        Indices into ``RELATIONS``; -1 where no relation is asked about.

    """

    grid: tuple[int, int]
    scenes: dict[str, Tensor]
    times_s: Tensor
    has_names: Tensor
    tokens: Tensor
    is_answer: Tensor
    family: Tensor
    mention: Tensor
    mention_centre: Tensor
    relation: Tensor


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
    if question.about not in ('colour', 'shape', 'place', 'relation', 'symbol'):
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


class BatchDataset(Dataset[Batch]):
    """Numbered batches of a split; equal numbers give equal batches, in any process."""

    def __init__(
        self, split: str, num_batches: int, batch_size: int, questions_per_image: int,
        first_batch: int = 0, grid: tuple[int, int] | None = None, free_tint_share: float = 0.0,
    ) -> None:
        """
        Make every batch on one ``grid``, or by default on grids drawn as training needs.

        ``free_tint_share`` of the scenes have colours without names.
        """
        self._free_tint_share = free_tint_share
        self._split, self._num_batches, self._grid = split, num_batches, grid
        self._batch_size, self._questions_per_image = batch_size, questions_per_image
        self._first_batch = first_batch
        self._numbers = build_vocabulary()
        weights = np.array([FAMILY_WEIGHTS[family] for family in FAMILIES])
        self._weights = weights / weights.sum()

    def __len__(self) -> int:
        """Return the number of batches."""
        return self._num_batches

    def __getitem__(self, position: int) -> Batch:
        """Make one batch."""
        number = position + self._first_batch
        random = np.random.default_rng([1000 + SPLITS[self._split], number])
        shares = [share for _, share in GRIDS]
        grid = self._grid or GRIDS[random.choice(len(GRIDS), p=shares)][0]
        size, questions = self._batch_size, self._questions_per_image
        tokens = np.full(
            (size, questions, BLOCK_LENGTH), self._numbers[PADDING], dtype=np.int64)
        is_answer = np.zeros(tokens.shape, dtype=bool)
        family = np.zeros((size, questions), dtype=np.int64)
        mention = np.zeros((size, questions, 2), dtype=np.int64)
        mention_centre = np.zeros((size, questions, 2, 2), dtype=np.float32)
        relation = np.full((size, questions), -1, dtype=np.int64)
        times_s = random.uniform(0.1, 3.0, size).astype(np.float32)
        has_names = random.random(size) >= self._free_tint_share
        scenes = []
        for row in range(size):
            scene = sample_scene(
                self._split, number * size + row, aspect_ratio=grid[1] / grid[0])
            if not has_names[row]:
                scene = paint_freely(scene, random)
            snapshot = snapshot_scene(scene, float(times_s[row]))
            for column in range(questions):
                question, words, start = self._make_block(snapshot, random, has_names[row])
                tokens[row, column, :len(words)] = words
                is_answer[row, column, start:len(words)] = True
                family[row, column] = FAMILIES.index(question.family)
                if question.relation:
                    relation[row, column] = RELATIONS.index(question.relation)
                for role, found in enumerate(find_mentions(question, snapshot)):
                    if found is not None:
                        mention[row, column, role], mention_centre[row, column, role] = found
            scenes.append(scene)
        arrays = (times_s, has_names, tokens, is_answer, family, mention, mention_centre, relation)
        return Batch(grid, stack_scenes(scenes), *(torch.from_numpy(item) for item in arrays))

    def _make_block(
        self, snapshot: SceneSnapshot, random: np.random.Generator, has_names: bool,
    ) -> tuple[Question, list[int], int]:
        while True:  # some family always has a question, 'existence' for one
            family = int(random.choice(len(FAMILIES), p=self._weights))
            for made in draw_questions(FAMILIES[family], snapshot, random, _ATTEMPTS):
                if not has_names and names_a_colour(*made):
                    continue
                answer = MOTION if made[0].family == _NOT_TO_BE_SEEN else made[1]
                block = encode_block(made[0].text, answer, self._numbers)
                if block:
                    return made[0], block[0], block[1]


def make_loader(dataset: BatchDataset, num_workers: int) -> DataLoader[Any]:
    """Return a loader of whole batches in order."""
    return DataLoader(
        dataset, batch_size=None, num_workers=num_workers,
        prefetch_factor=4 if num_workers else None)
