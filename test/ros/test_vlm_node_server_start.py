"""How a VLM node starts whose model is on a server: with what helps out, or not at all."""

from chat_server import ChatServer, chunk, script
from epvlm_interfaces.msg import Answer
from epvlm_ros.vlm.checkpoint import EMBEDDED_MODEL
import pytest
from ros_graph import RosGraph, wait_until
from vlm_asker import start

QUESTION = 'what is there?'


@pytest.fixture(scope='module')
def server():
    with ChatServer(script(chunk('a'))) as server:
        yield server


def test_the_embedded_model_helps_out_where_it_may(tmp_path):
    with RosGraph(tmp_path) as graph:
        process, asker = start(
            graph, EMBEDDED_MODEL, server='http://127.0.0.1:9', server_model='tiny',
            server_fallback='embedded', max_new_tokens=64, scene_memory=False)
        asker.show()
        answer = asker.ask(QUESTION)
        assert (answer.status, answer.model) == (Answer.OK, 'embedded model')
        assert answer.text


@pytest.mark.parametrize('parameters, words', [
    ({'num_moments': 2}, 'num_moments is 2'), ({'server_model': 'other'}, 'lists tiny: give one'),
    ({'server': 'http://me:secret@host'}, "'host': leave name and password out")])
def test_what_cannot_be_stops_the_start_with_a_remedy(tmp_path, server, parameters, words):
    with RosGraph(tmp_path) as graph:
        process = graph.start('vlm_node', parameters={
            'device': 'cpu', 'server': server.url, **parameters})
        wait_until(lambda: words in process.log.read_text(), 60, 'the reason')
        assert 'secret' not in process.log.read_text()
