"""An evaluation that asks a server: the same files, many questions at a time, resumed."""

import argparse
import json

from aiohttp import web
from chat_server import ChatServer, HonestModel
from epvlm_ros.cli import main
from epvlm_ros.eval.command import add_eval_options, eval_command
from epvlm_ros.vlm.remote import ServerError
import pytest

pytestmark = pytest.mark.long

NUM_QUESTIONS = 18  # about two images
OPTIONS = (
    'simulated', '--questions', NUM_QUESTIONS, '--policies', 'uniform', '--keep', 0.4,
    '--device', 'cpu', '--num-threads', 1, '--no-plot')


@pytest.fixture(scope='module')
def honest():
    return HonestModel()


def evaluate(folder, *arguments):
    parser = argparse.ArgumentParser()
    add_eval_options(parser)
    eval_command(parser.parse_args([*map(str, (*OPTIONS, '--output', folder, *arguments))]))
    header, *lines = (folder / 'answers.jsonl').read_text().splitlines()
    return json.loads(header), [record for line in lines for record in json.loads(line)]


@pytest.fixture(scope='module')
def local(tmp_path_factory):
    """Return the answers of the model here."""
    return evaluate(tmp_path_factory.mktemp('local'), '--timed', 0)[1]


def test_the_files_are_those_of_the_model_here(tmp_path, honest, local):
    with ChatServer(honest) as server:
        header, records = evaluate(
            tmp_path, '--server', server.url, '--in-flight', 4, '--timed', 1)
    names = ('number', 'setting', 'question', 'expected', 'tokens', 'tokens_kept', 'flops_dense',
             'flops_used', 'fallback')
    assert [[record[name] for name in names] for record in records] == [
        [record[name] for name in names] for record in local]
    num_same = sum(one['answer'] == other['answer'] for one, other in zip(records, local))
    assert num_same >= len(local) - 2  # a JPEG is not quite the picture
    assert all(json.loads((tmp_path / 'times.json').read_text())['times_ms'].values())
    assert header['run']['server'] == {'model': 'tiny', 'jpeg_quality': 95}


def test_what_a_server_did_not_answer_is_asked_again(tmp_path, honest, local, monkeypatch):
    monkeypatch.setattr('epvlm_ros.vlm.remote.model_server.FIRST_PAUSE_S', 0.001)
    first = [record for record in local if record['image'] == local[0]['image']]
    assert 0 < len(first) < len(local) - 2
    num_asked = []

    async def fail_later(request, body):
        num_asked.append(1)
        if len(num_asked) > len(first) + 2:
            return web.json_response({'error': {'message': 'out of memory'}}, status=500)
        return await honest(request, body)

    with ChatServer(fail_later) as server:
        options = '--server', server.url, '--in-flight', 1, '--timed', 0
        with pytest.raises(ServerError, match='out of memory'):
            evaluate(tmp_path, *options)
        server.reply, server.bodies[:] = honest, []
        _, records = evaluate(tmp_path, *options)
        num_again = len(server.bodies)
        evaluate(tmp_path, *options)
        assert len(server.bodies) == num_again
    assert [record['number'] for record in records] == [record['number'] for record in local]
    assert num_again == len(local) - len(first)


@pytest.mark.parametrize('arguments, words', [
    (['--processes', '2'], 'give --in-flight instead'), (['--in-flight', '0'], 'give at least 1'),
    (['--server', 'host'], 'give a URL'), (['--server', 'http://127.0.0.1:9'], 'cannot reach')])
def test_what_cannot_be_is_told_in_a_line(tmp_path, arguments, words, capsys):
    command = ['eval', *map(str, OPTIONS), '--output', str(tmp_path), '--server',
               'http://127.0.0.1:9', *arguments]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert words in str(ended.value.code)
