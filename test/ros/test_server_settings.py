"""Parameters that do nothing, or cannot be, where the model is on a server."""

from epvlm_ros.ros.config import VlmNodeConfig
from epvlm_ros.ros.server_settings import check_for_server
from epvlm_ros.vlm.config import ServerConfig, VlmConfig
import pytest

SERVER = ServerConfig(server='http://host:8000')
HELPED = ServerConfig(server='http://host:8000', server_fallback='embedded')
SET = VlmConfig(weights='int8', dtype='bfloat16', memory_limit=100.0, keep_ratio=0.3)
AHEAD = VlmNodeConfig(encode_ahead='on_arrival')


@pytest.mark.parametrize('server, names', [
    (ServerConfig(), []),
    (SERVER, ['dtype', 'weights', 'memory_limit', 'encode_ahead']),
    (HELPED, ['memory_limit', 'encode_ahead']),  # the embedded model goes by the others
])
def test_what_does_nothing_is_named(server, names):
    assert check_for_server(server, SET, AHEAD) == names
    assert check_for_server(server, VlmConfig(), VlmNodeConfig()) == []


@pytest.mark.parametrize('vlm, node, words', [
    ({'scene_memory': True}, {}, 'scene_memory is True, which needs .*: set it to False, or'),
    ({}, {'num_moments': 3}, 'num_moments is 3, which needs .*: set it to 1, or leave server'),
    ({}, {'shadow_every': 5}, 'shadow_every is 5'),
])
def test_what_would_change_the_meaning_of_answers_is_refused(vlm, node, words):
    configs = VlmConfig(**vlm), VlmNodeConfig(**node)
    with pytest.raises(ValueError, match=words):
        check_for_server(SERVER, *configs)
    assert check_for_server(ServerConfig(), *configs) == []
