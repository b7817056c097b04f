"""Who may open the page: addresses that the server listens on, names it goes by, and the token."""

from __future__ import annotations

from dataclasses import dataclass
import hashlib
import hmac
import ipaddress
import socket
from urllib.parse import urlsplit

MIN_TOKEN_LENGTH = 16
LOOPBACK = '127.0.0.1'
TOKEN_VARIABLE = 'EPVLM_UI_TOKEN'


@dataclass(frozen=True)
class Access:
    """
    The rules for those who open the page.

    Parameters
    ----------
    address : str
        IP address to listen on, or ``localhost``.
    token : str
        What has to be shown by everybody; empty asks nobody, for loopback addresses alone.
    host_names : tuple of str
        Names of this machine that browsers may open, beside IP addresses and ``localhost``.

    Raises
    ------
    ValueError
        If the address is none, or the token is missing or too short.

    """

    address: str = LOOPBACK
    token: str = ''
    host_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.is_loopback and not self.token:
            raise ValueError(
                f'address {self.address} can be reached by others: give a token, in the '
                f'environment variable {TOKEN_VARIABLE} or with --token')
        if self.token and len(self.token) < MIN_TOKEN_LENGTH:
            raise ValueError(
                f'the token has {len(self.token)} characters: give at least {MIN_TOKEN_LENGTH}')
        if not self.token.isascii() or not self.token.isprintable():
            raise ValueError('the token has characters that are not of ASCII: leave them out')

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        if self.address == 'localhost':
            return True
        try:
            return ipaddress.ip_address(self.address).is_loopback
        except ValueError:
            raise ValueError(
                f'address is {self.address!r}: give an IP address of this machine, '
                f'{LOOPBACK} for this machine alone or 0.0.0.0 for all that reach it') from None

    @property
    def cookie(self) -> tuple[str, str]:
        """Name and value of the cookie of those who have shown the token; not the token itself."""
        digest = hmac.new(self.token.encode(), b'epvlm ui cookie', hashlib.sha256).hexdigest()
        return f'epvlm_ui_{digest[:8]}', digest[8:]

    def knows_host(self, host: str | None) -> bool:
        """
        Tell whether a ``Host`` header names this machine.

        A page of somebody else's domain that was made to point here (DNS rebinding) carries that
        domain; an IP address cannot be rebound.
        """
        name = _host_name(host)
        return name is not None and (
            _is_ip_address(name) or name in ('localhost', *self._own_names()))

    def knows_origin(self, origin: str | None, host: str | None) -> bool:
        """Tell whether a request comes from the page itself, or from no page at all."""
        if origin is None:
            return True
        parts = urlsplit(origin)
        return parts.scheme in ('http', 'https') and parts.netloc.lower() == (host or '').lower()

    def is_token(self, text: str) -> bool:
        """Tell whether a text is the token, in the same time for all texts."""
        return hmac.compare_digest(text.encode(errors='replace'), self.token.encode())

    def is_cookie(self, text: str) -> bool:
        """Tell whether a text is the value of the cookie."""
        return hmac.compare_digest(text.encode(errors='replace'), self.cookie[1].encode())

    def _own_names(self) -> tuple[str, ...]:
        names = tuple(name.lower() for name in self.host_names)
        if self.is_loopback:
            return names
        own = socket.gethostname().lower()
        return (*names, own, f'{own}.local')


def _host_name(host: str | None) -> str | None:
    """Return the name in a ``Host`` header without its port."""
    try:
        return urlsplit(f'//{host}').hostname if host else None
    except ValueError:
        return None


def _is_ip_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
