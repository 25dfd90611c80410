"""A URL → its bytes, without giving access to the network of this machine (server-side request forgery).

Whoever enters a URL makes this machine open a connection. Therefore every address that a host name resolves to must be
public, the connection goes to the address that was checked (another look-up could return a different one), and each
redirect is checked again. The environment is ignored, so no proxy resolves the name instead.

The decoder decides whether the bytes are a picture.
"""

import contextlib
import functools
import ipaddress
import socket
import ssl
import threading
import time

import h11
import httpx

from lib.errors import UserError

MAX_BYTES = 10_000_000
MAX_REDIRECTS = 3
CONNECT_SECONDS = 5.0  # including the look-up of the name
TOTAL_SECONDS = 10.0  # from the call to the last byte, including redirects

PORTS = {"http": 80, "https": 443}
HEADERS = [
    ("User-Agent", "simpsons-recognition"),
    ("Accept", "image/jpeg, image/png, image/webp, image/avif, image/gif, image/bmp, */*;q=0.1"),
    # Pictures are compressed already; without a second compression there are no decompression bombs.
    ("Accept-Encoding", "identity"),
]
MAX_OVERHEAD = 100_000  # bytes of headers

# Special ranges that `ipaddress` calls global, or did in some releases of Python 3.11.
NOT_PUBLIC = (
    ipaddress.ip_network("168.63.129.16/32"),  # the host of a virtual machine in Azure
    ipaddress.ip_network("192.0.0.0/24"),  # protocol assignments, metadata of some clouds
    ipaddress.ip_network("192.88.99.0/24"),  # relays of 6to4
    ipaddress.ip_network("2001::/23"),  # protocol assignments, among them Teredo, which contains an IPv4 address
    ipaddress.ip_network("2002::/16"),  # 6to4, which contains an IPv4 address
)
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # all IPv6 addresses that are assigned
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # IPv4 addresses, as IPv6-only networks write them

ssl_context = functools.cache(httpx.create_ssl_context)  # reading about 150 certificates takes 20 ms


class PrivateAddress(UserError):
    """The URL leads to an address that is not on the public internet."""


def read_picture(url: str, allow_private: bool = False) -> bytes:
    """Download a picture.

    Args:
        url: An `http` or `https` URL without user name and password.
        allow_private: Whether the URL may point to this machine or its own network. Only for URLs from the owner of
            the machine, never for those of a visitor.

    Returns:
        At most `MAX_BYTES` bytes, of any type but a web page.

    Raises:
        UserError: The URL is not acceptable, is that of a web page, or exceeds a limit.
    """
    end = time.monotonic() + TOTAL_SECONDS
    target = _parse(url)
    for _ in range(MAX_REDIRECTS + 1):
        try:
            with _connect(target, end, allow_private) as connection:
                answer = _get(target, connection, end)
        except TimeoutError:
            message = f"The server took longer than {TOTAL_SECONDS:g} seconds. Try again, or another address."
            raise UserError(message) from None
        except (OSError, h11.ProtocolError) as problem:
            # Only errors about certificates have details that a user can act on.
            reason = "the server closed it or broke the protocol"
            if isinstance(problem, ssl.SSLCertVerificationError):
                reason = f"its certificate is not valid: {problem.verify_message}"
            message = f"The connection to {target.host} failed ({reason}). Check the address, or try again later."
            raise UserError(message) from None
        if isinstance(answer, str):
            target = _parse(answer, base=target)
            continue
        start = answer[:10_000].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        if not start.startswith(b"<"):
            return answer
        before, svg, _ = start.partition(b"<svg")
        if svg and b"<html" not in before and b"doctype html" not in before:
            raise UserError("This is an SVG drawing, which cannot be read. Save it as a PNG, and choose that.")
        raise UserError(
            "The address leads to a web page, not to a picture. Open it, right-click the picture there, and copy the "
            "picture's own address."
        )
    message = (
        f"The address redirects more than {MAX_REDIRECTS} times. Use the one that it ends at, as your browser shows it."
    )
    raise UserError(message)


def is_public(address: str) -> bool:
    """Check whether an address, as `getaddrinfo` returns it, is on the public internet.

    Private, local, reserved and multicast addresses are not, nor IPv6 addresses that represent such an IPv4 address.
    """
    ip = ipaddress.ip_address(address)
    if ip in NAT64:
        ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.version == 6 and ip not in GLOBAL_UNICAST:
        return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in NOT_PUBLIC)


def resolve(host: str, port: int) -> list[str]:
    """List the addresses of a name, or of an address in any notation that the system accepts, such as `127.1`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _connect(target: httpx.URL, end: float, allow_private: bool) -> socket.socket:
    """Look up a name, check its addresses, and connect to a checked one; TLS uses the name."""
    host, port = target.raw_host.decode(), target.port or PORTS[target.scheme]
    connect_end = min(end, time.monotonic() + CONNECT_SECONDS)
    addresses = _addresses(host, port, _remaining(connect_end), allow_private)
    for position, address in enumerate(addresses):
        # A first address that does not answer, such as IPv6 without a route, leaves time for the others.
        with contextlib.suppress(OSError):
            seconds = _remaining(connect_end) / (len(addresses) - position)
            connection = socket.create_connection((address, port), seconds)
            break
    else:
        raise UserError(f"Nothing answers at {target.host}, port {port}. Check the address, or try again later.")
    # Connections to this machine's own public address would bypass the firewall.
    if not allow_private and connection.getsockname()[0] == address:
        connection.close()
        raise _private(host)
    connection.settimeout(_remaining(end))
    if target.scheme == "https":
        connection = ssl_context(trust_env=False).wrap_socket(connection, server_hostname=host)
    return connection


def _addresses(host: str, port: int, seconds: float, allow_private: bool) -> list[str]:
    found: list[str] = []

    def look_up() -> None:
        with contextlib.suppress(OSError, UnicodeError):
            found.extend(resolve(host, port))

    # A look-up cannot be interrupted, so it is left behind.
    thread = threading.Thread(target=look_up, name="resolve", daemon=True)
    thread.start()
    thread.join(seconds)
    addresses = list(found)  # as they are now
    if not addresses:
        raise UserError(f"No address was found for {host!r}. Check the spelling.")
    # A private address among public ones is rejected too: no honest host has one.
    if not allow_private and not all(map(is_public, addresses)):
        raise _private(host)
    return addresses


def _get(target: httpx.URL, connection: socket.socket, end: float) -> bytes | str:
    """Send one request; returns the body as bytes, or the target of a redirect as text."""
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_OVERHEAD)
    request = h11.Request(method="GET", target=target.raw_path, headers=[("Host", target.netloc), *HEADERS])
    connection.sendall(http.send(request))
    http.send(h11.EndOfMessage())
    body, bytes_left = bytearray(), 2 * MAX_BYTES + MAX_OVERHEAD
    while not isinstance(event := http.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Response):
            headers = {name: value.decode("utf-8", "replace").strip() for name, value in event.headers}
            if 300 <= event.status_code < 400 and headers.get(b"location"):
                return headers[b"location"]
            _check(event.status_code, headers)
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_BYTES:
                raise _too_large()
        elif event is h11.NEED_DATA:
            # The deadline is for everything together; one for each read would let a slow server go on for ever.
            connection.settimeout(_remaining(end))
            data = connection.recv(65_536)
            bytes_left -= len(data)
            if bytes_left < 0:  # with a small body: interim answers, or chunks with long extensions
                raise UserError("The server sends far more than a picture. Use another address.")
            http.receive_data(data)
    return bytes(body)


def _check(status: int, headers: dict[bytes, str]) -> None:
    """Reject an answer that is no picture, or too large a one, before its body is read."""
    if status != 200:
        raise UserError(
            f"The server answered with status {status} instead of a picture. Check that the address opens in a "
            "browser where you are not signed in."
        )
    if headers.get(b"content-encoding", "").lower() not in ("", "identity"):
        raise UserError("The server sends the picture compressed once more, which is not read. Download it.")
    if int(headers.get(b"content-length", 0)) > MAX_BYTES:
        raise _too_large()


def _too_large() -> UserError:
    limit = MAX_BYTES / 1e6
    return UserError(f"The address holds more than {limit:g} MB, the most that is read. Use a smaller picture.")


def _parse(url: str, base: httpx.URL | None = None) -> httpx.URL:
    """Parse a URL, relative to `base`, and check its form; its address is checked when connecting."""
    try:
        parsed = httpx.URL(url.strip()) if base is None else base.join(url)
        host, port = parsed.host, parsed.port
    except (httpx.InvalidURL, ValueError):  # ValueError: from idna
        raise UserError("This is not an address that can be read. Expected one like https://…/homer.jpg") from None
    if parsed.scheme not in PORTS:
        raise UserError("The address must begin with http:// or https://. Copy it from your browser's address bar.")
    if not host or port == 0 or (port or 1) > 65535:  # the system takes larger ones modulo 65536
        raise UserError("The address names no server. Expected one like https://…/homer.jpg")
    if parsed.userinfo:
        raise UserError("The address holds a user name or password. Leave them out, or download the picture.")
    return parsed


def _private(host: str) -> PrivateAddress:
    # The address is not named: it would reveal the structure of this network to a visitor.
    return PrivateAddress(f"{host!r} is not on the public internet, so it is not read. Use a public address.")


def _remaining(end: float) -> float:
    """Return the seconds until a deadline; raises TimeoutError if there are none."""
    seconds = end - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
