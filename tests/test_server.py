"""The server: who is let in, what it answers, how much it does at once, and how it ends."""

import asyncio
import base64
import contextlib
import errno
import hashlib
import http.client
import itertools
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import types
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import nbformat
import psutil
import pytest
import tornado.httpserver
import tornado.netutil
import tornado.web
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado import websocket
from tornado.httpclient import HTTPClientError, HTTPRequest
from traitlets.config import Configurable
from voila.voila_kernel_manager import voila_kernel_manager_factory

from lib import machine, paths
from lib.errors import UserError
from lib.inference.recogniser import Recogniser
from lib.serving import handlers, kernels, server
from tests import running_server, small_model
from tests.patience import PATIENCE, until
from tests.running_server import Running, Visit, command, running

RED = small_model.picture((255, 0, 0))  # the colour of the first character
TOKEN = "a+token/that=nobody-guesses"  # as `openssl rand -base64` may give
SECRET = "what stands beside the notebook"


def encoded(contents: bytes) -> str:
    return base64.b64encode(contents).decode()


# ---------------------------------------------------------------- the rules, without a server


def test_an_unusable_setting_gets_a_message(monkeypatch, capsys):
    monkeypatch.setenv("MODEL_DIR", "no/such/run")
    assert server.main([]) == 2 and "no run folder" in capsys.readouterr().err


def test_a_foreign_address_gets_a_message():
    with pytest.raises(UserError, match=r"192\.0\.2\.1:0: .*HOST"):
        server.listen_on("192.0.2.1", 0)
    for host in ("my..host", "127.0.0.1:80", "http://127.0.0.1"):
        with pytest.raises(UserError, match="HOST must be an address or a name of this machine"):
            server.listen_on(host, 0)
    with pytest.raises(UserError, match="PORT must be a number from 0 to 65535, not 99999"):
        server.listen_on("127.0.0.1", 99_999)


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("localhost.", True),
        ("127.0.0.1", True),
        ("[::1]", True),
        ("192.168.1.20", True),
        (socket.gethostname(), True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
def test_only_names_of_the_server_are_known(host, known):
    assert handlers.is_own_name(host) is known


def test_loopback_needs_no_token_and_everything_else_gets_one():
    assert server.read_token("127.0.0.1", {}) == ""
    made = server.read_token("0.0.0.0", {})
    assert len(made) > 20 and made != server.read_token("0.0.0.0", {})


def test_a_token_comes_from_the_environment_or_a_file(tmp_path):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert server.read_token("127.0.0.1", {"TOKEN": TOKEN}) == TOKEN
    assert server.read_token("0.0.0.0", {"TOKEN_FILE": str(tmp_path / "token")}) == TOKEN
    with pytest.raises(UserError, match="TOKEN_FILE="):
        server.read_token("0.0.0.0", {"TOKEN_FILE": str(tmp_path / "none")})
    (tmp_path / "token").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"TOKEN_FILE=.*token cannot be read: 'utf-8' codec"):
        server.read_token("0.0.0.0", {"TOKEN_FILE": str(tmp_path / "token")})


def test_a_token_file_that_never_ends_is_read_up_to_a_limit():
    with pytest.raises(UserError, match="must hold a token of 1 to 1000 letters"):
        server.read_token("0.0.0.0", {"TOKEN_FILE": "/dev/zero"})


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_an_empty_token_file_neither_opens_nor_locks_the_server(host, tmp_path):
    (tmp_path / "token").write_text(" \n")
    with pytest.raises(UserError, match="must hold a token of 1 to 1000 letters"):
        server.read_token(host, {"TOKEN_FILE": str(tmp_path / "token")})


def test_a_token_on_makes_command_line_is_refused():
    with pytest.raises(UserError, match="Put TOKEN before it"):
        server.read_token("0.0.0.0", {"TOKEN": TOKEN, "MAKEFLAGS": f" -- TOKEN={TOKEN}"})


def test_the_kernels_memory_is_not_more_than_the_machine_has(monkeypatch):
    for free, kernels_at_most in ((10**9, 1), (5 * 10**9, 2), (10**12, kernels.MAX_KERNELS)):
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: types.SimpleNamespace(available=free))
        assert kernels.Kernels().max_kernels == kernels_at_most  # 0.8 × 5 GB / 1.5 GB = 2.7


def test_left_folders_of_killed_servers_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(server.tempfile, "gettempdir", lambda: str(tmp_path))
    ended = subprocess.Popen(["true"])
    ended.wait()
    left, own = tmp_path / f"{server.FOLDERS}{ended.pid}-x", tmp_path / f"{server.FOLDERS}{os.getpid()}-x"
    left.mkdir()
    own.mkdir()
    server.remove_left_folders()
    assert [folder.name for folder in tmp_path.iterdir()] == [own.name]


def test_a_page_may_run_its_own_inline_scripts_only():
    script = "let a = '<b>' && 1;\n"
    page = f'<script>{script}</script><script src="a.js"></script><script type="application/json">{{}}</script>'
    digest = encoded(hashlib.sha256(script.encode()).digest())
    assert re.findall("'sha256-[^']+'", handlers.page_policy(page)) == [f"'sha256-{digest}'"]


# ---------------------------------------------------------------- POST /predict, with a network of the test's own


@contextlib.contextmanager
def serving(predictor: handlers.Predictor) -> Iterator[str]:
    """Answer `/predict` in a thread, and give the address of it."""
    sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
    started, stop = threading.Event(), []

    async def serve() -> None:
        ended = asyncio.Event()
        stop.append((asyncio.get_running_loop(), ended))
        settings = {"predictor": predictor, "log_function": lambda handler: None}
        application = tornado.web.Application([("/predict", handlers.PredictHandler)], **settings)
        listening = tornado.httpserver.HTTPServer(handlers.Gate(application, ""), max_body_size=handlers.MAX_BODY_BYTES)
        listening.add_sockets(sockets)
        started.set()
        await ended.wait()
        listening.stop()
        await listening.close_all_connections()

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    started.wait()
    try:
        yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}/predict"
    finally:
        loop, ended = stop[0]
        loop.call_soon_threadsafe(ended.set)
        thread.join()


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    return small_model.write_run(tmp_path_factory.mktemp("outputs") / "small")


@pytest.fixture(scope="module")
def predict(run_dir) -> Iterator[str]:
    with serving(handlers.Predictor(lambda: Recogniser.load(run_dir), limit=20)) as address:
        yield address


class Blocked:
    """A network that answers when it is let go."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def predict(self, contents: bytes):
        self.go_on.wait(PATIENCE)
        raise UserError("let go")


def test_as_many_pictures_are_decoded_at_once_as_there_are_cores(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 2)
    now, most = [], []

    class Counting:
        def predict(self, contents: bytes):
            now.append(contents)
            most.append(len(now))
            time.sleep(0.05)
            now.pop()
            raise UserError("counted")

    async def ask_six_times() -> None:
        predictor = handlers.Predictor(Counting, limit=6)
        body = json.dumps({"image": encoded(RED)}).encode()
        await asyncio.gather(*(predictor.predict(Counting(), body) for _ in range(6)), return_exceptions=True)

    asyncio.run(ask_six_times())
    assert (len(most), max(most)) == (6, 2)


@contextlib.contextmanager
def blocked(limit: int, under_way: int) -> Iterator[str]:
    """Serve a blocked network with so many requests under way, and give its address."""
    network = Blocked()
    predictor = handlers.Predictor(lambda: network, limit=limit)
    threads = []
    with serving(predictor) as address:
        for _ in range(under_way):
            threads.append(
                threading.Thread(target=httpx.post, args=[address], kwargs={"json": {"image": encoded(RED)}})
            )
            threads[-1].start()
        until(lambda: predictor.under_way == under_way)
        try:
            yield address
        finally:
            network.go_on.set()
            for thread in threads:
                thread.join()


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_predict_names_the_character(predict, prefix):
    answer = httpx.post(predict, json={"image": prefix + encoded(RED)})
    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == ["character", "name", "probability", "probabilities", "known", "found"]
    assert (body["character"], body["name"]) == ("homer_simpson", "Homer Simpson")
    assert sorted(body["probabilities"]) == sorted(small_model.CHARACTERS)
    assert max(body["probabilities"].values()) == body["probability"] > 0.9


def test_predict_takes_base64_in_lines(predict):
    lines = base64.encodebytes(RED).decode()
    assert "\n" in lines.strip()
    assert httpx.post(predict, json={"image": lines}).status_code == 200


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not JSON"),
        (b"{}", "not JSON"),
        (b'{"image": 1}', "not JSON"),
        (b'{"image": null}', "not JSON"),
        (b'{"image": ["a"]}', "not JSON"),
        (b'{"image": "aGVsbG8=", "more": [' + b"[]," * 1_000 + b"[]]}", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"image": "=)"}', "not valid base64"),
        (b'{"image": "notes, aGVsbG8="}', "not valid base64"),
        ('{"image": "é"}'.encode(), "not valid base64"),
        (b'{"image": ""}', "empty"),
        (b'{"image": "aGVsbG8="}', "not a picture"),
        (json.dumps({"image": encoded(RED[:-40])}).encode(), "damaged"),
    ],
)
def test_predict_says_what_is_wrong_with_a_body(predict, body, sentence):
    answer = httpx.post(predict, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"] and sentence in answer.json()["error"]


def test_predict_wants_json(predict):
    answer = httpx.post(predict, data={"image": encoded(RED)})
    assert answer.status_code == 415 and "application/json" in answer.json()["error"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_predict_wants_a_post(predict, method):
    answer = httpx.request(method, predict)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert answer.json() == {"error": "This address answers to POST alone."}


def test_predict_is_not_open_to_other_sites(predict):
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = httpx.options(predict, headers=headers)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("length", [str(handlers.MAX_BODY_BYTES + 1), "9" * 5000])
def test_a_body_that_says_it_is_too_large_is_refused_unread(predict, length):
    url = httpx.URL(predict)
    connection = http.client.HTTPConnection(url.host, url.port, timeout=PATIENCE)
    connection.putrequest("POST", url.path)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", length)
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413 and "20 MB" in answer.read().decode()


def test_a_body_that_turns_out_too_large_is_refused(predict):
    chunks = (b" " * 1_000_000 for _ in range(handlers.MAX_BODY_BYTES // 1_000_000 + 2))
    with pytest.raises(httpx.HTTPError):  # by closing the connection, before or after the client has read an answer
        httpx.post(predict, content=chunks, headers={"Content-Type": "application/json"}).raise_for_status()


def test_the_largest_picture_fits_into_a_body(predict):
    contents = RED + bytes(handlers.pictures.MAX_BYTES - len(RED))
    answer = httpx.post(predict, json={"image": "data:image/png;base64," + encoded(contents)}, timeout=PATIENCE)
    assert answer.status_code == 200


def test_beyond_the_limit_a_client_is_told_to_come_back():
    with blocked(limit=1, under_way=1) as address:
        answer = httpx.post(address, json={"image": encoded(RED)})
    assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0
    assert "Try again" in answer.json()["error"]


def test_others_are_answered_while_a_picture_is_worked_on():
    with blocked(limit=4, under_way=1) as address:
        assert httpx.get(address).status_code == 405


def test_a_network_trained_meanwhile_is_found(tmp_path):
    run = tmp_path / "run"
    with serving(handlers.Predictor(lambda: Recogniser.load(run), limit=4)) as address:
        answer = httpx.post(address, json={"image": encoded(RED)})
        # Before anything about the picture, and with the reason: it is the owner who reads it.
        assert answer.status_code == 503 and "make train" in answer.json()["error"]
        small_model.write_run(run)
        assert httpx.post(address, json={"image": encoded(RED)}).status_code == 200


def test_a_fault_of_the_server_is_no_traceback(caplog):
    class Broken:
        def predict(self, contents: bytes):
            raise RuntimeError("a secret")

    with serving(handlers.Predictor(Broken, limit=4)) as address:
        answer = httpx.post(address, json={"image": encoded(RED)})
    assert answer.status_code == 500 and list(answer.json()) == ["error"]
    assert "secret" not in answer.text and "secret" in caplog.text


# ---------------------------------------------------------------- the server as `make dashboard` starts it

WIDGETS = """\
import ipywidgets
text = ipywidgets.Text()
answer = ipywidgets.HTML('<p data-testid="prediction">nothing yet</p>')
def show(change):
    answer.value = f'<p data-testid="prediction">{change["new"]}</p>'
text.observe(show, "value")
"""


def write_notebook(folder: Path, *cells: str) -> Path:
    folder.mkdir(exist_ok=True)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, folder / "page.ipynb")
    return folder / "page.ipynb"


@pytest.fixture(scope="module")
def notebook(tmp_path_factory) -> Path:
    """A small page, with files beside it that are nobody's business."""
    folder = tmp_path_factory.mktemp("notebooks")
    (folder / "public").mkdir()
    for name in ("notes.txt", "picture.png", "public/shown.png"):
        (folder / name).write_text(SECRET)
    return write_notebook(folder, WIDGETS, "ipywidgets.VBox([text, answer])")


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory, run_dir, notebook) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("d"), notebook, 600, MODEL_DIR=str(run_dir)) as started:
        yield started


@pytest.fixture(scope="module")
def visit(dashboard) -> Iterator[Visit]:
    """One visitor for many tests: each kernel takes a second or two to start."""
    with dashboard.visit() as visit:
        yield visit


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, run_dir, notebook) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("g"), notebook, 1, MODEL_DIR=str(run_dir), TOKEN=TOKEN) as started:
        yield started


def test_health_names_the_network(dashboard, run_dir):
    health = dashboard.health()
    assert (health["status"], health["model"]) == ("ok", "small")
    assert health["digest"] == hashlib.sha256((run_dir / "model.tflite").read_bytes()).hexdigest()


def test_connections_beyond_the_limit_are_closed_at_once(dashboard):
    address = ("127.0.0.1", dashboard.port)
    with contextlib.ExitStack() as stack:
        first, *_, last = (
            stack.enter_context(socket.create_connection(address, PATIENCE)) for _ in range(server.MAX_CONNECTIONS + 1)
        )
        assert last.recv(1) == b""
        first.sendall(f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{dashboard.port}\r\n\r\n".encode())
        assert first.recv(12) == b"HTTP/1.1 200"

    def is_answered() -> bool:
        with contextlib.suppress(OSError):
            return dashboard.raw("/health")[0] == 200
        return False

    until(is_answered)  # once the server has noticed that the others are gone


def test_the_page_holds_the_widgets(visit):
    assert visit.html.count('"application/vnd.jupyter.widget-view+json"') == 1


def test_the_page_names_no_path_and_no_other_host(visit, notebook):
    private = [str(paths.ROOT), str(notebook.parent), sys.prefix, str(Path.home())]
    assert [place for place in private if place in visit.html] == []
    assert re.findall(r"(?:src|href)=[\"']?(?:https?:)?//[^\"' >]+", visit.html) == []


def test_the_page_may_load_nothing_from_elsewhere(visit):
    header = visit.answer.headers["Content-Security-Policy"]
    policy = dict(part.strip().split(" ", 1) for part in header.split(";"))
    assert policy["default-src"] == "'none'" and policy["connect-src"] == "'self'"
    assert "unsafe" not in policy["script-src"] and "http" not in header


def test_the_address_does_not_change_the_page(dashboard):
    with dashboard.visit("/?theme=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&template=../..&x=y") as visit:
        assert "alert(1)" not in visit.html and 'class="jp-Notebook theme-light ' in visit.html


@pytest.mark.parametrize(
    "path", ["/health", "/nope", "/voila/static/voila.js", "/voila/templates/nope", "/api/kernels/a-b-c-d-e"]
)
def test_every_answer_has_the_headers(dashboard, path):
    headers = dashboard.client.get(path).headers
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin" and "Server" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/notes.txt",
        "/page.ipynb",
        "/voila/files/notes.txt",
        "/voila/files/picture.png",
        "/voila/files/public/../notes.txt",
        "/voila/files/public/%2e%2e/notes.txt",
        "/voila/files/../notebooks/notes.txt",
        "/voila/static/../../../../../../../../etc/passwd",
        "/voila/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/voila/templates/lab/static/../../../../../../../../../../etc/passwd",
        "/voila/templates/../static/x",
        "/voila/templates/lab",
        "/voila/labextensions/../../../../../../../../etc/passwd",
        "/voila/api/themes/../../../../../../../../etc/passwd",
        "/voila/api/contents/",
        "/voila/tree/",
        "/voila/render/page.ipynb",
        "/voila/query/0-0-0-0-0",
        "/api/kernels",
        "/login",
        "/logout",
    ],
)
def test_nothing_beside_the_page_is_served(dashboard, path):
    status, body = dashboard.raw(path)
    assert status in (403, 404) and SECRET not in body and "root:" not in body and "Traceback" not in body


def test_an_unknown_address_is_an_honest_page(dashboard):
    answer = dashboard.client.get("/nope")
    assert answer.status_code == 404 and 'data-testid="error"' in answer.text


@pytest.mark.parametrize("path", ["/", "/health", "/predict", "/voila/static/voila.js", "/nope"])
def test_a_foreign_name_is_refused(dashboard, path):
    status, body = dashboard.raw(path, Host="evil.example")
    assert status == 403 and "own name" in body


def test_a_foreign_page_cannot_open_the_websocket(visit):
    async def connect() -> None:
        request = HTTPRequest(visit.channels, headers={"Origin": "http://evil.example"})
        await websocket.websocket_connect(request, subprotocols=[kernels.PROTOCOL])

    with pytest.raises(HTTPClientError) as refusal:
        asyncio.run(connect())
    assert refusal.value.code == 403


def test_predict_answers_beside_the_page(dashboard):
    answer = dashboard.client.post("/predict", json={"image": encoded(RED)})
    assert answer.json()["name"] == "Homer Simpson"


# ---------------------------------------------------------------- over the raw websocket


def frame(*parts: bytes) -> bytes:
    """Write a message in the page's protocol: the number of offsets, the offsets, the parts."""
    starts = itertools.accumulate(map(len, parts), initial=8 * (len(parts) + 2))
    return b"".join(number.to_bytes(8, "little") for number in (len(parts) + 1, *starts)) + b"".join(parts)


def message(kind: str, content: dict, channel: str = "shell", metadata: dict | None = None) -> bytes:
    header = {"msg_id": uuid.uuid4().hex, "username": "", "session": "s", "msg_type": kind, "version": "5.3"}
    header |= {"date": "2020-01-01T00:00:00Z"}
    return frame(channel.encode(), *(json.dumps(part).encode() for part in (header, {}, metadata or {}, content)))


async def connected(address: str, **headers: str) -> websocket.WebSocketClientConnection:
    return await websocket.websocket_connect(HTTPRequest(address, headers=headers), subprotocols=[kernels.PROTOCOL])


async def talk(address: str, *messages: bytes) -> str:
    """Send messages, then ask for all states of widgets; give everything that came until that was answered."""
    control = uuid.uuid4().hex
    ask = [
        message("comm_open", {"comm_id": control, "target_name": "jupyter.widget.control", "data": {}},
                metadata={"version": "1.0.0"}),
        message("comm_msg", {"comm_id": control, "data": {"method": "request_states"}}),
    ]  # fmt: skip
    connection = await connected(address)
    for one in (*messages, *ask):
        connection.write_message(one, binary=True)
    received = []
    while not any("update_states" in text for text in received):
        text = await asyncio.wait_for(connection.read_message(), PATIENCE)
        assert text is not None, "the connection was closed"
        received.append(text.decode(errors="replace"))
    connection.close()
    return "\n".join(received)


def widgets(received: str) -> list[str]:
    return sorted(set(re.findall(r'"([0-9a-f]{32})": \{"model_name', received)))


@pytest.mark.parametrize("channel", ["shell", "control", "stdin", "iopub"])
def test_code_is_not_obeyed(visit, tmp_path, channel):
    written = tmp_path / "written"
    code = {"code": f"open({str(written)!r}, 'w'); print('OBE' + 'YED')", "silent": False, "store_history": False}
    code |= {"user_expressions": {}, "allow_stdin": False, "stop_on_error": True}
    received = asyncio.run(talk(visit.channels, message("execute_request", code, channel)))
    assert "OBEYED" not in received and not written.exists()


def test_a_widget_is_obeyed(visit):
    states = asyncio.run(talk(visit.channels))
    update = {"method": "update", "state": {"value": "D'oh!"}, "buffer_paths": []}
    sets = [message("comm_msg", {"comm_id": one, "data": update}) for one in widgets(states)]
    assert "D'oh!</p>" in asyncio.run(talk(visit.channels, *sets))


def test_hostile_messages_neither_end_the_kernel_nor_show_a_path(visit):
    view = {"_view_module": "x", "_view_module_version": "1", "_view_name": "x", "_model_module_version": "1"}
    states = [
        {"value": {}},
        {"value": 5},
        {"layout": "IPY_MODEL_x"},
        {"children": ["x"]},
        {"_model_name": []},
        {"x": 1},
    ]
    opens = [
        {"comm_id": "a", "target_name": "jupyter.widget", "data": {"state": view | {"_model_name": "x"}}},
        {"comm_id": "b", "target_name": "jupyter.widget", "data": {}},
        {"comm_id": "c", "target_name": "/etc/passwd", "data": None},
    ]
    hostile = [message("comm_open", one, metadata={"version": version}) for one in opens for version in ("2.1.0", "")]
    for one in [*widgets(asyncio.run(talk(visit.channels))), "unknown"]:
        for state in states:
            data = {"method": "update", "state": state, "buffer_paths": [["value", "x"]]}
            hostile.append(message("comm_msg", {"comm_id": one, "data": data}))
        hostile += [message("comm_msg", {"comm_id": one, "data": data}) for data in ({}, [], "x", {"method": 1})]
    received = asyncio.run(talk(visit.channels, *hostile))
    assert visit.is_alive()
    assert [sign for sign in ("Traceback", ".py", str(paths.ROOT), sys.prefix) if sign in received] == []


HONEST = frame(b"shell", b"{}", b"{}", b"{}", b"{}")
COUNT_OF_MANY = (10**8).to_bytes(8, "little")


@pytest.mark.parametrize(
    "nonsense",
    [
        "what is this?",
        b"\xff",
        COUNT_OF_MANY,  # each of which would have been read, for a minute
        (2**62).to_bytes(8, "little"),
        COUNT_OF_MANY + HONEST[8:],
        HONEST[:8] + (10**6).to_bytes(8, "little") + HONEST[16:],
        HONEST[:16] + HONEST[24:32] + HONEST[16:24] + HONEST[32:],
        HONEST + b"more",
        frame(b"shell", b"{}", b"{}", b"{}", b"[" + b"[]," * 100_000 + b"[]]"),
        frame(b"shell", b"{}", b"{}", b"{}", b"{}", bytes(server.MAX_MESSAGE_BYTES)),
    ],
    ids=range(10),
)
def test_what_is_no_message_closes_only_its_own_connection(visit, nonsense):
    async def send() -> None:
        connection = await connected(visit.channels)
        connection.write_message(nonsense, binary=isinstance(nonsense, bytes))
        while await asyncio.wait_for(connection.read_message(), PATIENCE) is not None:
            pass

    asyncio.run(send())
    assert "update_states" in asyncio.run(talk(visit.channels))


@pytest.mark.parametrize("bad", ["count", "order", "bounds"])
def test_frames_are_checked_before_they_are_read(bad):
    kernels.check_frame(HONEST)
    starts = [int.from_bytes(HONEST[8 * i : 8 * i + 8], "little") for i in range(7)]
    starts[{"count": 0, "order": 2, "bounds": 6}[bad]] = {"count": 17, "order": 3, "bounds": 1000}[bad]
    with pytest.raises(ValueError, match="part"):
        kernels.check_frame(b"".join(number.to_bytes(8, "little") for number in starts) + HONEST[56:])


def test_the_older_protocol_is_refused(visit):
    async def connect() -> None:
        await websocket.websocket_connect(visit.channels)

    with pytest.raises(HTTPClientError) as refusal:
        asyncio.run(connect())
    assert refusal.value.code == 400


def test_a_token_may_have_letters_of_any_language_in_a_header_too():
    gate = handlers.Gate(tornado.web.Application(), "tökén")
    header = "Bearer tökén".encode().decode("latin-1")  # as tornado gives it
    request = types.SimpleNamespace(cookies={}, headers={"Authorization": header}, query="")
    assert gate._check_token(request) is None


# ---------------------------------------------------------------- places


def test_there_are_as_many_kernels_as_memory_has_room_for(monkeypatch):
    async def start() -> None:
        manager = kernels.Kernels()
        manager.max_kernels = 2
        manager._kernels["one"] = manager._kernels["other"] = types.SimpleNamespace()
        await manager.start_kernel()

    with pytest.raises(kernels.Full):
        asyncio.run(start())


def test_a_page_made_ahead_waits_for_a_place():
    async def fill() -> None:
        manager = kernels.Kernels()
        manager.max_kernels = 1
        manager._kernels["one"] = types.SimpleNamespace()
        waiting = asyncio.ensure_future(manager.start_kernel(env={"VOILA_PREHEAT": "True"}))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        with pytest.raises(kernels.Full):  # nobody is kept waiting for it
            await manager.make_place()
        waiting.cancel()  # as when the server stops

    asyncio.run(fill())


def test_a_page_that_could_not_be_made_ahead_keeps_no_kernel_from_ending(monkeypatch):
    ended = []

    async def end(manager, kernel_id, **_) -> None:
        ended.append(kernel_id)

    async def fail() -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    class Application(Configurable):
        root_dir, notebook_path = "/", "/page.ipynb"

    Manager = voila_kernel_manager_factory(kernels.Kernels, True, 1)
    monkeypatch.setattr(Manager, "fill_if_needed", lambda *_, **__: None)

    async def live() -> None:
        manager = Manager(parent=Application())
        manager._kernels["one"] = types.SimpleNamespace()
        manager._pools["dashboard.ipynb"] = [asyncio.ensure_future(fail())]
        await asyncio.wait(manager._tasks)
        manager.end_after(0, "one")
        await asyncio.sleep(0.1)

    monkeypatch.setattr(AsyncMappingKernelManager, "shutdown_kernel", end)
    asyncio.run(live())
    assert ended == ["one"]


@pytest.mark.slow
def test_the_next_page_is_made_ahead(guarded):
    def kernels_ahead() -> int:
        return len(guarded.kernels()) - guarded.health()["pages"]

    def is_made() -> bool:  # a process is there some seconds before its page
        return kernels_ahead() == 1 and time.time() - guarded.kernels()[0].create_time() > 10

    until(is_made)
    ahead = {one.pid for one in guarded.kernels()}
    visit = Visit(guarded, guarded.client.get("/", headers={"Authorization": f"Bearer {TOKEN}"}))
    assert guarded.health()["pages"] == 1
    (process,) = [one for one in guarded.kernels() if visit.kernel_id in " ".join(one.cmdline())]
    assert process.pid in ahead
    guarded.client.post(f"/voila/api/shutdown/{visit.kernel_id}", headers={"Authorization": f"Bearer {TOKEN}"})


@pytest.mark.slow
def test_visitors_who_come_at_once_keep_no_kernel_of_each_other(guarded):
    for _ in range(4):  # sooner than the next page is made
        assert guarded.client.get("/", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    until(lambda: guarded.health()["pages"] == 0)  # long before START_SECONDS


def test_a_kernel_that_died_makes_room(dashboard):
    with dashboard.visit() as visit:
        (process,) = [one for one in dashboard.kernels() if visit.kernel_id in " ".join(one.cmdline())]
        process.kill()
        until(lambda: not visit.is_alive())


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_DATA"), reason="only Linux limits another process")
def test_a_kernel_cannot_take_all_memory(dashboard, visit):
    (process,) = [one for one in dashboard.kernels() if visit.kernel_id in " ".join(one.cmdline())]
    assert process.rlimit(psutil.RLIMIT_DATA) == (kernels.KERNEL_BYTES, kernels.KERNEL_BYTES)


@pytest.mark.parametrize(("is_used", "is_ended"), [(False, True), (True, False)])
def test_an_idle_kernel_ends_by_a_clock_that_stands_still_in_sleep(monkeypatch, is_used, is_ended):
    ended = []

    async def end(kernel_id: str) -> None:
        ended.append(kernel_id)

    async def live() -> None:
        manager = kernels.Kernels()
        monkeypatch.setattr(manager, "shutdown_kernel", end)
        manager.end_after(0.05, "k")  # by the event loop's clock, which is monotonic
        if is_used:
            manager.end_after(60, "k")
        await asyncio.sleep(0.2)

    asyncio.run(live())
    assert bool(ended) is is_ended


@pytest.mark.parametrize(("site", "kind", "status"), [("cross-site", "image", 403), ("same-site", "empty", 403)])
def test_another_site_takes_no_place(guarded, site, kind, status):
    headers = {"Authorization": f"Bearer {TOKEN}", "Sec-Fetch-Site": site, "Sec-Fetch-Dest": kind}
    until(lambda: guarded.health()["pages"] == 0)  # those of the tests before, and one that is being made ahead
    assert guarded.client.get("/", headers=headers).status_code == status
    assert guarded.health()["pages"] == 0


@pytest.mark.slow
def test_a_notebook_that_fails_is_an_honest_page(tmp_path, run_dir):
    notebook = write_notebook(tmp_path / "notebooks", "1 / 0  # a secret")
    with running(tmp_path, notebook, 1, MODEL_DIR=str(run_dir)) as started:
        answer = started.client.get("/")
        assert answer.status_code == 500 and 'data-testid="error"' in answer.text
        assert "Zero" not in answer.text and "secret" not in answer.text
        assert "ZeroDivisionError" in started.log.read_text()
        until(lambda: started.health()["pages"] == 0)


# ---------------------------------------------------------------- the token


@pytest.mark.parametrize("path", ["/", "/voila/static/voila.js", "/voila/templates/lab/static/voila.js", "/nope"])
def test_without_the_token_nothing_but_the_health_is_shown(guarded, path):
    answer = guarded.client.get(path)
    assert answer.status_code == 401 and "token" in answer.text and answer.headers["WWW-Authenticate"] == "Bearer"
    assert guarded.health()["pages"] == 0


def test_a_wrong_token_is_refused_and_logged(guarded):
    assert guarded.client.get("/?token=wrong").status_code == 403
    assert guarded.client.get("/", headers={"Authorization": "Bearer wrong"}).status_code == 403
    assert guarded.client.get("/", headers={"Cookie": f"{handlers.COOKIE}={TOKEN}"}).status_code == 401
    assert "A wrong token came from 127.0.0.1" in guarded.log.read_text()


def test_after_some_wrong_tokens_none_is_looked_at_for_a_while(monkeypatch):
    gate = handlers.Gate(types.SimpleNamespace(get_handler_delegate=lambda *asked: asked[2]), TOKEN)

    def status(token: str) -> int:
        asked = {"query": f"token={token}", "cookies": {}, "headers": {}, "method": "GET"}
        request = types.SimpleNamespace(host="localhost", path="/", remote_ip="203.0.113.7", **asked)
        answer = gate.find_handler(request)
        return answer["message"][0] if "message" in answer else 303

    assert [status("wrong") for _ in range(handlers.WRONG_TOKENS)] == [403] * handlers.WRONG_TOKENS
    assert (status("wrong"), status(TOKEN)) == (429, 429)
    later = time.monotonic() + handlers.WRONG_TOKEN_SECONDS + 1
    monkeypatch.setattr(handlers.time, "monotonic", lambda: later)
    assert status(TOKEN) == 303


def test_without_the_token_no_websocket_opens(guarded):
    with pytest.raises(HTTPClientError) as refusal:
        asyncio.run(talk(guarded.channels("0-0-0-0-0")))
    assert refusal.value.code == 401


def test_the_token_becomes_a_cookie(guarded):
    with httpx.Client(base_url=guarded.address, timeout=PATIENCE) as visitor:
        answer = visitor.get(f"/?token={TOKEN}")
        assert answer.status_code == 303 and answer.headers["Location"] == "/"
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and TOKEN not in cookie
        assert visitor.get("/voila/static/voila.js").status_code == 200


def test_no_cookie_can_be_made_from_a_guessed_token():
    one, other = (handlers.Gate(None, TOKEN) for _ in range(2))
    assert one._cookie != other._cookie


def test_predict_takes_the_token_as_a_header(guarded):
    picture = {"image": encoded(RED)}
    assert guarded.client.post("/predict", json=picture).status_code == 401
    answer = guarded.client.post("/predict", json=picture, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.json()["name"] == "Homer Simpson"


def test_a_large_body_without_the_token_is_refused(guarded):
    answer = guarded.client.post("/predict", content=bytes(20_000_000))
    assert answer.status_code == 401 and "token" in answer.json()["error"]


def test_a_logged_request_has_no_token(caplog):
    request = types.SimpleNamespace(method="GET", path="/page", uri=f"/page?token={TOKEN}")
    server.log_request(types.SimpleNamespace(get_status=lambda: 500, request=request))
    assert "500 GET /page" in caplog.text and TOKEN not in caplog.text


def test_the_token_stays_out_of_the_log(guarded):
    guarded.client.get(f"/nope?token={TOKEN}")
    guarded.client.cookies.clear()
    assert TOKEN not in guarded.log.read_text()


def test_a_visitor_who_left_makes_room(guarded):
    headers = {"Authorization": f"Bearer {TOKEN}"}

    async def come_and_go(kernel_id: str) -> None:
        connection = await connected(guarded.channels(kernel_id), **headers)
        connection.close()

    answer = guarded.client.get("/", headers=headers)
    assert answer.status_code == 200 and guarded.health()["pages"] == 1
    asyncio.run(come_and_go(re.search(r'"kernelId": "([^"]+)"', answer.text)[1]))
    until(lambda: guarded.health()["pages"] == 0)


def test_a_page_that_says_goodbye_makes_room_at_once(dashboard):
    with dashboard.visit() as visit:
        assert dashboard.client.post(f"/voila/api/shutdown/{visit.kernel_id}").status_code == 204
        assert not visit.is_alive()


def test_a_visitor_who_never_came_makes_room(guarded):
    guarded.client.get("/", headers={"Authorization": f"Bearer {TOKEN}"})
    until(lambda: guarded.health()["pages"] == 0)


# ---------------------------------------------------------------- the end


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_server_and_kernels(tmp_path, run_dir, notebook, number):
    started = Running(tmp_path, notebook, MODEL_DIR=str(run_dir))
    started.client.get("/")
    running_kernels = started.kernels()
    assert running_kernels and started.stop(number) == 0
    assert [kernel for kernel in running_kernels if kernel.is_running()] == []
    assert [left.name for left in tmp_path.iterdir() if left.name.startswith(server.FOLDERS)] == []
    assert "Traceback" not in started.log.read_text()


NEVER_STARTED = """
import asyncio
from jupyter_client import KernelManager
KernelManager._async_post_start_kernel = lambda *_, **__: asyncio.Event().wait()
"""


@pytest.mark.slow
def test_a_signal_ends_the_server_while_a_kernel_starts(tmp_path, run_dir, notebook, monkeypatch):
    def never_started(*given) -> list[str]:
        python, option, script, *rest = command(*given)
        return [python, option, NEVER_STARTED + script, *rest]

    monkeypatch.setattr(running_server, "command", never_started)
    started = Running(tmp_path, notebook, MODEL_DIR=str(run_dir))
    (kernel,) = until(started.kernels)
    assert started.stop(signal.SIGTERM) == 0 and not kernel.is_running()
    assert "Traceback" not in started.log.read_text()


@pytest.mark.slow
def test_a_killed_server_leaves_no_kernels(tmp_path, run_dir, notebook):
    started = Running(tmp_path, notebook, MODEL_DIR=str(run_dir))
    started.client.get("/")
    running_kernels = started.kernels()
    started.stop(signal.SIGKILL)
    until(lambda: not any(kernel.is_running() and kernel.status() != "zombie" for kernel in running_kernels))


def test_the_server_stops_with_the_make_that_started_it(tmp_path, run_dir, notebook):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = shlex.join(command(port, notebook))
    environment = os.environ | {"MAKELEVEL": "1", "MODEL_DIR": str(run_dir), "TMPDIR": str(tmp_path)}
    make = subprocess.Popen(
        ["sh", "-c", f"{started} & echo $!; wait"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    served = psutil.Process(int(make.stdout.readline()))

    def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
        return False

    until(answers)
    make.kill()
    served.wait(PATIENCE)


def test_a_taken_port_ends_the_command_with_a_message(dashboard, notebook):
    ended = subprocess.run(command(dashboard.port, notebook), capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    assert re.search(f"127.0.0.1:{dashboard.port}: Address already in use. Another program.* PORT", ended.stderr)
