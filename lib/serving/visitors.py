"""A kernel for each visitor, at most so many, and one made ahead.

Voila can keep a pool of preheated kernels itself. It is not used: its pool keeps a page that could not be
made and hands it to a later visitor, does not fill again when a visitor leaves, starts a second kernel for
whoever comes while the first one is being made, and sends a failed notebook with status 200.
"""

import asyncio
import datetime
import logging
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import nbformat
import psutil
import tornado.web
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from traitlets import Float, default
from voila.app import Voila
from voila.notebook_renderer import NotebookRenderer
from voila.utils import get_page_config

from lib.machine import cores

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 4  # websockets to one kernel: a page needs one, and one more while it reconnects
# What a visitor sends stays in the kernel; this much of it is where the kernel refuses, not the whole machine. The
# dashboard has 0.4 GB of address space for data (a tenth of it used), and a 50-megapixel picture takes 0.75 GB (15
# bytes a pixel, of a PNG with transparency).
MAX_KERNEL_BYTES = 1_500_000_000
MAX_LOGGED_ERRORS = 10  # for each kernel, so that nobody can flood the log
# Nothing that a visitor does is stored, and a kernel says what goes wrong by its messages alone.
KERNEL_ARGUMENTS = ["--HistoryManager.enabled=False", "--IPKernelApp.log_level=ERROR"]


class Full(Exception):
    """Every place for a visitor is taken."""


class PageFailed(Exception):
    """The notebook did not run to its end; the log says why."""


@dataclass(frozen=True)
class Page:
    """What a visitor gets: a kernel, and the HTML that talks to it."""

    kernel_id: str
    html: str


class Kernels(AsyncMappingKernelManager):
    """The visitors' kernels, ended soon after their visitor left."""

    leave_seconds = Float(60, config=True, help="How long a kernel outlives its page's connection (seconds).")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.on_end = lambda kernel_id: None
        self.spare: str | None = None
        self.errors: Counter[str] = Counter()
        self._leaving: dict[str, asyncio.TimerHandle] = {}

    def notify_connect(self, kernel_id: str) -> None:
        """Note that a page connected: its visitor is here."""
        self._stay(kernel_id)
        super().notify_connect(kernel_id)

    def notify_disconnect(self, kernel_id: str) -> None:
        """Note that a page disconnected: unless it comes back, its visitor has left."""
        super().notify_disconnect(kernel_id)
        if self._kernel_connections.get(kernel_id) == 0:
            self._end_after(self.leave_seconds, kernel_id)

    def expect(self, kernel_id: str) -> None:
        """End a kernel unless its page, just handed out, connects; a slow network may take its time."""
        # A page made ahead may have waited for long: its visitor's time begins now.
        self.get_kernel(kernel_id).last_activity = datetime.datetime.now(datetime.UTC)
        self._end_after(2 * self.leave_seconds, kernel_id)

    async def end(self, kernel_id: str) -> None:
        """End a kernel at once, if it is still there."""
        if kernel_id in self:
            await self.shutdown_kernel(kernel_id, now=True)

    def remove_kernel(self, kernel_id: str) -> Any:
        """Forget a kernel that has ended, whatever ended it."""
        self._stay(kernel_id)
        self.errors.pop(kernel_id, None)
        kernel = super().remove_kernel(kernel_id)
        self.on_end(kernel_id)
        return kernel

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """End a kernel that nobody used for long, except the one that waits for its first visitor."""
        if kernel_id != self.spare:
            await super().cull_kernel_if_idle(kernel_id)

    def _handle_kernel_died(self, kernel_id: str) -> None:
        log.warning("The kernel of a visitor died (out of memory?).")
        self._end_soon(kernel_id)  # the parent only forgets it, its sockets and files would stay

    def _end_after(self, seconds: float, kernel_id: str) -> None:
        self._stay(kernel_id)
        loop = asyncio.get_running_loop()
        self._leaving[kernel_id] = loop.call_later(seconds, self._end_soon, kernel_id)

    def _stay(self, kernel_id: str) -> None:
        timer = self._leaving.pop(kernel_id, None)
        if timer is not None:
            timer.cancel()

    def _end_soon(self, kernel_id: str) -> None:
        self._leaving.pop(kernel_id, None)
        task = asyncio.ensure_future(self.end(kernel_id))
        task.add_done_callback(_log_failure)


class VisitorConnection(ZMQChannelsWebsocketConnection):
    """The websocket between a page and its kernel; the kernel's tracebacks stay on this side."""

    @default("log")
    def _log_default(self) -> logging.Logger:
        # Jupyter logs every message that is not allowed, so that a visitor could fill the disk.
        silent = logging.getLogger(f"{__name__}.silent")
        silent.setLevel(logging.CRITICAL)
        return silent

    async def prepare(self) -> None:
        """Get ready, unless the kernel has connections enough: each takes several sockets."""
        if self.multi_kernel_manager._kernel_connections.get(self.kernel_id, 0) >= MAX_CONNECTIONS:
            raise tornado.web.HTTPError(429)
        await super().prepare()

    def handle_incoming_message(self, incoming_msg: str) -> None:
        """Pass a message on to the kernel if it is of an allowed type; one that is no message ends it."""
        try:
            super().handle_incoming_message(incoming_msg)
        except Exception:
            self.websocket_handler.close(code=1003, reason="This is no message to a widget.")

    def handle_outgoing_message(self, stream: Any, outgoing_msg: list[Any]) -> None:
        """Pass a message on to the page, unless it tells of an error inside the kernel.

        A hostile message to a widget raises in the kernel, and the traceback names files of this machine.
        (`MappingKernelManager.allow_tracebacks` should do this, but raises AttributeError in jupyter_server
        2.21, and leaves what the kernel logs to stderr.)
        """
        _, parts = self.session.feed_identities(outgoing_msg)
        kind = self.session.unpack(parts[1])["msg_type"]
        if kind in ("error", "stream"):
            content = self.session.unpack(parts[4])
            if kind == "error" or content["name"] == "stderr":
                self._note(str(content.get("evalue") or content.get("text")))
                return
        super().handle_outgoing_message(stream, outgoing_msg)

    def _note(self, error: str) -> None:
        if error.startswith("No such comm"):  # ipywidgets says so at every visit
            return
        errors = self.multi_kernel_manager.errors
        errors[self.kernel_id] += 1
        if errors[self.kernel_id] <= MAX_LOGGED_ERRORS:
            log.warning("Visitor kernel error: %r", error[-500:])


class CompiledTemplates(jinja2.BytecodeCache):
    """Compiled templates in memory: Voila compiles them for each page, and nobody is answered for 0.2 s."""

    def __init__(self) -> None:
        self._code: dict[str, bytes] = {}

    def load_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
        """Fill the bucket if its template has been compiled."""
        if bucket.key in self._code:
            bucket.bytecode_from_string(self._code[bucket.key])

    def dump_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
        """Keep what was compiled."""
        self._code[bucket.key] = bucket.bytecode_to_string()


class Renderer(NotebookRenderer):
    """Voila's renderer, which also notices that a cell failed."""

    compiled_templates = CompiledTemplates()
    failed = False

    async def initialize(self, **kwargs: Any) -> None:
        """Get ready as Voila does."""
        await super().initialize(**kwargs)
        self.exporter.environment.bytecode_cache = self.compiled_templates

    async def load_notebook(self, path: str) -> nbformat.NotebookNode:
        """Read the notebook without Jupyter's contents manager, which would write a signing key to `~`."""
        return await self.fix_notebook(nbformat.read(Path(self.root_dir) / path, as_version=4))

    async def _jinja_cell_generator(self, nb: Any, kernel_id: str) -> AsyncIterator[Any]:
        async for cell in super()._jinja_cell_generator(nb, kernel_id):
            # Voila takes warnings off stderr before this; what is left there is a failure of its own.
            self.failed |= any(
                output["output_type"] == "error" or output.get("name") == "stderr" for output in cell.get("outputs", [])
            )
            yield cell


class Pages:
    """Makes pages, one of them ahead, and no more than there are places.

    Args:
        server: The Voila application, set up.
        max_visitors: How many kernels may be there at once, the one made ahead included.
        environment: What the kernels find in their environment.
        make_ahead: Whether to keep one page ready.
    """

    def __init__(
        self, server: Voila, max_visitors: int, environment: Mapping[str, str], make_ahead: bool = True
    ) -> None:
        self.max_visitors = max_visitors
        self._server = server
        self._kernels: Kernels = server.kernel_manager
        self._kernels.on_end = self._ended
        self._environment = dict(environment)
        self._make_ahead = make_ahead
        self._spare: asyncio.Task[Page] | None = None
        self._making: set[asyncio.Task[Page]] = set()
        self._reserved: set[str] = set()
        # Each start keeps a core busy: side by side they would all be late.
        self._starts = asyncio.Semaphore(cores())

    @property
    def in_use(self) -> int:
        """How many places are taken: kernels that run, start or end, and the spare one."""
        return len(self._reserved.union(self._kernels.list_kernel_ids()))

    @property
    def is_ready(self) -> bool:
        """Whether a page made ahead waits for a visitor."""
        return self._kernels.spare is not None

    async def take(self) -> Page:
        """Give a visitor a page: the one made ahead, or else a new one.

        Raises:
            Full: If every place is taken.
            PageFailed: If the notebook failed.
        """
        page = await self._take_spare() or await self._start()
        self._kernels.expect(page.kernel_id)
        self.prepare_spare()
        return page

    def prepare_spare(self) -> None:
        """Start to make a page ahead if none is there and a place is free."""
        if self._make_ahead and self._spare is None and self.in_use < self.max_visitors:
            self._spare = self._start()
            self._spare.add_done_callback(self._spare_made)

    async def close(self) -> None:
        """End every kernel; none starts afterwards."""
        self._make_ahead = False
        self.max_visitors = 0
        for task in self._making:
            task.cancel()
        kernels = [self._kernels.end(kernel_id) for kernel_id in self._kernels.list_kernel_ids()]
        await asyncio.gather(*self._making, *kernels, return_exceptions=True)

    def _start(self) -> asyncio.Task[Page]:
        if self.in_use >= self.max_visitors:
            raise Full
        kernel_id = str(uuid.uuid4())
        self._reserved.add(kernel_id)
        task = asyncio.create_task(self._make(kernel_id))
        self._making.add(task)
        task.add_done_callback(self._making.discard)
        return task

    async def _make(self, kernel_id: str) -> Page:
        try:
            async with self._starts:
                return await self._render(kernel_id)
        except Exception:
            await self._kernels.end(kernel_id)
            raise
        finally:
            self._reserved.discard(kernel_id)

    def _spare_made(self, task: asyncio.Task[Page]) -> None:
        _log_failure(task)
        if task is self._spare and not task.cancelled() and not task.exception():
            self._kernels.spare = task.result().kernel_id

    async def _take_spare(self) -> Page | None:
        spare, self._spare, self._kernels.spare = self._spare, None, None
        if spare is None:
            return None
        try:
            page = await spare
        except Exception:  # logged; the visitor gets a new page, or is told why not
            return None
        return page if page.kernel_id in self._kernels else None

    async def _render(self, kernel_id: str) -> Page:
        renderer = self._renderer()
        await renderer.initialize()
        await self._kernels.start_kernel(
            kernel_id=kernel_id,
            kernel_name=renderer.notebook.metadata.kernelspec.name,
            path="",
            env=self._environment,
            extra_arguments=KERNEL_ARGUMENTS,
        )
        limit_memory(self._kernels.get_kernel(kernel_id).provisioner.pid)
        html = await renderer.generate_content_str(kernel_id, self._kernels.get_kernel(kernel_id))
        if renderer.failed:
            raise PageFailed
        return Page(kernel_id, html)

    def _renderer(self) -> Renderer:
        server = self._server
        notebook = Path(server.notebook_path).resolve()
        return Renderer(
            voila_configuration=server.voila_configuration,
            traitlet_config=server.config,
            root_dir=str(notebook.parent),
            notebook_path=notebook.name,
            template_paths=server.template_paths,
            config_manager=server.config_manager,
            contents_manager=server.contents_manager,
            base_url=server.base_url,
            kernel_spec_manager=server.kernel_spec_manager,
            page_config=get_page_config(
                base_url=server.base_url,
                settings=server.app.settings,
                log=server.log,
                voila_configuration=server.voila_configuration,
            ),
        )

    def _ended(self, kernel_id: str) -> None:
        if kernel_id == self._kernels.spare:
            self._kernels.spare = self._spare = None
        # Not at once: the place is free only when the kernel manager has finished with it.
        asyncio.get_running_loop().call_soon(self.prepare_spare)


def limit_memory(pid: int) -> None:
    """Limit the data that a process may hold, on Linux; elsewhere there is no way to do it from outside."""
    if hasattr(psutil, "RLIMIT_DATA"):
        psutil.Process(pid).rlimit(psutil.RLIMIT_DATA, (MAX_KERNEL_BYTES, MAX_KERNEL_BYTES))


def _log_failure(task: asyncio.Task) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("A page or its kernel failed.", exc_info=task.exception())
