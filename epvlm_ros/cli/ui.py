"""The command ``epvlm ui``: a page in the browser, in the graph of a robot."""

from __future__ import annotations

import argparse
import os

from epvlm_ros.ui.access import Access, LOOPBACK, MIN_TOKEN_LENGTH, TOKEN_VARIABLE

DEFAULT_PORT = 8080
DEFAULT_RATE = 5.0
MAX_RATE = 60.0


def add_ui_options(ui: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    ui.add_argument('--namespace', default='', help='of both nodes (default: none)')
    ui.add_argument('--address', default=LOOPBACK,
                    help='IP address to listen on; any other than %(default)s, the default, wants '
                         'a token')
    ui.add_argument('--port', type=int, default=DEFAULT_PORT,
                    help='0 takes a free one (default: %(default)s)')
    ui.add_argument('--token',
                    help=f'at least {MIN_TOKEN_LENGTH} characters that the page asks for; others '
                         'on this machine can read it here: better give it in the environment '
                         f'variable {TOKEN_VARIABLE}')
    ui.add_argument('--host-name', action='append', default=[], metavar='NAME',
                    help='further name of this machine that browsers may open')
    ui.add_argument('--frames', default='event_guided_frame', metavar='TOPIC',
                    help='guided frames of the live picture (default: %(default)s)')
    ui.add_argument('--rate', type=float, default=DEFAULT_RATE, metavar='HERTZ',
                    help='most live pictures in a second (default: %(default)s)')
    ui.set_defaults(run=ui_command)


def ui_command(options: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    token = os.environ.get(TOKEN_VARIABLE, '') if options.token is None else options.token
    access = Access(options.address, token, tuple(options.host_name))
    if not 0 <= options.port <= 65535:
        raise ValueError(f'--port is {options.port}: give 0 to 65535')
    if not 0.0 < options.rate <= MAX_RATE:
        raise ValueError(f'--rate is {options.rate}: give more than 0, at most {MAX_RATE:g}')
    try:
        import aiohttp  # noqa: F401
    except ImportError:
        raise ValueError('the page needs aiohttp: pip install aiohttp') from None
    try:
        import rclpy  # noqa: F401
    except ImportError:
        raise ValueError('the page needs ROS 2: source its setup.bash first') from None
    from epvlm_ros.ui.serve import serve

    serve(access, options.port, options.namespace, options.frames, options.rate)
