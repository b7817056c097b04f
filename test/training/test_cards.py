"""One training on several cards: processes that share gradients, and parts of the same batches."""

import os
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest
import torch
from training.batches import BatchDataset
from training.cards import agree_on, average_gradients, join_others
from training.config import Mixture

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import torch
from training.cards import agree_on, average_gradients, join_others, own_number

device, rank = join_others('cpu'), own_number()
layer, unused = torch.nn.Linear(2, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
layer(torch.tensor([[1.0 + rank, 4.0]])).sum().backward()
average_gradients([*layer.parameters(), *unused.parameters()])
print(f'{layer.weight.grad.tolist()} {unused.weight.grad.tolist()} '
      f'{agree_on(0.25 * (1 + rank), device)}\\n', end='', flush=True)
torch.distributed.destroy_process_group()
"""


@pytest.mark.process
def test_cards_take_the_mean_of_their_gradients_and_end_together(tmp_path: Path) -> None:
    script = tmp_path / 'train_together.py'
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2',
         str(script)], env=os.environ | {'PYTHONPATH': str(ROOT)}, capture_output=True, text=True,
        timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == 2 * ['[[1.5, 4.0]] [[0.0]] 0.5']


def test_one_card_keeps_its_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('WORLD_SIZE', raising=False)
    layer = torch.nn.Linear(2, 1, bias=False)
    average_gradients(layer.parameters())
    assert layer.weight.grad is None
    assert agree_on(0.25, join_others('cpu')) == 0.25


def test_parts_are_alike_and_show_other_scenes() -> None:
    mixture = Mixture(memory=0.2, motion=0.4, randomised=0.5)
    parts = [BatchDataset('train', 6, 2, 1, mixture=mixture, part=(number, 2))
             for number in range(2)]
    for position in range(6):
        one, other = (part[position] for part in parts)
        assert one.grid == other.grid and one.in_memory == other.in_memory
        assert one.num_moments == other.num_moments
        assert not np.array_equal(one.scenes['anchor'], other.scenes['anchor'])
