"""
Answers of a model on a server, with the tokens selected and the pictures resized here.

``RemoteEngine`` stands in for ``VlmEngine``. What the server gets is a JPEG of the picture in the
model's own size and the indices of the visual tokens to compute on; it speaks the chat
completions of OpenAI's API (docs/fleet.md). Whatever a server sends is bounded in size and time,
and what is not as agreed is an error that names the fault and the remedy.
"""

from epvlm_ros.vlm.remote.engine import RemoteEngine
from epvlm_ros.vlm.remote.http_client import read_key
from epvlm_ros.vlm.remote.model_server import ModelServer
from epvlm_ros.vlm.remote.server_error import ServerError

__all__ = ['ModelServer', 'read_key', 'RemoteEngine', 'ServerError']
