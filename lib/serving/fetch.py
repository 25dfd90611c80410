"""A URL → its bytes, without giving access to the network of this machine (server-side request forgery).

Whoever enters a URL makes this machine open a connection. Therefore every address that a host name resolves to must be
public, the connection goes to the address that was checked (another look-up could return a different one), and each
redirect is checked again. The environment is ignored, so no proxy resolves the name instead.

The decoder decides whether the bytes are a picture.
"""

import functools
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import dataclass

import httpcore
import httpx

from lib.errors import UserError

MAX_BYTES = 10_000_000
MAX_REDIRECTS = 3
CONNECT_SECONDS = 5.0  # including the look-up of the name
TOTAL_SECONDS = 10.0  # from the call to the last byte, including redirects
MAX_URL_CHARACTERS = 4_000
# More addresses than any site has; the time to connect is divided among them.
MAX_ADDRESSES = 8

REDIRECTS = (301, 302, 303, 307, 308)
PORTS = {"http": 80, "https": 443}
HEADERS = {
    "User-Agent": "simpsons-recognition",
    "Accept": "image/jpeg, image/png, image/webp, image/avif, image/gif, image/bmp, */*;q=0.1",
    # Pictures are compressed already; without a second compression there are no decompression bombs.
    "Accept-Encoding": "identity",
}

# Special ranges that `ipaddress` calls global, or did in some releases of Python 3.11.
NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # the host of a virtual machine in Azure
        "192.0.0.0/24",  # protocol assignments, metadata of some clouds
        "192.88.99.0/24",  # relays of 6to4
        "2001::/23",  # protocol assignments, among them Teredo, which contains an IPv4 address
        "2002::/16",  # 6to4, which contains an IPv4 address
    )
)
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # all IPv6 addresses that are assigned
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # IPv4 addresses, as IPv6-only networks write them


class FetchError(UserError):
    """The URL cannot be read."""


class PrivateAddress(FetchError):
    """The URL leads to an address that is not on the public internet."""


def fetch(url: str, allow_private: bool = False) -> bytes:
    """Download a URL.

    Args:
        url: An `http` or `https` URL without user name and password.
        allow_private: Whether the URL may point to this machine or its own network. Only for URLs from the owner of
            the machine, never for those of a visitor.

    Returns:
        At most `MAX_BYTES` bytes, of any type.

    Raises:
        FetchError: The URL is not acceptable, or exceeds a limit.
    """
    return Fetcher(allow_private=allow_private).fetch(url)


def read_picture(url: str, allow_private: bool = False) -> bytes:
    """Download a picture; see `fetch`.

    Raises:
        FetchError: The URL cannot be read, or is that of a web page.
    """
    contents = fetch(url, allow_private)
    if contents.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise FetchError(
            "The address leads to a web page, not to a picture. Open it, right-click the picture there, and copy "
            "the picture's own address."
        )
    return contents


def is_public(address: str) -> bool:
    """Check whether an address is on the public internet.

    Args:
        address: An IPv4 or IPv6 address as `getaddrinfo` returns it.

    Returns:
        False for private, local, reserved and multicast addresses, and for IPv6 addresses that represent such an IPv4
        address.
    """
    ip = ipaddress.ip_address(address)
    if ip.version == 6:
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip in NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip not in GLOBAL_UNICAST:
            return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in NOT_PUBLIC)


def resolve(host: str, port: int) -> list[str]:
    """Look up a host name.

    Args:
        host: A name, or an address in any notation that the system accepts, such as `127.1` or `2130706433`.
        port: The port to connect to.

    Returns:
        Addresses in the system's order of preference, in standard notation.

    Raises:
        OSError, UnicodeError: There is no such name.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def dial(address: str, port: int, seconds: float) -> httpcore.NetworkStream:
    """Connect to an address; raises httpcore's exceptions."""
    return httpcore.SyncBackend().connect_tcp(address, port, seconds)


@functools.cache  # reading about 150 certificates takes 20 ms
def default_ssl_context() -> ssl.SSLContext:
    """Make the context that verifies certificates against the authorities that browsers trust."""
    return httpcore.default_ssl_context()


@dataclass(frozen=True)
class Fetcher:
    """The limits of a download; `fetch` uses the defaults.

    Attributes:
        allow_private: As in `fetch`.
        total_seconds: Time limit from the call to the last byte.
        connect_seconds: Time limit to look up one host and connect to it.
        max_bytes: Largest body.
        resolve: Function from host and port to addresses.
        dial: Function from address, port and seconds to a connection.
        ssl_context: Function that makes the context to verify certificates with.
    """

    allow_private: bool = False
    total_seconds: float = TOTAL_SECONDS
    connect_seconds: float = CONNECT_SECONDS
    max_bytes: int = MAX_BYTES
    resolve: Callable[[str, int], Sequence[str]] = resolve
    dial: Callable[[str, int, float], httpcore.NetworkStream] = dial
    ssl_context: Callable[[], ssl.SSLContext] = default_ssl_context

    def fetch(self, url: str) -> bytes:
        """Download a URL; see the function `fetch`."""
        deadline = _Deadline(self.total_seconds)
        target = _parse(url)
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._get(target, deadline)
            if isinstance(answer, bytes):
                return answer
            target = _parse(answer, base=target)
        raise FetchError(
            f"The address redirects more than {MAX_REDIRECTS} times. Use the address that it ends at, as your "
            "browser shows it."
        )

    def _get(self, target: httpx.URL, deadline: "_Deadline") -> bytes | str:
        """Send one request; returns the body as bytes, or the target of a redirect as text."""
        origin = httpcore.Origin(target.raw_scheme, target.raw_host, target.port or PORTS[target.scheme])
        url = httpcore.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=target.raw_path)
        try:
            with (
                httpcore.HTTPConnection(
                    origin,
                    ssl_context=self.ssl_context() if target.scheme == "https" else None,
                    network_backend=_CheckedBackend(self, deadline),
                ) as connection,
                connection.stream("GET", url, headers=HEADERS | {"Host": target.netloc.decode()}) as response,
            ):
                return _location(response) or self._body(response)
        except httpcore.TimeoutException:
            raise deadline.error() from None
        except (httpcore.NetworkError, httpcore.ProtocolError) as problem:
            raise FetchError(
                f"The connection to {target.host} failed ({_reason(problem)}). Check the address, or try again later."
            ) from None

    def _body(self, response: httpcore.Response) -> bytes:
        """Read the body, up to the size limit."""
        if response.status != 200:
            raise FetchError(
                f"The server answered with status {response.status} instead of a picture. Check that the address "
                "opens in a browser where you are not signed in."
            )
        if _header(response, b"content-encoding").lower() not in ("", "identity"):
            raise FetchError("The server sends the picture compressed once more, which is not read. Download it.")
        declared = _header(response, b"content-length")
        if declared.isdecimal() and int(declared) > self.max_bytes:
            raise self._too_large()
        body = bytearray()
        for part in response.iter_stream():
            body += part
            if len(body) > self.max_bytes:
                raise self._too_large()
        return bytes(body)

    def _too_large(self) -> FetchError:
        limit = self.max_bytes / 1e6
        return FetchError(f"The address holds more than {limit:g} MB, the most that is read. Use a smaller picture.")


class _Deadline:
    """A time limit for everything together; a limit for each read would let a slow server continue for ever."""

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Return the remaining seconds; raises FetchError if there are none."""
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise self.error()
        return seconds

    def error(self) -> FetchError:
        return FetchError(f"The server took longer than {self._seconds:g} seconds. Try again, or another address.")


class _CheckedBackend(httpcore.NetworkBackend):
    """Resolve a name, check its addresses, and connect to a checked one; TLS and the Host header use the name."""

    def __init__(self, fetcher: Fetcher, deadline: _Deadline):
        self._fetcher = fetcher
        self._deadline = deadline

    def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        connecting = _Deadline(min(self._fetcher.connect_seconds, self._deadline.remaining()))
        addresses = self._addresses(host, port, connecting)
        for position, address in enumerate(addresses):
            try:
                # A first address that does not answer, such as IPv6 without a route, leaves time for the others.
                seconds = connecting.remaining() / (len(addresses) - position)
                stream = self._fetcher.dial(address, port, seconds)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
            self._reject_own(stream, address, host)
            return _LimitedStream(stream, self._deadline, 2 * self._fetcher.max_bytes)
        raise FetchError(f"Nothing answers at {host}, port {port}. Check the address, or try again later.")

    def _addresses(self, host: str, port: int, connecting: _Deadline) -> list[str]:
        try:
            addresses = _in_thread(connecting.remaining(), self._fetcher.resolve, host, port)
        except (OSError, UnicodeError):  # a timeout is an OSError
            addresses = []
        if not addresses:
            raise FetchError(f"No address was found for {host!r}. Check the spelling.")
        # A private address among public ones is rejected too: no honest host has one.
        if not self._fetcher.allow_private and not all(map(is_public, addresses)):
            raise _private(host)
        return list(addresses)[:MAX_ADDRESSES]

    def _reject_own(self, stream: httpcore.NetworkStream, address: str, host: str) -> None:
        """Reject this machine's own public address: connections to it would bypass the firewall."""
        own = stream.get_extra_info("client_addr")
        if not self._fetcher.allow_private and own is not None and own[0] == address:
            stream.close()
            raise _private(host)


class _LimitedStream(httpcore.NetworkStream):
    """A connection with a deadline and a limit on the bytes received.

    The limit is loose, because headers and chunk sizes are received in addition to the body; it ends answers that
    consist of such overhead.
    """

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline, max_bytes: int):
        self._stream = stream
        self._deadline = deadline
        self._bytes_left = max_bytes + 100_000

    def read(self, max_bytes, timeout=None):
        data = self._stream.read(max_bytes, self._deadline.remaining())
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise FetchError("The server sends far more than a picture. Use another address.")
        return data

    def write(self, buffer, timeout=None):
        self._stream.write(buffer, self._deadline.remaining())

    def close(self):
        self._stream.close()

    def start_tls(self, ssl_context, server_hostname=None, timeout=None):
        stream = self._stream.start_tls(ssl_context, server_hostname, self._deadline.remaining())
        return _LimitedStream(stream, self._deadline, self._bytes_left)

    def get_extra_info(self, info):
        return self._stream.get_extra_info(info)


def _parse(url: str, base: httpx.URL | None = None) -> httpx.URL:
    """Parse a URL, relative to `base`, and check its form; its address is checked when connecting."""
    if len(url) > MAX_URL_CHARACTERS:
        raise FetchError(f"The address has {len(url)} characters, at most {MAX_URL_CHARACTERS} are read.")
    try:
        parsed = httpx.URL(url.strip()) if base is None else base.join(url)
        host, port = parsed.host, parsed.port
    except (httpx.InvalidURL, ValueError):  # ValueError: from idna
        raise FetchError("This is not an address that can be read. Expected one like https://…/homer.jpg") from None
    if parsed.scheme not in PORTS:
        raise FetchError("The address must begin with http:// or https://. Copy it from your browser's address bar.")
    if not host or port == 0 or (port or 1) > 65535:  # the system takes larger ones modulo 65536
        raise FetchError("The address names no server. Expected one like https://…/homer.jpg")
    if parsed.userinfo:
        raise FetchError("The address holds a user name or password. Leave them out, or download the picture.")
    return parsed


def _location(response: httpcore.Response) -> str | None:
    return _header(response, b"location") or None if response.status in REDIRECTS else None


def _header(response: httpcore.Response, name: bytes) -> str:
    values = [value for key, value in response.headers if key.lower() == name]
    return b", ".join(values).decode("utf-8", "replace").strip()


def _reason(problem: Exception) -> str:
    """Describe a network error; only those about certificates have details that a user can act on."""
    if isinstance(problem.__cause__, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {problem.__cause__.verify_message}"
    return "the server closed it or broke the protocol"


def _private(host: str) -> PrivateAddress:
    # The address is not named: it would reveal the structure of this network to a visitor.
    return PrivateAddress(f"{host!r} is not on the public internet, so it is not read. Use a public address.")


def _in_thread(seconds: float, function: Callable, *arguments):
    """Call a function and wait for a limited time; looking up a name cannot be interrupted."""
    future: futures.Future = futures.Future()

    def call() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as problem:
            future.set_exception(problem)

    threading.Thread(target=call, name="resolve", daemon=True).start()
    return future.result(timeout=seconds)
