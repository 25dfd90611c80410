"""Who is let in, and how much is done at once."""

import collections
import contextlib
import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

BYTES_PER_VISITOR = 120_000_000  # a kernel with the dashboard in it; `make bench` prints what one takes
RESERVED_BYTES = 500_000_000  # for the server itself, a burst of large pictures, and the rest of the machine
MAX_DEFAULT_VISITORS = 64  # more pages than that want more than one machine's processors
CGROUP = Path("/sys/fs/cgroup")


class Busy(Exception):
    """No place is free just now."""


class TooManyAtOnce(Exception):
    """This client has more under way than its share."""


class Access:
    """Which names of the server and which secrets of a visitor are accepted.

    Args:
        token: The secret that every visitor must show, or "" for none.
        hostnames: Names, besides the machine's own, under which the server may be addressed.
    """

    def __init__(self, token: str = "", hostnames: Iterable[str] = ()) -> None:
        own = socket.gethostname().lower()
        self._names = {"localhost", own, f"{own}.local", *(name.lower() for name in hostnames)}
        self._token = token.encode()
        # Whoever reads the cookie does not learn the token. Servers with the same token accept each other's
        # visitors; those with another one, on other ports of this machine, do not get into each other's way.
        self.cookie_name = f"visitor-{self._derive('name')[:8]}"
        self.cookie = self._derive("value")

    @property
    def needs_token(self) -> bool:
        """Whether a visitor must show a token."""
        return bool(self._token)

    def knows_host(self, host: str) -> bool:
        """Whether the server may be addressed by this name.

        A foreign page can point a name of its own at this server (DNS rebinding) and would then count as the
        server's own page. It needs a name for that, so addresses are always accepted.

        Args:
            host: The host of the `Host` header, without port.
        """
        host = host.lower().rstrip(".")
        try:
            ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            return host in self._names
        return True

    def is_token(self, given: str) -> bool:
        """Whether this is the token; takes the same time for every wrong one."""
        return hmac.compare_digest(given.encode(), self._token)

    def is_cookie(self, given: str) -> bool:
        """Whether this is the cookie that `is_token` earned; takes the same time for every wrong one."""
        return hmac.compare_digest(given.encode(), self.cookie.encode())

    def _derive(self, what: str) -> str:
        return hmac.new(self._token, what.encode(), hashlib.sha256).hexdigest()


class Slots:
    """Counts what is under way, in all and for each client.

    Args:
        limit: How much may be under way at once. No client gets more than half of it (one at least), so that
            one cannot shut out the others.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.share = max(1, limit // 2)
        self._taken: collections.Counter[str] = collections.Counter()

    @property
    def under_way(self) -> int:
        """How much is under way."""
        return self._taken.total()

    @contextlib.contextmanager
    def one(self, client: str) -> Iterator[None]:
        """Hold one place while the block runs.

        Args:
            client: Whose place it is, an address.

        Raises:
            Busy: If all places are taken.
            TooManyAtOnce: If this client's share is.
        """
        if self.under_way >= self.limit:
            raise Busy
        if self._taken[client] >= self.share:
            raise TooManyAtOnce
        self._taken[client] += 1
        try:
            yield
        finally:
            self._taken[client] -= 1
            if not self._taken[client]:
                del self._taken[client]


def client(address: str) -> str:
    """Say whose address this is: of IPv6 the first half, as one home or phone has all addresses that share it."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:  # a Unix socket has none
        return address
    return address if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False))


def default_max_predictions(cores: int) -> int:
    """How many predictions may wait or run: a queue that two cores empty in about 150 ms."""
    return 16 * cores


def default_max_visitors() -> int:
    """How many visitors the free memory has room for, 1 to `MAX_DEFAULT_VISITORS`."""
    room = (available_memory() - RESERVED_BYTES) // BYTES_PER_VISITOR
    return min(max(1, room), MAX_DEFAULT_VISITORS)


def available_memory() -> int:
    """Bytes that can be used without swapping: of the machine, or of the container if that is less."""
    free = psutil.virtual_memory().available
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
    except (OSError, ValueError):  # no container, or one without a limit, which says "max"
        return free
    return min(free, limit - used)
