"""The web server of the page: its files, the pictures of answers and one socket for each page."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Awaitable, Callable

from aiohttp import web, WSCloseCode, WSMsgType
from epvlm_ros.ui.access import Access
from epvlm_ros.ui.pages import MAX_PAGES, Page, Pages
from epvlm_ros.ui.requests import MAX_MESSAGE_BYTES

STATIC = Path(__file__).with_name('static')
HEARTBEAT_S = 10.0
WRONG_TOKEN_DELAY_S = 0.5
MAX_BODY_BYTES = 4096
_HEADERS = {
    'Content-Security-Policy': (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"),
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Referrer-Policy': 'same-origin',  # without one the form would send no origin
    'X-Content-Type-Options': 'nosniff',
}
_PAGES = web.AppKey('pages', Pages)
_ACCESS = web.AppKey('access', Access)
_SOCKETS: web.AppKey[Any] = web.AppKey('sockets', set)  # of web.WebSocketResponse
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(pages: Pages, access: Access) -> web.Application:
    """Return the application; it logs no requests, and so no tokens."""
    app = web.Application(middlewares=[_check_access], client_max_size=MAX_BODY_BYTES)
    app[_PAGES], app[_ACCESS], app[_SOCKETS] = pages, access, set()
    app.router.add_get('/', _send_page)
    app.router.add_post('/token', _take_token)
    app.router.add_get('/socket', _serve_socket)
    app.router.add_get(r'/pictures/{number:\d{1,12}}.jpg', _send_picture)
    app.router.add_static('/static', STATIC)
    app.on_response_prepare.append(_add_headers)
    app.on_shutdown.append(_close_sockets)
    return app


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
    response.headers.setdefault('Cache-Control', 'no-store')


@web.middleware
async def _check_access(request: web.Request, handler: Handler) -> web.StreamResponse:
    access, host = request.app[_ACCESS], request.headers.get('Host')
    if not access.knows_host(host):
        raise web.HTTPForbidden(text=(
            'This server does not go by that name: open it by its IP address, or start epvlm ui '
            'with --host-name\n'))
    if not access.knows_origin(request.headers.get('Origin'), host):
        raise web.HTTPForbidden(text='Only the page of this server may do this.\n')
    if request.headers.get('Sec-Fetch-Site') in ('cross-site', 'same-site') and \
            request.headers.get('Sec-Fetch-Mode') != 'navigate':
        raise web.HTTPForbidden(text='Only the page of this server may show this.\n')
    is_open = request.path.startswith('/static/') or request.path == '/token'
    if is_open or _is_allowed(request, access):
        return await handler(request)
    if request.path == '/':
        return _ask_for_token('This page asks for the token that its server was started with.')
    raise web.HTTPUnauthorized(text='Open the page and give the token first.\n')


def _is_allowed(request: web.Request, access: Access) -> bool:
    """Tell whether a request has shown the token, or needs none."""
    if not access.token:
        return True
    scheme, _, token = request.headers.get('Authorization', '').partition(' ')
    if scheme.lower() == 'bearer':
        return access.is_token(token.strip())
    return access.is_cookie(request.cookies.get(access.cookie[0], ''))


def _ask_for_token(said: str) -> web.Response:
    text = (STATIC / 'token.html').read_text(encoding='utf-8').replace('SAID', said)
    return web.Response(text=text, content_type='text/html', status=401)


async def _take_token(request: web.Request) -> web.StreamResponse:
    access = request.app[_ACCESS]
    token = (await request.post()).get('token')
    if not access.token or not isinstance(token, str) or not access.is_token(token):
        await asyncio.sleep(WRONG_TOKEN_DELAY_S)
        return _ask_for_token('That is not the token.')
    response = web.HTTPSeeOther('/')
    name, value = access.cookie
    response.set_cookie(name, value, httponly=True, samesite='Strict', path='/')
    raise response


async def _send_page(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(STATIC / 'index.html')


async def _send_picture(request: web.Request) -> web.StreamResponse:
    jpeg = request.app[_PAGES].history.picture(int(request.match_info['number']))
    if jpeg is None:
        raise web.HTTPNotFound(text='This picture is not kept any more.\n')
    return web.Response(body=jpeg, content_type='image/jpeg')


async def _serve_socket(request: web.Request) -> web.StreamResponse:
    pages = request.app[_PAGES]
    if pages.is_full:
        raise web.HTTPServiceUnavailable(text=f'{MAX_PAGES} pages are open: close one.\n')
    socket = web.WebSocketResponse(
        heartbeat=HEARTBEAT_S, max_msg_size=MAX_MESSAGE_BYTES, compress=False)
    await socket.prepare(request)
    page = pages.join()
    sender = asyncio.create_task(_send_all(socket, page))
    request.app[_SOCKETS].add(socket)
    try:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                page.receive(message.data)
            else:
                await socket.close(code=WSCloseCode.UNSUPPORTED_DATA, message=b'text only')
    finally:
        request.app[_SOCKETS].discard(socket)
        pages.leave(page)
        sender.cancel()
    return socket


async def _send_all(socket: web.WebSocketResponse, page: Page) -> None:
    """Send what the outbox has; a page that reads too slowly is closed and comes again."""
    try:
        while (item := await page.outbox.get()) is not None:
            if isinstance(item, bytes):
                await socket.send_bytes(item)
            else:
                await socket.send_str(item)
        await socket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b'too slow')
    except ConnectionError:
        pass  # whoever reads the socket sees it too


async def _close_sockets(app: web.Application) -> None:
    for socket in list(app[_SOCKETS]):
        await socket.close(code=WSCloseCode.GOING_AWAY, message=b'the server ends')


async def start_server(app: web.Application, address: str, port: int) -> tuple[Any, int]:
    """
    Listen, and return the runner (whose ``cleanup`` ends it) and the port.

    Raises ValueError if the address or port cannot be had.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, address, port).start()
    except OSError as error:
        await runner.cleanup()
        raise ValueError(
            f'cannot listen on {address} port {port}: {error.strerror}; give another --port or '
            '--address') from None
    return runner, runner.addresses[0][1]
