"""Batches of scenes with questions in tokens, made on the CPU by worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from epvlm_ros.sim.motion_questions import phrase_change
from epvlm_ros.sim.photographs import Photographs
from epvlm_ros.sim.question_maker import ATTEMPTS, draw_questions
from epvlm_ros.sim.questions import (
    FAMILIES, MOTION, NOTHING_TO_SEE, Question, SceneSnapshot, snapshot_scene, TOO_BRIGHT,
    TOO_DARK)
from epvlm_ros.sim.rearrangement import sample_still_scene
from epvlm_ros.sim.renderer import stack_scenes
from epvlm_ros.sim.sampling import sample_scene
from epvlm_ros.sim.scene import Scene, SPLITS
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from training import cameras
from training.blocks import Blocks, encode_block
from training.config import (
    CAMERA_MOVES_SHARE, CHANGE_SHARE, FAMILY_WEIGHTS, GOING_WEIGHTS, GRIDS, MEMORY_WEIGHTS,
    Mixture, MOMENT_WEIGHTS, PAST_SHARE, RANDOMISED_WEIGHTS)
from training.free_tints import names_a_colour, paint_freely
from training.moments import (
    ask_evenly, draw_arrangements, NUM_MOMENTS, SeenMoment, stack_arrangements)
from training.tokenizer import build_vocabulary

TOKEN_SIZE_PX = 28
_BETWEEN_S = (0.3, 0.65)  # two moments of what moves on and on
_BADLY_SEEN = 4  # every so many still scene has cameras of the randomised splits
_NOT_TO_BE_SEEN = 'direction'  # no picture shows it: the model learns to say so
# Kinds of batches.
MEMORY, MOMENTS, GOING, RANDOMISED, PLAIN = 'memory', 'moments', 'going', 'randomised', 'plain'
_WEIGHTS = {MEMORY: MEMORY_WEIGHTS, MOMENTS: MOMENT_WEIGHTS, GOING: GOING_WEIGHTS,
            RANDOMISED: RANDOMISED_WEIGHTS, PLAIN: FAMILY_WEIGHTS}
_RANDOMISED_SPLITS = {'train': 'randomised_train', 'validation': 'randomised_validation',
                      'test': 'randomised'}
_UNREADABLE_ANSWERS = {cameras.TOO_DARK: TOO_DARK, cameras.TOO_BRIGHT: TOO_BRIGHT,
                       cameras.EVEN: NOTHING_TO_SEE}


class Batch(NamedTuple):
    """
    Scenes with questions.

    Attributes
    ----------
    grid : tuple of int
        Rows and columns of visual tokens.
    in_memory : bool
        Whether the moments are one picture that is kept in memory while it changes; then all
        questions are about the last one.
    scenes : dict of str to Tensor
        Stacked scenes.
    moments : dict of str to Tensor
        How they lie at each moment, see ``stack_arrangements``; empty where they move by
        themselves.
    camera : dict of str to Tensor
        What they are seen by, see ``draw_camera``, each of shape (scenes,).
    times_s : Tensor float32 (scenes, moments)
        When the pictures are taken, the oldest first.
    is_readable : Tensor bool (scenes,)
        Whether frames show anything.
    has_names : Tensor bool (scenes,)
        Whether the objects' colours are those that have names, see ``free_tints``.
    tokens : Tensor int64 (scenes, questions, BLOCK_LENGTH)
        From the end of the image to the end of the answer, padded.
    is_answer : Tensor bool, like tokens
        The tokens that the model is to say, the end of the answer included.
    family : Tensor int64 (scenes, questions)
        Indices into ``ASKED_FAMILIES``.
    mention : Tensor int64 (scenes, questions, 2)
        Where the last words of the names of the subject and of the other object are among the
        tokens; 0 where there is none or no single object of that name.
    mention_centre : Tensor float32 (scenes, questions, 2, 2)
        Centres (y, x) of those objects in units.
    relation : Tensor int64 (scenes, questions)
        Indices into ``RELATIONS``; -1 where no relation is asked about.

    """

    grid: tuple[int, int]
    in_memory: bool
    scenes: dict[str, Tensor]
    moments: dict[str, Tensor]
    camera: dict[str, Tensor]
    times_s: Tensor
    is_readable: Tensor
    has_names: Tensor
    tokens: Tensor
    is_answer: Tensor
    family: Tensor
    mention: Tensor
    mention_centre: Tensor
    relation: Tensor

    @property
    def num_moments(self) -> int:
        """Return how many pictures are shown of each scene."""
        return self.times_s.shape[1]


def _normalise(weights: dict[str, float]) -> np.ndarray:
    found = np.array([weights[family] for family in FAMILIES])
    return np.asarray(found / found.sum())


_SHARES = {kind: _normalise(weights) for kind, weights in _WEIGHTS.items()}


class _Asked(NamedTuple):
    """What is asked about: a picture, and the moments that it is the last of."""

    kind: str
    snapshot: SceneSnapshot
    moments: list[SeenMoment]
    has_names: bool


def _draw_times(kind: str, num_scenes: int, random: np.random.Generator) -> np.ndarray:
    """Return when pictures are taken, float32 (scenes, moments)."""
    if kind not in (MEMORY, MOMENTS, GOING):
        return random.uniform(0.1, 3.0, (num_scenes, 1)).astype(np.float32)
    between_s = random.uniform(*_BETWEEN_S, (num_scenes, 1)) * np.arange(1 - NUM_MOMENTS, 1)
    return (random.uniform(1.4, 3.0, (num_scenes, 1)) + between_s).astype(np.float32)


def _ask_about_the_past(asked: _Asked, random: np.random.Generator) -> Question:
    """Ask what changed, of which one picture shows nothing."""
    kinds = ('appeared', 'disappeared', *(['did'] if asked.has_names else []))
    name = asked.snapshot.name(int(random.integers(len(asked.snapshot.shape))))
    question = phrase_change(kinds[random.integers(len(kinds))], name, random)
    return replace(question, family='motion', about='motion')


class BatchDataset(Dataset[Batch]):
    """Numbered batches of a split; equal numbers give equal batches, in any process."""

    def __init__(
        self, split: str, num_batches: int, batch_size: int, questions_per_image: int,
        first_batch: int = 0, grid: tuple[int, int] | None = None, mixture: Mixture = Mixture(),
        part: tuple[int, int] = (0, 1),
    ) -> None:
        """
        Make every batch on one ``grid``, or by default on grids drawn as training needs.

        All scenes of a batch are of one kind, drawn as ``mixture`` tells. ``part`` is the number
        of this data set and how many there are, of equal kinds and grids but other scenes.
        """
        self._split, self._num_batches, self._grid = split, num_batches, grid
        self._batch_size, self._questions_per_image = batch_size, questions_per_image
        self._first_batch, self._mixture, self._part = first_batch, mixture, part
        self._photographs = Photographs(mixture.photographs) if mixture.photographs else None
        self._numbers = build_vocabulary()

    def __len__(self) -> int:
        """Return the number of batches."""
        return self._num_batches

    def __getitem__(self, position: int) -> Batch:
        """Make one batch."""
        number = position + self._first_batch
        random = np.random.default_rng([1000 + SPLITS[self._split], number])
        shares = [share for _, share in GRIDS]
        grid = self._grid or GRIDS[random.choice(len(GRIDS), p=shares)][0]
        kind = self._draw_kind(random)
        part, num_parts = self._part
        if num_parts > 1:  # grid and kind are those of all, since a step takes as long as theirs
            number = num_parts * number + part
            random = np.random.default_rng([1000 + SPLITS[self._split], number, num_parts])
        size, num_questions = self._batch_size, self._questions_per_image
        times_s = _draw_times(kind, size, random)
        has_names = (random.random(size) >= self._mixture.free_tints) | (kind != PLAIN)
        fault = random.integers(1, 4, size) * (random.random(size) < self._mixture.unreadable)
        blocks = Blocks(size, num_questions, self._numbers)
        scenes, arranged, seen_by = [], [], []
        for row in range(size):
            index = number * size + row
            scene, split = self._sample(kind, index, grid[1] / grid[0], random)
            scene = scene if has_names[row] else paint_freely(scene, random)
            moments: list[SeenMoment] = []
            if kind in (MEMORY, MOMENTS):
                arranged.append(draw_arrangements(scene, random))
                moments = [moment.see(scene) for moment in arranged[-1]]
            snapshot = moments[-1].view if moments else snapshot_scene(
                scene, float(times_s[row, -1]))
            made = self._ask(_Asked(kind, snapshot, moments, bool(has_names[row])), random)
            for column in range(num_questions):
                while not blocks.write(
                        (row, column), *next(made), snapshot,
                        _UNREADABLE_ANSWERS.get(int(fault[row]))):
                    pass  # until one fits
            scenes.append(scene)
            seen_by.append(cameras.draw_camera(split, index, random, int(fault[row])))
        camera = {name: torch.tensor([item[name] for item in seen_by]) for name in seen_by[0]}
        given = (torch.from_numpy(item) for item in (times_s, fault == 0, has_names))
        return Batch(
            grid, kind == MEMORY, stack_scenes(scenes), stack_arrangements(arranged), camera,
            *given,
            *(torch.from_numpy(item) for item in blocks.arrays()))

    def _draw_kind(self, random: np.random.Generator) -> str:
        if self._mixture.memory and random.random() < self._mixture.memory:
            return MEMORY
        if random.random() < self._mixture.motion:
            return GOING if random.random() < self._mixture.going else MOMENTS
        return RANDOMISED if random.random() < self._mixture.randomised else PLAIN

    def _sample(
        self, kind: str, index: int, aspect_ratio: float, random: np.random.Generator,
    ) -> tuple[Scene, str]:
        """Return a scene and the split of the cameras that see it."""
        if kind in (MEMORY, MOMENTS):
            is_seen_badly = index % _BADLY_SEEN == 0
            camera_moves = kind == MOMENTS and random.random() < CAMERA_MOVES_SHARE
            scene = sample_still_scene(
                self._split, index, aspect_ratio, beside_middle=camera_moves)
            return scene, _RANDOMISED_SPLITS[self._split] if is_seen_badly else self._split
        split = _RANDOMISED_SPLITS[self._split] if kind == RANDOMISED else self._split
        return sample_scene(
            split, index, aspect_ratio=aspect_ratio, photographs=self._photographs), split

    def _ask(
        self, asked: _Asked, random: np.random.Generator,
    ) -> Iterator[tuple[Question, str]]:
        """Yield questions that fit a block with their answers, without end."""
        changes: list[tuple[Question, str]] = []
        while True:
            wants_change = asked.kind == MOMENTS and random.random() < CHANGE_SHARE
            if wants_change and not changes:
                changes = [made for made in ask_evenly(asked.moments, random)
                           if encode_block(made[0].text, made[1], self._numbers)]
            if wants_change and changes:
                yield changes.pop()
            elif asked.kind in (PLAIN, RANDOMISED) and random.random() < PAST_SHARE:
                yield _ask_about_the_past(asked, random), MOTION
            else:
                yield self._ask_about_picture(asked, random)

    def _ask_about_picture(
        self, asked: _Asked, random: np.random.Generator,
    ) -> tuple[Question, str]:
        weights = _SHARES[asked.kind]
        while True:  # some family always has a question, 'existence' for one
            family = FAMILIES[int(random.choice(len(FAMILIES), p=weights))]
            for question, answer in draw_questions(family, asked.snapshot, random, ATTEMPTS):
                if not asked.has_names and names_a_colour(question, answer):
                    continue
                answer = MOTION if family == _NOT_TO_BE_SEEN else answer
                if encode_block(question.text, answer, self._numbers):
                    return question, answer


def make_loader(dataset: BatchDataset, num_workers: int) -> DataLoader[Any]:
    """Return a loader of whole batches in order."""
    return DataLoader(
        dataset, batch_size=None, num_workers=num_workers,
        prefetch_factor=4 if num_workers else None)
