"""
Held-out accuracy of a checkpoint: ``python -m training.evaluate FOLDER --device cuda``.

``--show`` takes scenes whose looks say little (``randomised``) or three moments (``moments``).

An answer is right when greedy decoding says every word of it and then stops. Every next word is
scored behind the true ones, which decides the same: the first wrong word ends it either way.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import json
from pathlib import Path

from epvlm_ros.vlm.token_selection.moments import share_budget
import numpy as np
import torch
from torch import Tensor
from training.batches import Batch, BatchDataset, make_loader
from training.blocks import ASKED_FAMILIES, prefix_tokens
from training.config import Mixture
from training.kept_tokens import choose_in_moments, SELECTIONS
from training.pictures import draw_pictures, Pictures
from training.sparse_forward import run_model
from training.tokenizer import build_vocabulary, UNKNOWN_WORD
from training.train import move_batch
from transformers import Qwen2VLForConditionalGeneration

CONDITIONS = (
    ('dense', 1.0), ('events_and_saliency', 0.5), ('events_and_saliency', 0.3),
    ('events_and_saliency', 0.2), ('events', 0.5), ('events', 0.3), ('random', 0.5),
    ('random', 0.3), ('objects', 0.2))
SHOWN = {'plain': Mixture(), 'randomised': Mixture(randomised=1.0),
         'moments': Mixture(motion=1.0),
         'going': Mixture(motion=1.0, going=1.0)}
_LIBRARY_ROWS = 32  # questions in one call of the library's forward

Scorer = Callable[[Batch, Pictures], Tensor]


def sparse_scorer(
    model: Qwen2VLForConditionalGeneration, selection: str, keep_ratio: float,
    generator: torch.Generator,
) -> Scorer:
    """Return what tells right answers when only some tokens are computed on."""
    def score(batch: Batch, pictures: Pictures) -> Tensor:
        num_tokens, num_moments = batch.grid[0] * batch.grid[1], batch.num_moments
        counts: tuple[int, ...] = (num_tokens,) * num_moments
        if selection != 'dense':
            counts = share_budget(
                max(1, round(keep_ratio * num_tokens)), (num_tokens,) * (num_moments - 1))
        number = SELECTIONS.index('random' if selection == 'dense' else selection)
        kept = choose_in_moments(
            pictures, batch, counts, torch.full_like(batch.times_s[:, 0], number).long(),
            generator, by_change=num_moments > 1 and selection != 'random')
        result = run_model(
            model, pictures.patches, kept, batch.grid, batch.tokens, counts)
        return _right(result.logits, batch)
    return score


def library_scorer(model: Qwen2VLForConditionalGeneration) -> Scorer:
    """Return what tells right answers by the library's own dense forward."""
    def score(batch: Batch, pictures: Pictures) -> Tensor:
        num_scenes, num_questions, length = batch.tokens.shape
        rows = [(scene, question) for scene in range(num_scenes)
                for question in range(num_questions)]
        logits = []
        for start in range(0, len(rows), _LIBRARY_ROWS):
            scene, question = torch.tensor(rows[start:start + _LIBRARY_ROWS]).unbind(dim=1)
            inputs = library_inputs(
                model, pictures.patches[scene], batch.grid, batch.tokens[scene, question],
                batch.num_moments)
            logits.append(model(**inputs).logits[:, -length:])
        return _right(torch.cat(logits).reshape(num_scenes, num_questions, length, -1), batch)
    return score


def library_inputs(
    model: Qwen2VLForConditionalGeneration, patches: Tensor, grid: tuple[int, int],
    tokens: Tensor, num_moments: int = 1,
) -> dict[str, Tensor]:
    """
    Return the arguments of the library's forward for one question per scene.

    Parameters
    ----------
    model : Qwen2VLForConditionalGeneration
        The model; its configuration names the image token.
    patches : Tensor float32 (rows, moments * tokens, 4, 588)
        Pictures; several moments are a video.
    grid : tuple of int
        Rows and columns of visual tokens.
    tokens : Tensor int64 (rows, length)
        The question from the end of the image on.
    num_moments : int
        Pictures of each scene.

    """
    device, num_rows = tokens.device, len(tokens)
    is_video = num_moments > 1
    visual_id = model.config.video_token_id if is_video else model.config.image_token_id
    image = torch.full((num_rows, patches.shape[1]), visual_id, device=device)
    prefix = torch.tensor(prefix_tokens(), device=device).expand(num_rows, -1)
    ids = torch.cat([prefix, image, tokens], dim=1)
    # The processor repeats each picture in time: channel, time, row, column.
    pixels = patches.reshape(-1, 3, 1, 14, 14).expand(-1, -1, 2, -1, -1).reshape(-1, 1176)
    grids = torch.tensor([[num_moments, 2 * grid[0], 2 * grid[1]]] * num_rows, device=device)
    names = ('pixel_values_videos', 'video_grid_thw') if is_video else (
        'pixel_values', 'image_grid_thw')
    return {
        'input_ids': ids, 'attention_mask': torch.ones_like(ids),
        **dict(zip(names, (pixels, grids))),
        'mm_token_type_ids': (ids == visual_id).int() * (1 + is_video)}


def _right(logits: Tensor, batch: Batch) -> Tensor:
    """Return which answers are right, bool (scenes, questions)."""
    said, targets = logits[:, :, :-1].argmax(dim=-1), batch.tokens[:, :, 1:]
    return ((said == targets) | ~batch.is_answer[:, :, 1:]).all(dim=-1)


@torch.inference_mode()
def evaluate(
    model: Qwen2VLForConditionalGeneration, scorers: dict[str, Scorer], split: str,
    num_images: int, device: torch.device, batch_size: int = 64, num_workers: int = 0,
    mixture: Mixture = Mixture(),
) -> dict[str, dict[str, float]]:
    """
    Return the accuracy, 0 to 1, of each scorer by family, over all ('all') and the counts.

    Images come on all grids of training, unaltered by augmentation, at least one batch.
    """
    model.eval()
    dataset = BatchDataset(
        split, max(1, num_images // batch_size), batch_size, 8, mixture=mixture)
    generator = torch.Generator(device).manual_seed(0)
    right: dict[str, list[np.ndarray]] = {name: [] for name in scorers}
    families = []
    for batch in make_loader(dataset, num_workers):
        batch = _in_words_of(model, move_batch(batch, device))
        pictures = draw_pictures(batch, generator, augment=False)
        families.append(batch.family.flatten().cpu().numpy())
        for name, scorer in scorers.items():
            right[name].append(scorer(batch, pictures).flatten().cpu().numpy())
    family = np.concatenate(families)
    table = {name: _by_family(np.concatenate(flags), family) for name, flags in right.items()}
    table['questions'] = _by_family(None, family)
    return table


def _in_words_of(model: Qwen2VLForConditionalGeneration, batch: Batch) -> Batch:
    """Return a batch in which words that came after the model are unknown ones to it."""
    unknown = build_vocabulary()[UNKNOWN_WORD]
    is_known = batch.tokens < len(model.lm_head.weight)
    return batch._replace(tokens=batch.tokens.where(is_known, unknown))


def _by_family(right: np.ndarray | None, family: np.ndarray) -> dict[str, float]:
    """Return mean accuracies, or numbers of questions where there are no flags."""
    chosen = {'all': np.ones(len(family), dtype=bool)}
    chosen |= {name: family == number for number, name in enumerate(ASKED_FAMILIES)}
    if right is None:
        return {name: int(mask.sum()) for name, mask in chosen.items()}
    return {
        name: round(float(right[mask].mean()), 4) for name, mask in chosen.items() if mask.any()}


def main(arguments: list[str] | None = None) -> None:
    """Evaluate as the command line says, print a table and write JSON."""
    parser = argparse.ArgumentParser(description='Measure held-out accuracy.')
    parser.add_argument('folder', type=Path, help='checkpoint')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--images', type=int, default=2048)
    parser.add_argument('--library-images', type=int, default=256)
    parser.add_argument('--num-workers', type=int, default=0)
    parser.add_argument('--split', default='test')
    parser.add_argument('--show', choices=SHOWN, default='plain')
    parser.add_argument('--out', type=Path, help='JSON file; evaluation.json in the folder')
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    model = Qwen2VLForConditionalGeneration.from_pretrained(options.folder, dtype=torch.float32)
    model.to(device)  # type: ignore[arg-type]
    generator = torch.Generator(device).manual_seed(1)
    scorers = {
        f'{selection} {keep_ratio}': sparse_scorer(model, selection, keep_ratio, generator)
        for selection, keep_ratio in CONDITIONS}
    table = evaluate(
        model, scorers, options.split, options.images, device, min(64, options.images),
        options.num_workers, SHOWN[options.show])
    if options.library_images:
        by_library = evaluate(
            model, {'dense, library': library_scorer(model), 'dense, same': scorers['dense 1.0']},
            options.split, options.library_images, device, min(64, options.library_images),
            mixture=SHOWN[options.show])
        table |= {name: by_library[name] for name in ('dense, library', 'dense, same')}
    out = options.out or options.folder / 'evaluation.json'
    out.write_text(json.dumps(table, indent=1) + '\n')
    print(format_table(table))


def format_table(table: dict[str, dict[str, float]]) -> str:
    """Return the accuracies in per cent as a Markdown table, a column for each family."""
    names = ['all', *(name for name in ASKED_FAMILIES if table['questions'].get(name))]
    lines = ['| | ' + ' | '.join(names) + ' |', '| --- ' * (len(names) + 1) + '|']
    for row, values in table.items():
        cells = [
            '' if name not in values else
            str(values[name]) if row == 'questions' else f'{100 * values[name]:.1f}'
            for name in names]
        lines.append(f'| {row} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


if __name__ == '__main__':
    main()
