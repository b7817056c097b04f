"""Whole evaluations: the same answers from a file as from the simulator, resumed, reported."""

import argparse
import json
from pathlib import Path

import cv2
from epvlm_ros.cli import main
from epvlm_ros.eval.command import add_eval_options, eval_command
import numpy as np
import pytest

POLICIES = ('random', 'uniform', 'events')


def evaluate(*arguments):
    parser = argparse.ArgumentParser()
    add_eval_options(parser)
    eval_command(parser.parse_args(
        [*map(str, arguments), '--device', 'cpu', '--num-threads', '1', '--max-new-tokens', '24']))


def read_answers(folder):
    header, *lines = (Path(folder) / 'answers.jsonl').read_text().splitlines()
    return [record for line in lines for record in json.loads(line)]


@pytest.fixture(scope='module')
def internal(tmp_path_factory):
    """Return the folder of an evaluation of 12 questions with events of a small motion."""
    folder = tmp_path_factory.mktemp('evaluations') / 'internal'
    evaluate('simulated', '--questions', 12, '--events', 'microsaccade', '--policies', *POLICIES,
             '--keep', 0.3, '--output', folder)
    return folder


@pytest.mark.parametrize('ending', ['jsonl', 'parquet'])
def test_questions_in_columns_of_realworldqa_get_the_same_answers(internal, tmp_path, ending):
    if ending == 'parquet':
        pytest.importorskip('pyarrow')
    path = tmp_path / f'questions.{ending}'
    evaluate('simulated', '--questions', 12, '--export', path)
    evaluate(path, '--wording', 'question', '--policies', *POLICIES, '--keep', 0.3, '--output',
             tmp_path / 'out', '--no-plot')
    compared = ('setting', 'question', 'answer', 'right', 'family', 'tokens_kept', 'flops_used')
    found, expected = (
        [tuple(record[key] for key in compared) for record in read_answers(folder)]
        for folder in (tmp_path / 'out', internal))
    assert found == expected and len(found) == 12 * 4


def test_what_an_evaluation_leaves(internal, capsys):
    summary = json.loads((internal / 'summary.json').read_text())
    answers = read_answers(internal)
    assert summary['questions'] == 12 and summary['problems'] == []
    assert len(answers) == 12 * 4
    for name, item in summary['settings'].items():
        mine = [record for record in answers if record['setting'] == name]
        share = sum(record['right'] for record in mine) / 12
        assert item['accuracy']['value'] == pytest.approx(share)
        assert item['tokens_kept'] == (192 if name == 'dense' else 58)
    assert summary['settings']['dense']['accuracy']['value'] > 0.7
    assert summary['settings']['uniform, keep 0.3']['flops_saved'] > 0.6
    report = (internal / 'report.md').read_text()
    assert 'events, keep 0.3' in report and 'relation' in report
    plot = cv2.imread(str(internal / 'accuracy.png'))
    assert plot.shape == (600, 960, 3) and plot.std() > 10


def test_a_stopped_run_goes_on_where_it_was(tmp_path, capsys):
    arguments = ['simulated', '--policies', 'uniform', '--keep', 0.5, '--no-plot', '--output',
                 tmp_path]
    evaluate(*arguments, '--questions', 4)
    path = tmp_path / 'answers.jsonl'
    lines = path.read_bytes().splitlines(keepends=True)
    # killed in the middle of a line; what is there must be taken as it is
    marked = lines[1].replace(b'"answer": "', b'"answer": "marked ')
    path.write_bytes(b''.join([lines[0], marked, lines[2], lines[3][:50]]))
    evaluate(*arguments, '--questions', 6)
    after = path.read_bytes().splitlines(keepends=True)
    assert after[:3] == [lines[0], marked, lines[2]] and len(after) == 7
    answers = read_answers(tmp_path)
    assert [record['number'] for record in answers] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    same = [json.loads(line) for line in (lines[3], after[3])]
    for before, now in zip(*same):
        assert {**before, 'ttft_ms': 0} == {**now, 'ttft_ms': 0}
    assert '6 questions about 1 images' in capsys.readouterr().out


def test_answers_of_another_run_are_refused(tmp_path):
    arguments = ['simulated', '--questions', 1, '--no-plot', '--output', tmp_path]
    evaluate(*arguments, '--policies', 'uniform', '--keep', 0.5)
    before = (tmp_path / 'answers.jsonl').read_bytes()
    with pytest.raises(ValueError, match=r'another run \(settings was .*keep 0.3.*another --out'):
        evaluate(*arguments, '--policies', 'uniform', '--keep', 0.3)
    with pytest.raises(ValueError, match='questions was .*first_scene'):
        evaluate(*arguments, '--policies', 'uniform', '--keep', 0.5, '--first-scene', 9)
    assert (tmp_path / 'answers.jsonl').read_bytes() == before
    (tmp_path / 'answers.jsonl').write_text('something else\n')
    with pytest.raises(ValueError, match='no file of answers'):
        evaluate(*arguments, '--policies', 'uniform', '--keep', 0.5)


def test_rows_that_cannot_be_asked_are_reported_and_the_run_goes_on(tmp_path, capsys):
    path = tmp_path / 'questions.jsonl'
    evaluate('simulated', '--questions', 3, '--export', path)
    rows = path.read_text().splitlines()
    lost = {**json.loads(rows[1]), 'image': 'lost.png'}
    strange = {**json.loads(rows[1]), 'answer': 'Z'}
    control = {**json.loads(rows[1]), 'question': 'what <|im_end|> is it?', 'answer': 'b'}
    cv2.imwrite(str(tmp_path / 'small.png'), np.zeros((20, 20, 3), np.uint8))
    tiny = {'image': 'small.png', 'question': 'what is it?', 'answer': 'b'}
    path.write_text('\n'.join([rows[0], '{', *map(json.dumps, (lost, strange, control, tiny)),
                               rows[2]]))
    evaluate(path, '--wording', 'question', '--policies', 'uniform', '--saved', 0.5, '--output',
             tmp_path / 'out', '--no-plot')
    summary = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    reasons = {problem['row']: problem['reason'] for problem in summary['problems']}
    assert list(reasons) == [2, 3, 4, 5, 6] and summary['questions'] == 2
    for row, words in ((2, 'no JSON'), (3, 'lost.png'), (4, "'Z'"), (5, 'control tokens'),
                       (6, '20 x 20')):
        assert words in reasons[row]
    assert summary['settings']['uniform, saved 0.5']['flops_saved'] >= 0.5
    assert '5 rows could not be asked:\n  row 2: ' in capsys.readouterr().out


@pytest.mark.parametrize('arguments, words', [
    (['simulated', '--policies', 'attention'], '--policies attention: give some of events'),
    (['simulated', '--keep', '0'], '--keep 0.0: give more than 0'),
    (['simulated', '--questions', '-1'], '--questions is -1'),
    (['lost.jsonl'], 'there is no file lost.jsonl'),
    (['simulated', '--export', 'questions.csv'], 'neither .jsonl nor .parquet')])
def test_wrong_arguments_are_refused(tmp_path, arguments, words):
    with pytest.raises(ValueError, match=words):
        evaluate(*arguments, '--output', tmp_path)


def test_the_command_line_names_what_is_wrong(capsys):
    with pytest.raises(SystemExit, match='epvlm eval: there is no file lost.jsonl: give'):
        main(['eval', 'lost.jsonl'])
    with pytest.raises(SystemExit) as usage:
        main(['eval', 'simulated', '--keep', '0.5', '--saved', '0.5'])
    assert usage.value.code == 2 and 'not allowed with' in capsys.readouterr().err


def test_controls_that_need_a_simulation_are_refused_for_a_file(tmp_path):
    path = tmp_path / 'a.jsonl'
    path.write_text('{}\n')
    with pytest.raises(ValueError, match='--policies oracle: give some of'):
        evaluate(path, '--policies', 'oracle', '--output', tmp_path)
    with pytest.raises(ValueError, match='none of the 1 questions .*row 1: the row has no image'):
        evaluate(path, '--output', tmp_path / 'none')
    with pytest.raises(ValueError, match='give the source simulated'):
        evaluate(path, '--export', tmp_path / 'b.jsonl')
