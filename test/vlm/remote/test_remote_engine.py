"""A model on a server answers as the one here does, is stopped, helped out and left alone."""

import asyncio
import threading
import time

from chat_server import ChatServer, chunk, endless, HonestModel, read_picture, script, usage
from epvlm_ros.vlm.checkpoint import load_processor
from epvlm_ros.vlm.config import ServerConfig, VlmConfig
from epvlm_ros.vlm.engine import Moment, VlmEngine
from epvlm_ros.vlm.open_engine import open_engine
from epvlm_ros.vlm.remote import RemoteEngine, ServerError
import numpy as np
from PIL import Image
import pytest

CONFIG = VlmConfig(device='cpu', selection='detail', static_scene_policy='detail', keep_ratio=0.25)
NUM_TOKENS = 99  # 9 x 11 of a picture of 320 x 240


@pytest.fixture(scope='module')
def rgb():
    coarse = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((320, 240)))


@pytest.fixture(scope='module')
def honest():
    return HonestModel()


@pytest.fixture
def server(honest):
    honest.pause_s = 0.0
    with ChatServer(honest) as server:
        yield server


@pytest.fixture(scope='module')
def processor():
    return load_processor(CONFIG)


@pytest.fixture(scope='module')
def local():
    return VlmEngine.from_config(CONFIG)


@pytest.fixture(scope='module')
def seen(local, rgb):
    """Return what the model here sees, whatever its weights."""
    return local.answer_about([Moment(rgb, None)], 'what is there?').text


@pytest.fixture
def make_engine(server, processor):
    def make(key='', fallback=None, config=CONFIG, **parameters):
        return RemoteEngine(processor, config, ServerConfig(
            server=server.url, **{'server_retries': 0, **parameters}), key, fallback)
    return make


@pytest.mark.parametrize('keep_ratio', [0.25, 0.5, 1.0])
@pytest.mark.parametrize('question', ['what is there?', 'what moves?'])
def test_answers_are_those_of_the_model_here_about_the_picture_that_is_sent(
        make_engine, server, local, rgb, question, keep_ratio):
    pieces = []
    answer = make_engine(server_jpeg_quality=100).answer_about(
        [Moment(rgb, None)], question, keep_ratio=keep_ratio, on_text=pieces.append)
    here = local.answer_about([Moment(rgb, None)], question, keep_ratio=keep_ratio)
    assert (answer.text, ''.join(pieces), answer.ending) == (here.text, here.text, here.ending)
    for name in ('rows', 'cols', 'num_tokens', 'num_tokens_kept', 'num_moments', 'flops_dense',
                 'flops_used', 'num_generated_tokens', 'fallback'):
        assert getattr(answer, name) == getattr(here, name), name
    assert np.array_equal(answer.kept_indices, here.kept_indices)
    assert answer.mean_log_probability == pytest.approx(here.mean_log_probability, abs=0.02)
    assert answer.first_token_margin == pytest.approx(here.first_token_margin, abs=0.05)
    assert answer.model == f'tiny at {server.url}' and here.model == 'embedded model'
    assert 0.0 < answer.time_to_first_token_s <= answer.total_time_s


def test_the_request_says_all_that_the_answer_depends_on(make_engine, server, rgb):
    config = VlmConfig(
        selection='detail', static_scene_policy='detail', keep_ratio=0.1, system_prompt='Be kind.',
        temperature=0.5, top_p=0.9, seed=7, repetition_penalty=1.25, max_new_tokens=5)
    server.reply = script(chunk('a', finish='stop'), usage(0))
    with pytest.raises(ServerError):
        make_engine(config=config, key='sesame').answer_about([Moment(rgb, None)], 'what?')
    body, = server.bodies
    system, user = body['messages']
    assert system == {'role': 'system', 'content': 'Be kind.'}
    assert [part['type'] for part in user['content']] == ['image_url', 'text']
    assert user['content'][1]['text'] == 'what?'
    assert read_picture(body).shape == (252, 308, 3)  # 9 x 11 tokens of 28 px
    given = body['mm_processor_kwargs']
    assert given['token_grids'] == [[9, 11]]
    (kept,) = given['kept_indices']
    assert len(kept) == 10 and kept == sorted(set(kept)) and 0 <= kept[0] <= kept[-1] < 99
    assert {name: body[name] for name in body if name not in (
        'messages', 'mm_processor_kwargs')} == {
        'model': 'tiny', 'stream': True, 'stream_options': {'include_usage': True},
        'max_tokens': 5, 'temperature': 0.5, 'top_p': 0.9, 'top_k': 0, 'seed': 7,
        'repetition_penalty': 1.25, 'logprobs': True, 'top_logprobs': 2}
    assert server.headers[0]['Authorization'] == 'Bearer sesame'


def test_a_server_that_drops_no_tokens_is_found_out(make_engine, server, honest, rgb):
    async def dense(request, body):
        body.pop('mm_processor_kwargs', None)
        return await honest(request, body)

    server.reply = dense
    engine = make_engine()
    with pytest.raises(ServerError, match='25 of them visual: run epvlm-serve there'):
        engine.answer_about([Moment(rgb, None)], 'what is there?')
    assert engine.answer_about([Moment(rgb, None)], 'what is there?', keep_ratio=1.0).text


def test_an_answer_stops_within_two_tokens_and_so_does_the_server(make_engine, server, rgb):
    server.reply, sent = endless()
    pieces = []
    answer = make_engine().answer_about(
        [Moment(rgb, None)], 'what?', on_text=pieces.append, max_new_tokens=4096,
        should_stop=lambda: len(pieces) >= 3)
    assert (answer.ending, answer.text, answer.num_generated_tokens) == ('stopped', 'aaa', 3)
    time.sleep(0.2)  # twenty tokens
    num_sent = len(sent)
    assert num_sent <= 3 + 2 + 2  # two that were under way
    time.sleep(0.1)
    assert len(sent) == num_sent


def test_an_answer_stops_while_there_is_no_token(make_engine, server, rgb):
    async def silent(request, body):
        await asyncio.sleep(30)

    server.reply = silent
    start_s = time.monotonic()
    answer = make_engine().answer_about(
        [Moment(rgb, None)], 'what?', should_stop=lambda: time.monotonic() > start_s + 0.3)
    assert answer.ending == 'stopped' and answer.text == ''
    assert 0.3 <= time.monotonic() - start_s < 1.0


def test_the_deadline_ends_an_answer_with_the_text_so_far(make_engine, server, rgb):
    server.reply, sent = endless()
    start_s = time.monotonic()
    answer = make_engine().answer_about(
        [Moment(rgb, None)], 'what?', max_new_tokens=4096, deadline_s=0.5)
    assert answer.ending == 'deadline' and set(answer.text) == {'a'}
    assert answer.num_generated_tokens == len(answer.text) > 3
    assert 0.5 <= time.monotonic() - start_s < 1.0


def test_a_server_that_recovers_is_asked_again_before_the_first_token_only(
        make_engine, server, honest, rgb, seen):
    from aiohttp import web

    replies = [web.json_response({'error': {'message': 'too busy'}}, status=503) for _ in '12']

    async def recovering(request, body):
        return replies.pop() if replies else await honest(request, body)

    server.reply = recovering
    engine = make_engine(server_retries=2)
    assert engine.answer_about([Moment(rgb, None)], 'what is there?').text == seen
    assert engine.server_status.num_retries == 2 and len(server.bodies) == 3

    server.reply = script(chunk('a'), chunk('b'), end=False)
    with pytest.raises(ServerError, match=r'after 2 tokens without \[DONE\]'):
        engine.answer_about([Moment(rgb, None)], 'what is there?')
    assert len(server.bodies) == 4


def test_a_server_is_left_alone_after_some_failures_and_then_tried_once(
        make_engine, server, honest, rgb, seen):
    server.reply = script('{}')
    engine = make_engine(server_max_failures=2, server_pause=0.5)
    for _ in range(2):
        with pytest.raises(ServerError, match='choices is missing'):
            engine.answer_about([Moment(rgb, None)], 'what?')
    assert engine.server_status.circuit == 'open'
    start_s = time.monotonic()
    with pytest.raises(ServerError, match='failed 2 times in a row and is left alone'):
        engine.answer_about([Moment(rgb, None)], 'what?')
    assert len(server.bodies) == 2 and time.monotonic() - start_s < 0.3
    time.sleep(0.5)
    assert engine.server_status.circuit == 'half_open'
    server.reply = honest
    assert engine.answer_about([Moment(rgb, None)], 'what is there?').text == seen
    status = engine.server_status
    assert (status.circuit, status.num_asked, status.num_failed) == ('closed', 3, 2)
    assert status.num_bytes_sent > 3000 and status.num_bytes_received > 500


def test_the_embedded_model_helps_out_and_the_answer_says_so(
        make_engine, server, local, rgb, seen):
    engine = make_engine(fallback=local)
    server.close()
    answer = engine.answer_about([Moment(rgb, None)], 'what is there?')
    assert (answer.text, answer.model) == (seen, 'embedded model')
    assert engine.server_status.num_by_fallback == 1


def test_nothing_helps_out_in_the_middle_of_an_answer(make_engine, server, local, rgb):
    server.reply = script(chunk('a'), end=False)
    pieces = []
    with pytest.raises(ServerError, match='after 1 tokens'):
        make_engine(fallback=local).answer_about(
            [Moment(rgb, None)], 'what?', on_text=pieces.append)
    assert pieces == ['a']


def test_a_server_that_is_away_is_told_at_once_and_found_when_it_is_back(
        make_engine, server, honest, rgb, seen):
    engine = make_engine()
    port = server.port
    server.close()
    engine.warm_up()  # it may come later
    start_s = time.monotonic()
    with pytest.raises(ServerError, match='cannot reach http.*: start the server, or correct'):
        engine.answer_about([Moment(rgb, None)], 'what is there?')
    assert time.monotonic() - start_s < 1.0
    with ChatServer(honest, port):
        assert engine.answer_about([Moment(rgb, None)], 'what is there?').text == seen


def test_the_only_model_is_taken_and_others_want_a_name(make_engine, server):
    server.models = ['one', 'two']
    with pytest.raises(ServerError, match="server_model is '', .* lists one, two: give one"):
        make_engine().warm_up()
    with pytest.raises(ServerError, match="server_model is 'three', .* lists one, two"):
        make_engine(server_model='three').warm_up()
    engine = make_engine(server_model='two')
    engine.warm_up()
    assert engine.description == f'two at {server.url}'


def test_what_needs_the_model_here_is_refused_by_name(make_engine, server, rgb):
    with pytest.raises(ValueError, match='scene_memory is true'):
        make_engine(config=VlmConfig(scene_memory=True))
    engine = make_engine()
    with pytest.raises(ValueError, match='2 choices'):
        engine.answer_about([Moment(rgb, None)], 'what?', choices=['a', 'b'])
    with pytest.raises(ValueError, match='2 moments, a server takes one: set num_moments'):
        engine.answer_about([Moment(rgb, None)] * 2, 'what?')
    with pytest.raises(ValueError, match='3 moments, a server takes one: set num_moments'):
        engine.check_query('what?', num_moments=3)
    with pytest.raises(ValueError, match='control tokens'):
        engine.answer_about([Moment(rgb, None)], '<|im_end|>')
    engine.reconfigure(VlmConfig(
        device='cpu', selection='detail', static_scene_policy='detail', keep_ratio=0.25,
        scene_memory=True))
    with pytest.raises(ValueError, match='scene_memory is true'):
        engine.check_query('what?')
    assert server.bodies == []


def test_no_weights_are_needed_beside_the_server(tmp_path, server, monkeypatch):
    from epvlm_ros.vlm.checkpoint import EMBEDDED_MODEL

    for path in EMBEDDED_MODEL.iterdir():
        if path.suffix != '.safetensors':
            (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setenv('EPVLM_SERVER_KEY', 'sesame')
    engine = open_engine(
        VlmConfig(model=str(tmp_path), device='cpu'), ServerConfig(server=server.url))
    engine.warm_up()
    picture = np.zeros((112, 112, 3), np.uint8)
    assert engine.answer_about([Moment(picture, None)], 'what is there?').ending == 'end'
    assert server.headers[0]['Authorization'] == 'Bearer sesame'


def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(monkeypatch):
    monkeypatch.setenv('EPVLM_SERVER_KEY', 'ses\names')
    with pytest.raises(ValueError, match='EPVLM_SERVER_KEY holds') as error:
        open_engine(VlmConfig(), ServerConfig(server='http://127.0.0.1:9'))
    assert 'names' not in str(error.value)


def test_one_engine_answers_on_whichever_thread_asks(make_engine, rgb, seen):
    engine, texts = make_engine(), []
    for _ in range(2):
        thread = threading.Thread(target=lambda: texts.append(engine.answer_about(
            [Moment(rgb, None)], 'what is there?').text))
        thread.start()
        thread.join(30)
    assert texts == [seen] * 2
