"""Whole evaluations: the same answers from a file, alone and in processes, resumed, reported."""

import argparse
import json
from pathlib import Path

import cv2
from epvlm_ros.cli import main
from epvlm_ros.eval.answer_file import AnswerFile
from epvlm_ros.eval.command import add_eval_options, describe_run, eval_command
from epvlm_ros.eval.motion import MotionConfig, MotionSet
from epvlm_ros.eval.policies import activity_for
from epvlm_ros.eval.question_files import FileSet
from epvlm_ros.eval.run import group_by_image, Job, run_job
from epvlm_ros.eval.settings import configure, make_settings
from epvlm_ros.eval.simulated import SimulatedSet, SimulationConfig
from epvlm_ros.vlm.checkpoint import load_checkpoint
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine import Moment, VlmEngine
from huggingface_hub import constants as hub
import numpy as np
import pytest

pytestmark = pytest.mark.long

POLICIES = ('random', 'events_and_saliency')
NUM_QUESTIONS = 200
SMALL = ('--max-pixels', 80_000)  # 88 visual tokens of an image of 640 x 480


def evaluate(*arguments):
    parser = argparse.ArgumentParser()
    add_eval_options(parser)
    options = ('--device', 'cpu', '--num-threads', '1', '--max-new-tokens', '24', *arguments)
    if '--timed' not in options:
        options = (*options, '--timed', '0')
    eval_command(parser.parse_args([*map(str, options)]))


def read_answers(folder):
    header, *lines = (Path(folder) / 'answers.jsonl').read_text().splitlines()
    return [record for line in lines for record in json.loads(line)]


@pytest.fixture(scope='module')
def internal(tmp_path_factory):
    """Return the folder of an evaluation of questions with events of a small motion."""
    folder = tmp_path_factory.mktemp('evaluations') / 'internal'
    evaluate('simulated', '--questions', NUM_QUESTIONS, '--events', 'microsaccade', '--policies',
             *POLICIES, '--keep', 0.3, '--output', folder, '--timed', 2, *SMALL)
    return folder


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """Return the same questions in JSON lines, with RealWorldQA's columns."""
    path = tmp_path_factory.mktemp('exported') / 'questions.jsonl'
    evaluate('simulated', '--questions', NUM_QUESTIONS, '--export', path)
    return path


@pytest.mark.slow
def test_questions_in_columns_of_realworldqa_get_the_same_answers(internal, exported, tmp_path):
    evaluate(exported, '--wording', 'question', '--policies', *POLICIES, '--keep', 0.3, '--output',
             tmp_path, '--no-plot', *SMALL)
    compared = ('setting', 'question', 'answer', 'right', 'family', 'tokens_kept', 'flops_used')
    found, expected = (
        [tuple(record[key] for key in compared) for record in read_answers(folder)]
        for folder in (tmp_path, internal))
    assert found == expected and len(found) == NUM_QUESTIONS * 3
    numbers = [json.loads((folder / 'summary.json').read_text())['settings']
               for folder in (tmp_path, internal)]
    for name, item in numbers[0].items():
        assert item['accuracy'] == numbers[1][name]['accuracy']
        assert item['difference_to_random'] == numbers[1][name]['difference_to_random']


@pytest.mark.slow
def test_parquet_holds_the_same_questions_and_images(exported, tmp_path):
    pytest.importorskip('pyarrow')
    path = tmp_path / 'questions.parquet'
    evaluate('simulated', '--questions', NUM_QUESTIONS, '--export', path)
    sets = [FileSet(file, 'question') for file in (exported, path)]
    num_images = 0
    for lines, rows in zip(*map(group_by_image, sets), strict=True):
        assert lines == rows
        observations = [questions.observe(lines[0]) for questions in sets]
        np.testing.assert_array_equal(observations[0].rgb, observations[1].rgb)
        first, second = (found.activity.counts for found in observations)
        np.testing.assert_array_equal(first, second)
        num_images += 1
    assert num_images >= 10 and not sets[0].problems and not sets[1].problems


@pytest.mark.long
def test_what_an_evaluation_leaves(internal):
    summary = json.loads((internal / 'summary.json').read_text())
    answers = read_answers(internal)
    assert summary['questions'] == NUM_QUESTIONS and summary['problems'] == []
    assert len(answers) == NUM_QUESTIONS * 3
    for name, item in summary['settings'].items():
        mine = [record for record in answers if record['setting'] == name]
        share = sum(record['right'] for record in mine) / NUM_QUESTIONS
        assert item['accuracy']['value'] == pytest.approx(share)
        assert item['tokens_kept'] == (88 if name == 'dense' else 26)
        assert item['median_ttft_ms'] > 0
    assert summary['settings']['dense']['accuracy']['value'] > 0.6
    assert summary['settings']['random, keep 0.3']['flops_saved'] > 0.6
    report = (internal / 'report.md').read_text()
    assert 'events_and_saliency, keep 0.3' in report and '| relation' in report
    assert '### Answerable from one frame' in report
    plot = cv2.imread(str(internal / 'accuracy.png'))
    assert plot.shape == (600, 1140, 3) and plot.std() > 10


@pytest.mark.long
def test_answers_are_those_of_the_engine_alone(internal):
    config = VlmConfig(device='cpu', max_pixels=80_000, max_new_tokens=24)
    engine = VlmEngine(load_checkpoint(config), config)
    questions = SimulatedSet(SimulationConfig(num_questions=22, events='microsaccade'))
    by_number = {}
    for record in read_answers(internal):
        by_number.setdefault(record['number'], []).append(record)
    for cases in group_by_image(questions):
        observation = questions.observe(cases[0])
        for case in cases:
            for record in by_number[case.number]:
                activity = activity_for(record['policy'], observation, cases[0].number)
                engine.reconfigure(configure(config, record['policy']))
                alone = engine.answer(
                    observation.rgb, case.question, activity,
                    keep_ratio=1.0 if record['policy'] == 'dense' else 0.3)
                assert (alone.text, alone.num_tokens_kept, alone.flops_used, alone.fallback) == (
                    record['answer'], record['tokens_kept'], record['flops_used'],
                    record['fallback'])


@pytest.mark.slow
def test_several_moments_share_the_budget_of_one_frame(tmp_path):
    for number in (1, 3):
        evaluate('simulated-motion', '--questions', 4, '--moments', number, '--policies', 'events',
                 '--keep', 0.3, '--output', tmp_path / str(number), '--no-plot', *SMALL)
    one, three = (read_answers(tmp_path / number) for number in '13')
    assert [record['question'] for record in one] == [record['question'] for record in three]
    dense, sparse = three[:2]
    assert (dense['setting'], dense['tokens'], dense['tokens_kept']) == ('dense', 264, 264)
    assert sparse['tokens'] == 264 and one[1]['tokens_kept'] == 26
    assert 24 <= sparse['tokens_kept'] <= 27  # 26 or so in three frames
    questions = MotionSet(MotionConfig(num_questions=4))
    seen = questions.observe(next(iter(questions)))
    config = VlmConfig(max_pixels=80_000, max_new_tokens=24, num_threads=1)
    engine = VlmEngine(load_checkpoint(config), configure(config, 'events', 26 / 88))
    moments = [Moment(frame.rgb, frame.activity) for frame in (*seen.earlier, seen)]
    assert engine.answer_about(moments, sparse['question']).text == sparse['answer']


@pytest.mark.slow
@pytest.mark.process
def test_processes_share_the_images(exported, tmp_path):
    path = tmp_path / 'questions.jsonl'
    rows = exported.read_text().splitlines()[:30]
    path.write_text('\n'.join([rows[0], '{', *rows[1:]]))
    arguments = [path, '--wording', 'question', '--policies', 'events', '--keep', 0.3,
                 '--no-plot', *SMALL]
    evaluate(*arguments, '--output', tmp_path / 'alone')
    evaluate(*arguments, '--output', tmp_path / 'shared', '--processes', 2)
    alone, shared = ((tmp_path / name / 'answers.jsonl').read_text().splitlines()
                     for name in ('alone', 'shared'))
    assert shared == alone and len(alone) == 31
    summary = json.loads((tmp_path / 'shared' / 'summary.json').read_text())
    assert [problem['row'] for problem in summary['problems']] == [2]
    with pytest.raises(ValueError, match='--processes is 0'):
        evaluate(*arguments, '--output', tmp_path / 'none', '--processes', 0)


@pytest.mark.slow
@pytest.mark.process
def test_a_process_that_fails_ends_the_run(tmp_path):
    config = VlmConfig(model=str(tmp_path / 'lost'), device='cpu')
    questions = SimulatedSet(SimulationConfig(num_questions=30))
    job = Job(config, make_settings([], []), questions)
    answers = AnswerFile(tmp_path / 'answers.jsonl', {})
    with pytest.raises(RuntimeError, match='there is no model folder'):
        run_job(job, answers, iter, num_processes=2)


@pytest.mark.parametrize('name', ['model.safetensors', 'preprocessor_config.json'])
def test_checkpoints_of_one_shape_are_told_apart(tmp_path, name):
    described = []
    for value in (0, 0, 1):
        (tmp_path / name).write_bytes(bytes([value]) + bytes(3 << 20))
        config = VlmConfig(model=str(tmp_path))
        described.append(describe_run(config, SimulatedSet(SimulationConfig()), []))
    assert described[0] == described[1] != described[2]


def test_a_snapshot_of_the_hub_is_known_by_its_commit(tmp_path, monkeypatch):
    snapshot = tmp_path / 'models--Qwen--Some' / 'snapshots' / 'c0ffee'
    snapshot.mkdir(parents=True)
    for name in (
            'config.json', 'model.safetensors', 'tokenizer.json', 'preprocessor_config.json'):
        (snapshot / name).write_text('{}')
    refs = tmp_path / 'models--Qwen--Some' / 'refs'
    refs.mkdir()
    (refs / 'main').write_text('c0ffee')
    monkeypatch.setattr(hub, 'HF_HUB_CACHE', str(tmp_path))
    described = describe_run(
        VlmConfig(model='Qwen/Some'), SimulatedSet(SimulationConfig()), [])
    assert described['checkpoint'] == 'c0ffee'


def test_a_stopped_run_goes_on_where_it_was(tmp_path, capsys):
    arguments = ['simulated', '--policies', 'uniform', '--keep', 0.5, '--no-plot', '--output',
                 tmp_path, *SMALL]
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
    assert after[3] == lines[3]
    assert '6 questions about 1 images' in capsys.readouterr().out


@pytest.mark.parametrize('frames, answer', [
    ('black', 'it is too dark to see'), ('white', 'it is too bright to see')])
def test_of_frames_that_show_nothing_the_model_says_so(tmp_path, frames, answer):
    evaluate('simulated', '--frames', frames, '--questions', 4, '--policies', 'uniform', '--keep',
             0.5, '--no-plot', '--output', tmp_path)
    answers = read_answers(tmp_path)
    assert len(answers) == 8
    assert {(record['expected'], record['answer']) for record in answers} == {(answer, answer)}
    dense = json.loads((tmp_path / 'summary.json').read_text())['settings']['dense']
    assert dense['said_unknowable']['share']['value'] == 1.0
    assert dense['said_unknowable']['wrongly']['value'] == 0.0
    assert '## Said to be unknowable' in (tmp_path / 'report.md').read_text()


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
    control = {**json.loads(rows[1]), 'question': 'what <|im_end|> is it?', 'answer': 'red'}
    cv2.imwrite(str(tmp_path / 'small.png'), np.zeros((20, 20, 3), np.uint8))
    tiny = {'image': 'small.png', 'question': 'what is it?', 'answer': 'red'}
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
    (['simulated', '--about', 'latest'], 'about is latest, which simulated does not know'),
    (['simulated-motion', '--frames', 'black'], 'leave it out, or take simulated'),
    (['simulated-streams', '--photos', 'folder'], 'which simulated-streams does not know'),
    (['simulated', '--conditions', 'bursts'], 'take simulated-motion or simulated-streams'),
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
