"""A server with OpenAI's chat completions on loopback: an honest one, and scripts of others."""

import asyncio
from base64 import b64decode
from io import BytesIO
import json
import threading
import time

from aiohttp import web
from epvlm_ros.vlm.checkpoint import load_checkpoint
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.patch_cutter import PatchCutter
from epvlm_ros.vlm.prompt import PromptBuilder
from epvlm_ros.vlm.sparse_qwen import Sampling, VisionInput
import numpy as np
from PIL import Image

MODEL = 'tiny'


def chunk(text='', log_probability=-0.25, other=-1.75, finish=None, token=None):
    """Return an event of a stream: the next text and its token, beside the next likeliest one."""
    content = [{'token': token or text, 'logprob': log_probability, 'top_logprobs': [
        {'token': token or text, 'logprob': log_probability},
        {'token': 'other', 'logprob': other}]}]
    return json.dumps({'choices': [{
        'index': 0, 'delta': {'content': text}, 'finish_reason': finish,
        'logprobs': {'content': content if text or token else []}}]})


def usage(num_prompt_tokens):
    """Return the event that tells the length of the prompt."""
    return json.dumps({'choices': [], 'usage': {'prompt_tokens': num_prompt_tokens}})


def event(data):
    """Return an event as it goes over the wire."""
    return f'data: {data}\n\n'.encode()


def read_picture(body):
    """Return the picture in the last message of a request, uint8 (height, width, 3)."""
    url = body['messages'][-1]['content'][0]['image_url']['url']
    return np.asarray(Image.open(BytesIO(b64decode(url.partition('base64,')[2]))))


class ChatServer:
    """
    A context manager: a server on a thread of its own.

    ``reply`` takes an ``aiohttp.web.Request`` and returns its response; it may be replaced at any
    time. ``bodies`` are the requests so far, ``models`` what is listed.
    """

    def __init__(self, reply=None, port=0, tls=None):
        self.reply = reply
        self.bodies, self.headers = [], []
        self.models = [MODEL]
        self.port, self._tls = port, tls
        self._ready = threading.Event()

    @property
    def url(self):
        return f'http{"s" if self._tls else ""}://127.0.0.1:{self.port}'

    def __enter__(self):
        self._ready.clear()  # it may have run before
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """End at once, as a process that is killed: connections break."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join(30)

    async def _serve(self):
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=1 << 26)
        app.router.add_get('/v1/models', self._list)
        app.router.add_post('/v1/chat/completions', self._answer)
        app.router.add_route('*', '/{path:.*}', self._answer)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, '127.0.0.1', self.port, reuse_address=True,
                           ssl_context=self._tls)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ended.wait()
        for connection in runner.server.connections:
            connection.transport.abort()
        await runner.cleanup()

    async def _list(self, request):
        return web.json_response({'data': [{'id': name} for name in self.models]})

    async def _answer(self, request):
        self.bodies.append(await request.json())
        self.headers.append(request.headers)
        return await self.reply(request, self.bodies[-1])


async def begin(request, **headers):
    """Return a response that events can be written to."""
    response = web.StreamResponse(headers={'Content-Type': 'text/event-stream', **headers})
    await response.prepare(request)
    return response


def script(*events, end=True):
    """Return a reply that sends these events, and the end of the stream if there is to be one."""
    async def reply(request, body):
        response = await begin(request)
        for data in events:
            await response.write(event(data))
        if end:
            await response.write(event('[DONE]'))
        return response
    return reply


def endless(period_s=0.01):
    """Return a reply that writes a token in each period until nobody listens, and their times."""
    sent = []

    async def reply(request, body):
        response = await begin(request)
        while True:
            await response.write(event(chunk('a')))
            sent.append(time.monotonic())
            await asyncio.sleep(period_s)
    return reply, sent


class HonestModel:
    """
    Replies as a server with the embedded checkpoint does, computed by the sparse model itself.

    ``num_written`` counts the tokens of all answers that were computed; ``pause_s`` is waited
    after each.
    """

    def __init__(self, config=VlmConfig(device='cpu'), pause_s=0.0):
        self._checkpoint = load_checkpoint(config)
        self._prompts = PromptBuilder(
            self._checkpoint.tokenizer, self._checkpoint.chat_template,
            self._checkpoint.model.info.image_token_id)
        self._cutter = PatchCutter(self._checkpoint.image_processor)
        self.pause_s, self.num_written = pause_s, 0

    def prompt_of(self, body):
        """Return picture, grid, kept tokens and dense prompt of a request."""
        picture = read_picture(body)
        grid = self._checkpoint.geometry.grid(*picture.shape[:2])
        assert (grid.resized_height, grid.resized_width) == picture.shape[:2]
        kept = np.arange(grid.num_tokens)
        if 'mm_processor_kwargs' in body:
            assert body['mm_processor_kwargs']['token_grids'] == [[grid.rows, grid.cols]]
            kept = np.array(body['mm_processor_kwargs']['kept_indices'][0])
        ids = self._prompts.prompt_ids(
            body['messages'][-1]['content'][1]['text'], grid.num_tokens)
        return picture, grid, kept, ids

    async def __call__(self, request, body):
        picture, grid, kept, ids = self.prompt_of(body)
        model, tokenizer = self._checkpoint.model, self._checkpoint.tokenizer
        vision = VisionInput(
            self._cutter.cut(picture, grid, kept), grid.rows, grid.cols, kept)
        state = model.prefill(ids, vision, model.encode(vision))
        response = await begin(request)
        known, written, finish = '', [], 'stop'
        for token in model.decode(
                state, model.info.end_token_ids, body['max_tokens'],
                Sampling(body['temperature'], body['top_p'], body['seed'],
                         body['repetition_penalty'])):
            self.num_written += 1
            written.append(token)
            text = tokenizer.decode(written, skip_special_tokens=True)
            await response.write(event(chunk(
                text[len(known):], token.log_probability,
                token.log_probability - token.margin, token=tokenizer.decode([token]))))
            known = text
            await asyncio.sleep(self.pause_s)
        if len(written) == body['max_tokens']:
            finish = 'length'
            await response.write(event(chunk(finish=finish)))
        else:
            await response.write(event(chunk(finish=finish, token='<|im_end|>')))
        await response.write(event(usage(len(ids) - grid.num_tokens + len(kept))))
        await response.write(event('[DONE]'))
        return response
