"""The kernels behind the page: at most so many, ended when their page is gone, and guarded against its messages."""

import asyncio
import logging
import struct
from typing import Any

import psutil
import tornado.web
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.iostream import StreamBufferFullError
from voila.utils import ENV_VARIABLE

log = logging.getLogger(__name__)

LEAVE_SECONDS = 60.0  # a kernel outlives its page's connection
IDLE_SECONDS = 600.0  # after which a page that nobody uses loses its kernel, and says so
PLACE_SECONDS = 1.0  # between two looks whether a page can be made ahead
START_SECONDS = 150.0  # after which a page that is not made yet never will be
PROTOCOL = "v1.kernel.websocket.jupyter.org"  # the page's own; the older one lets two short frames stop the server
MAX_PARTS = 16  # of a message: channel, four of JSON, pictures
MAX_JSON_BYTES = 256_000  # of a message, pictures not included
MAX_UNSENT_BYTES = 64_000_000  # for a page that does not read
# A kernel has 0.4 GB of address space for data (a tenth of it used), and a 50-megapixel picture takes 0.75 GB.
KERNEL_BYTES = 1_500_000_000  # on Linux
MAX_KERNELS = 8
MAX_LOGGED_ERRORS = 10  # for each connection, so that nobody can flood the log
# Nothing that a visitor does is stored, and a kernel says what goes wrong by its messages alone.
KERNEL_ARGUMENTS = ["--HistoryManager.enabled=False", "--IPKernelApp.log_level=ERROR"]


class Full(Exception):
    """As many pages are open as may be."""


class Kernels(AsyncMappingKernelManager):
    """Kernels that end when nobody needs them, by a clock that stands still while the machine sleeps.

    Voila makes one page ahead of its visitor (`preheat_kernel`), with a kernel that waits for as long as it takes. A
    page looks for new networks when it is opened, so it may be an old one.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        room = int(0.8 * psutil.virtual_memory().available)
        self.max_kernels = min(max(1, room // KERNEL_BYTES), MAX_KERNELS)
        self.starting = 0
        self._waits = False  # whether a page that is to be made ahead waits for a place
        self._pools: dict[str, list[asyncio.Task]] = {}  # of pages made ahead, by notebook; Voila's subclass keeps them
        self._endings: dict[str, asyncio.TimerHandle] = {}

    @property
    def _tasks(self) -> list[asyncio.Task]:
        return [task for pool in self._pools.values() for task in pool]

    @property
    def ahead(self) -> set[str]:
        """Kernels of pages that are made and that no visitor has asked for yet."""
        done = (task for task in self._tasks if task.done() and not task.cancelled())
        return {task.result()["kernel_id"] for task in done if not task.exception()}

    @property
    def pages(self) -> int:
        """Number of kernels whose page was asked for."""
        return len(set(self.list_kernel_ids()) - self.ahead)

    @property
    def is_full(self) -> bool:
        """Whether no further kernel may be started."""
        return self.starting + len(self) >= self.max_kernels

    async def start_kernel(self, **kwargs: Any) -> str:
        is_ahead = (kwargs.get("env") or {}).get(ENV_VARIABLE.VOILA_PREHEAT) == "True"
        while is_ahead and self.is_full:
            self._waits = True
            await asyncio.sleep(PLACE_SECONDS)
        self._waits = self._waits and not is_ahead
        if self.is_full:
            raise Full
        self.starting += 1
        try:
            kernel_id = await super().start_kernel(extra_arguments=KERNEL_ARGUMENTS, **kwargs)
        finally:
            self.starting -= 1
        if hasattr(psutil, "RLIMIT_DATA"):
            limit = (KERNEL_BYTES, KERNEL_BYTES)
            psutil.Process(self.get_kernel(kernel_id).provisioner.pid).rlimit(psutil.RLIMIT_DATA, limit)
        self.end_after(START_SECONDS, kernel_id)
        return kernel_id

    async def make_place(self) -> None:
        """Give a visitor the page made ahead, once it is ready, or else a place for a new one; raises Full."""
        self._forget_failed()
        while self.is_full and not self.ahead:
            if self._waits or all(task.done() for task in self._tasks):
                raise Full
            await asyncio.sleep(PLACE_SECONDS)
        for kernel_id in self.ahead:
            self.end_after(START_SECONDS, kernel_id)

    def end_after(self, seconds: float, kernel_id: str) -> None:
        """End a kernel unless this is called again before, or its page still waits for a visitor then."""
        if kernel_id in self._endings:
            self._endings[kernel_id].cancel()
        self._endings[kernel_id] = asyncio.get_running_loop().call_later(seconds, self._end, kernel_id)

    def _end(self, kernel_id: str) -> None:
        del self._endings[kernel_id]
        self._forget_failed()
        if kernel_id in self.ahead:
            self.end_after(START_SECONDS, kernel_id)
        else:
            asyncio.get_running_loop().create_task(self.shutdown_kernel(kernel_id))

    def _forget_failed(self) -> None:
        """Drop pages that could not be made ahead; Voila would raise for them at the end of every other kernel."""
        for pool in self._pools.values():
            pool[:] = [task for task in pool if not task.done() or not (task.cancelled() or task.exception())]

    async def shutdown_kernel(self, kernel_id: str, now: bool = True, restart: bool = False) -> None:
        """End a kernel at once, if it is still there."""
        if kernel_id in self:
            await super().shutdown_kernel(kernel_id, now=True)

    def notify_connect(self, kernel_id: str) -> None:
        self.end_after(IDLE_SECONDS, kernel_id)
        super().notify_connect(kernel_id)

    def notify_disconnect(self, kernel_id: str) -> None:
        super().notify_disconnect(kernel_id)
        if self._kernel_connections.get(kernel_id) == 0:
            self.end_after(LEAVE_SECONDS, kernel_id)

    def _handle_kernel_died(self, kernel_id: str) -> None:
        log.warning("The kernel of a page died (out of memory?).")
        # The parent only forgets it, its sockets and files would stay.
        asyncio.get_running_loop().create_task(self.shutdown_kernel(kernel_id))


class Connection(ZMQChannelsWebsocketConnection):
    """The websocket between a page and its kernel. Frames are checked before Jupyter's readers see them."""

    errors = 0  # of its kernel, so far

    async def prepare(self) -> None:
        if PROTOCOL not in self.websocket_handler.request.headers.get("Sec-WebSocket-Protocol", ""):
            raise tornado.web.HTTPError(400)
        await super().prepare()

    def handle_incoming_message(self, incoming_msg: bytes | str) -> None:
        try:
            check_frame(incoming_msg)  # which also raises for text
            super().handle_incoming_message(incoming_msg)
            self.multi_kernel_manager.end_after(IDLE_SECONDS, self.kernel_id)
        except Exception:
            self.websocket_handler.close(code=1003, reason="This is no message to a widget.")

    def handle_outgoing_message(self, stream: Any, outgoing_msg: list[Any]) -> None:
        """Pass a message on to the page, unless it tells of an error inside the kernel, with files of this machine.

        `MappingKernelManager.allow_tracebacks` should do this, but raises AttributeError in jupyter_server 2.21, and
        leaves what the kernel writes to stderr.
        """
        _, parts = self.session.feed_identities(outgoing_msg)
        kind = self.session.unpack(parts[1])["msg_type"]
        content = self.session.unpack(parts[4]) if kind in ("error", "stream") else {}
        if kind == "error" or content.get("name") == "stderr":
            error = str(content.get("evalue") or content.get("text"))
            if not error.startswith("No such comm"):  # ipywidgets says so at every visit
                self.errors += 1
                if self.errors <= MAX_LOGGED_ERRORS:
                    log.warning("Page kernel error: %r", error[-500:])
            return
        socket = self.websocket_handler.ws_connection
        if socket is None:
            return
        socket.stream.max_write_buffer_size = MAX_UNSENT_BYTES
        try:
            super().handle_outgoing_message(stream, outgoing_msg)
        except StreamBufferFullError:
            socket.abort()


def check_frame(frame: bytes) -> None:
    """Check the parts of a message in protocol v1: their number, order and bounds, and the size of its JSON.

    A frame holds the number of offsets, the offsets (8 bytes each, little-endian), then the parts: channel, header,
    parent header, metadata, content, and buffers. Jupyter's reader would take 8 bytes that claim 10⁸ offsets at their
    word; this raises ValueError.
    """
    number = int.from_bytes(frame[:8], "little")
    start = 8 * (number + 1)
    if not 6 <= number <= MAX_PARTS or len(frame) < start:
        raise ValueError("the number of parts")
    offsets = struct.unpack_from(f"<{number}Q", frame, 8)
    if sorted(offsets) != list(offsets) or (offsets[0], offsets[-1]) != (start, len(frame)):
        raise ValueError("the bounds of parts")
    if offsets[5] - offsets[0] > MAX_JSON_BYTES:
        raise ValueError("the size of the JSON")
