"""The server: who is let in, what it answers, how much it does at once, and how it ends."""

import asyncio
import base64
import contextlib
import datetime
import hashlib
import http.client
import json
import re
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
from tornado import websocket
from tornado.httpclient import HTTPClientError, HTTPRequest

from lib import paths
from lib.errors import UserError
from lib.inference.recogniser import Recogniser
from lib.serving import handlers, limits, server, visitors
from tests import small_model
from tests.running_server import PATIENCE, Running, Visit, running, until

RED = small_model.picture((255, 0, 0))  # the colour of the first character
TOKEN = "a-token-that-nobody-guesses"
SECRET = "what stands beside the notebook"


def encoded(contents: bytes) -> str:
    return base64.b64encode(contents).decode()


# ---------------------------------------------------------------- the rules, without a server


def test_flags_win_over_the_environment():
    environment = {"HOST": "0.0.0.0", "PORT": "9000", "TOKEN": "", "MAX_VISITORS": "3", "MAX_PREDICTIONS": "7"}
    notebook = str(next(paths.NOTEBOOKS.glob("*.ipynb")))
    settings = server.parse(["--port", "9001", "--notebook", notebook], environment)
    assert (settings.host, settings.port, settings.token) == ("0.0.0.0", 9001, "")
    assert (settings.max_visitors, settings.max_predictions) == (3, 7)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"PORT": "abc"}, "PORT must be a whole number"),
        ({"PORT": "65536"}, "PORT must be a whole number from 0 to 65535"),
        ({"MAX_VISITORS": "0"}, "MAX_VISITORS must be a whole number from 1"),
        ({"BEHIND_PROXY": "yes"}, "BEHIND_PROXY must be 0 or 1"),
        ({"MODEL_DIR": "no/such/run"}, "no run folder"),
        ({"NOTEBOOK": "notebooks"}, "no notebook notebooks"),
    ],
)
def test_an_unusable_setting_is_a_sentence(environment, sentence):
    with pytest.raises(UserError, match=sentence):
        server.parse([], environment)


def test_a_taken_port_is_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"Port {port} is taken.* PORT={port + 1}"):
            server.listen_on("127.0.0.1", port)


def test_a_foreign_address_is_a_sentence():
    with pytest.raises(UserError, match=r"HOST=192\.0\.2\.1 is no address of this machine"):
        server.listen_on("192.0.2.1", 0)


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
        ("simpsons.example", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
def test_only_names_of_the_server_are_known(host, known):
    assert limits.Access(hostnames=["Simpsons.example"]).knows_host(host) is known


def test_the_cookie_does_not_tell_the_token():
    access = limits.Access(TOKEN)
    assert access.is_cookie(access.cookie) and not access.is_cookie(TOKEN) and not access.is_token(access.cookie)
    assert access.cookie == limits.Access(TOKEN).cookie != limits.Access("another").cookie
    assert access.cookie_name != limits.Access("another").cookie_name


def test_places_are_limited_and_come_back():
    slots = limits.Slots(2)
    with slots.one("a"), slots.one("b"):
        with pytest.raises(limits.Busy), slots.one("c"):
            pass
        assert slots.under_way == 2
    assert slots.under_way == 0


def test_one_client_gets_half_of_the_places():
    slots = limits.Slots(4)
    with slots.one("a"), slots.one("a"):
        with pytest.raises(limits.TooManyAtOnce), slots.one("a"):
            pass
        with slots.one("b"):
            assert slots.under_way == 3


@pytest.mark.parametrize(
    ("free", "visitors"),
    [(0, 1), (1_100_000_000, 5), (10**12, limits.MAX_DEFAULT_VISITORS)],  # (1.1 - 0.5) GB / 0.12 GB = 5
)
def test_free_memory_decides_how_many_visitors(monkeypatch, free, visitors):
    monkeypatch.setattr(limits, "available_memory", lambda: free)
    assert limits.default_max_visitors() == visitors


def test_a_container_has_less_memory_than_its_machine(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    monkeypatch.setattr(limits, "CGROUP", tmp_path)
    assert limits.available_memory() == 2_000_000


def test_a_page_may_run_its_own_inline_scripts_only():
    script = "let a = '<b>' && 1;\n"
    page = f'<script>{script}</script><script src="a.js"></script><script type="application/json">{{}}</script>'
    digest = encoded(hashlib.sha256(script.encode()).digest())
    assert re.findall("'sha256-[^']+'", handlers.page_policy(page)) == [f"'sha256-{digest}'"]


def test_the_kernels_are_told_where_the_runs_are(tmp_path):
    environment = server.kernel_environment(server.Settings(outputs=tmp_path, run=tmp_path / "sample" / "cnn4"))
    assert (environment["OUTPUTS"], environment["MODEL_DIR"]) == (str(tmp_path), str(tmp_path / "sample" / "cnn4"))


def test_the_token_stays_out_of_the_kernels(monkeypatch):
    monkeypatch.setenv("TOKEN", TOKEN)
    # As make passes it on: `make dashboard TOKEN=…`.
    monkeypatch.setenv("MAKEFLAGS", f" -- TOKEN={TOKEN}")
    environment = server.kernel_environment(server.Settings(token=TOKEN))
    assert not [name for name, value in environment.items() if TOKEN in value]


@pytest.mark.parametrize(("host", "token", "asks"), [("0.0.0.0", "", "TOKEN="), ("0.0.0.0", TOKEN, "https")])
def test_an_open_address_says_what_it_means(host, token, asks):
    sentence = server.open_to_all(server.Settings(host=host, token=token))
    assert "everybody" in sentence and asks in sentence and TOKEN not in sentence


# ---------------------------------------------------------------- POST /predict, with a network of the test's own


@contextlib.contextmanager
def serving(predictor: handlers.Predictor) -> Iterator[str]:
    """Answer `/predict` in a thread, and give the address of it."""
    sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
    started, stop = threading.Event(), []

    async def serve() -> None:
        ended = asyncio.Event()
        stop.append((asyncio.get_running_loop(), ended))
        route = ("/predict", handlers.PredictHandler, {"predictor": predictor})
        application = tornado.web.Application([route], log_function=lambda handler: None)
        listening = tornado.httpserver.HTTPServer(application, max_body_size=server.MAX_SMALL_BODY_BYTES)
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
        predictor.close()


def test_of_a_proxy_only_the_headers_that_it_must_set_are_believed():
    class Who(tornado.web.RequestHandler):
        def get(self) -> None:
            self.finish({"ip": self.request.remote_ip, "scheme": self.request.protocol})

    async def ask() -> dict:
        (listening,) = tornado.netutil.bind_sockets(0, "127.0.0.1")
        believing = server.ProxiedServer(tornado.web.Application([("/", Who)]), xheaders=True)
        believing.add_socket(listening)
        headers = {"X-Forwarded-For": "203.0.113.7", "X-Real-Ip": "203.0.113.99", "X-Scheme": "https"}
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{listening.getsockname()[1]}/", headers=headers)
        believing.stop()
        return answer.json()

    assert asyncio.run(ask()) == {"ip": "203.0.113.7", "scheme": "http"}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    return small_model.write_run(tmp_path_factory.mktemp("outputs") / "small")


@pytest.fixture(scope="module")
def predict(run_dir) -> Iterator[str]:
    with serving(handlers.Predictor(lambda: Recogniser.load(run_dir), threads=2, limit=20)) as address:
        yield address


class Blocked:
    """A network that answers when it is let go."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def predict(self, contents: bytes):
        self.go_on.wait(PATIENCE)
        raise UserError("let go")


@contextlib.contextmanager
def blocked(limit: int, under_way: int) -> Iterator[str]:
    """Serve a blocked network with so many requests under way, and give its address."""
    network = Blocked()
    predictor = handlers.Predictor(lambda: network, threads=1, limit=limit)
    threads = []
    with serving(predictor) as address:
        for _ in range(under_way):
            threads.append(
                threading.Thread(target=httpx.post, args=[address], kwargs={"json": {"image": encoded(RED)}})
            )
            threads[-1].start()
        until(lambda: predictor.slots.under_way == under_way)
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
    assert list(body) == ["character", "name", "probability", "probabilities"]
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
    assert answer.status_code == 405 and answer.headers["Allow"] == "POST" and answer.json()["error"]


def test_predict_is_not_open_to_other_sites(predict):
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = httpx.options(predict, headers=headers)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_body_that_says_it_is_too_large_is_refused_unread(predict):
    url = httpx.URL(predict)
    connection = http.client.HTTPConnection(url.host, url.port, timeout=PATIENCE)
    connection.putrequest("POST", url.path)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(handlers.MAX_BODY_BYTES + 1))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413 and "too large" in json.loads(answer.read())["error"]


def test_a_body_that_turns_out_too_large_is_refused(predict):
    chunks = (b" " * 1_000_000 for _ in range(handlers.MAX_BODY_BYTES // 1_000_000 + 2))
    answer = httpx.post(predict, content=chunks, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413 and "too large" in answer.json()["error"]


def test_the_largest_picture_fits_into_a_body(predict):
    contents = RED + bytes(handlers.pictures.MAX_BYTES - len(RED))
    answer = httpx.post(predict, json={"image": "data:image/png;base64," + encoded(contents)}, timeout=PATIENCE)
    assert answer.status_code == 200


def test_bodies_are_forgotten(run_dir):
    predictor = handlers.Predictor(lambda: Recogniser.load(run_dir), threads=1, limit=4)
    with serving(predictor) as address:
        httpx.post(address, json={"image": encoded(RED)})
        httpx.post(address, json={"image": "x"})
        assert until(lambda: not predictor.received)


def test_bodies_have_a_limit_in_all(predict, monkeypatch):
    monkeypatch.setattr(handlers, "MAX_RECEIVED_BYTES", 10)
    answer = httpx.post(predict, json={"image": encoded(RED)})
    assert answer.status_code == 503 and answer.headers["Retry-After"] == "1"


def test_one_client_cannot_fill_the_room_for_bodies(predict, monkeypatch):
    monkeypatch.setattr(handlers, "MAX_RECEIVED_BYTES", 2 * len(encoded(RED)))
    answer = httpx.post(predict, json={"image": encoded(RED)})
    assert answer.status_code == 429 and "Wait" in answer.json()["error"]


def test_large_pictures_are_decoded_one_at_a_time(monkeypatch):
    monkeypatch.setattr(handlers, "LARGE_PIXELS", 1)
    at_once, together = [], threading.Lock()

    class Slow:
        def predict(self, contents: bytes):
            at_once.append(together.acquire(blocking=False))
            time.sleep(0.05)
            if at_once[-1]:
                together.release()
            raise UserError("looked at")

    with serving(handlers.Predictor(Slow, threads=2, limit=20)) as address:
        asking = [threading.Thread(target=httpx.post, args=[address], kwargs={"json": {"image": encoded(RED)}})]
        asking += [threading.Thread(target=httpx.post, args=[address], kwargs={"json": {"image": encoded(RED)}})]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
    assert at_once == [True, True]


@pytest.mark.parametrize(
    ("address", "whose"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("", ""),
    ],
)
def test_half_an_ipv6_address_is_one_client(address, whose):
    assert limits.client(address) == whose


def test_beyond_the_limit_a_client_is_told_to_come_back():
    with blocked(limit=1, under_way=1) as address:
        answer = httpx.post(address, json={"image": encoded(RED)})
    assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0
    assert "Try again" in answer.json()["error"]


def test_one_client_cannot_take_all_places():
    with blocked(limit=4, under_way=2) as address:
        answer = httpx.post(address, json={"image": encoded(RED)})
    assert answer.status_code == 429 and "Wait" in answer.json()["error"]


def test_others_are_answered_while_a_picture_is_worked_on():
    with blocked(limit=4, under_way=1) as address:
        assert httpx.get(address).status_code == 405


def test_a_network_trained_meanwhile_is_found(tmp_path):
    run = tmp_path / "run"
    with serving(handlers.Predictor(lambda: Recogniser.load(run), threads=1, limit=4)) as address:
        answer = httpx.post(address, json={"image": encoded(RED)})
        assert answer.status_code == 503 and "make train" in answer.json()["error"]
        assert str(tmp_path) not in answer.text
        small_model.write_run(run)
        assert httpx.post(address, json={"image": encoded(RED)}).status_code == 200


def test_a_fault_of_the_server_is_no_traceback(caplog):
    class Broken:
        def predict(self, contents: bytes):
            raise RuntimeError("a secret")

    with serving(handlers.Predictor(Broken, threads=1, limit=4)) as address:
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
    arguments = ("--max-visitors", "3", "--leave-seconds", "600")
    with running(tmp_path_factory.mktemp("d"), run_dir, notebook, *arguments) as started:
        yield started


@pytest.fixture(scope="module")
def visit(dashboard) -> Iterator[Visit]:
    """One visitor for many tests: each kernel takes a second or two to start."""
    with dashboard.visit() as visit:
        yield visit


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, run_dir, notebook) -> Iterator[Running]:
    arguments = ("--make-ahead", "0", "--leave-seconds", "1")
    environment = {"TOKEN": TOKEN, "BASE_URL": "/study/"}
    with running(tmp_path_factory.mktemp("g"), run_dir, notebook, *arguments, **environment) as started:
        yield started


def test_health_names_the_network(dashboard, run_dir):
    health = dashboard.health()
    assert (health["status"], health["model"]) == ("ok", "small")
    assert health["digest"] == hashlib.sha256((run_dir / "model.tflite").read_bytes()).hexdigest()
    assert health["max_visitors"] == 3


def test_the_page_is_made_ahead_and_again(dashboard, visit):
    until(lambda: dashboard.health()["page_ready"])
    with dashboard.visit() as another:
        assert another.kernel_id != visit.kernel_id
        until(lambda: dashboard.health()["page_ready"])


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
        assert "alert(1)" not in visit.html and 'class="jp-Notebook theme-light"' in visit.html


@pytest.mark.parametrize(
    "path", ["/health", "/nope", "/voila/static/voila.js", "/voila/templates/nope", "/api/kernels/a-b-c-d-e"]
)
def test_every_answer_has_the_headers(dashboard, path):
    headers = dashboard.client.get(path).headers
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "same-origin"
    assert "camera=(self)" in headers["Permissions-Policy"] and "Server" not in headers


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
    assert status == 403 and "HOSTNAMES" in body


def test_a_foreign_page_cannot_open_the_websocket(visit):
    async def connect() -> None:
        await websocket.websocket_connect(HTTPRequest(visit.channels, headers={"Origin": "http://evil.example"}))

    with pytest.raises(HTTPClientError) as refusal:
        asyncio.run(connect())
    assert refusal.value.code == 403


def test_predict_answers_beside_the_page(dashboard):
    answer = dashboard.client.post("/predict", json={"image": encoded(RED)})
    assert answer.json()["name"] == "Homer Simpson"


# ---------------------------------------------------------------- over the raw websocket


def message(kind: str, content: dict, channel: str = "shell", metadata: dict | None = None) -> str:
    header = {"msg_id": uuid.uuid4().hex, "username": "", "session": "s", "msg_type": kind, "version": "5.3"}
    parts = {"header": header | {"date": "2020-01-01T00:00:00Z"}, "parent_header": {}, "content": content}
    return json.dumps(parts | {"channel": channel, "metadata": metadata or {}, "buffers": []})


async def talk(address: str, *messages: str) -> str:
    """Send messages, then ask for all states of widgets; give everything that came until that was answered."""
    control = uuid.uuid4().hex
    ask = [
        message("comm_open", {"comm_id": control, "target_name": "jupyter.widget.control", "data": {}},
                metadata={"version": "1.0.0"}),
        message("comm_msg", {"comm_id": control, "data": {"method": "request_states"}}),
    ]  # fmt: skip
    connection = await websocket.websocket_connect(address)
    for one in (*messages, *ask):
        connection.write_message(one)
    received = []
    while not any("update_states" in text for text in received):
        text = await asyncio.wait_for(connection.read_message(), PATIENCE)
        assert text is not None, "the connection was closed"
        received.append(text if isinstance(text, str) else text.decode(errors="replace"))
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


@pytest.mark.parametrize(
    "nonsense", ["what is this?", "{}", b"\xff", "x" * (server.MAX_MESSAGE_BYTES + 1)], ids=range(4)
)
def test_what_is_no_message_closes_only_its_own_connection(visit, nonsense):
    async def send() -> None:
        connection = await websocket.websocket_connect(visit.channels)
        connection.write_message(nonsense, binary=isinstance(nonsense, bytes))
        while await asyncio.wait_for(connection.read_message(), PATIENCE) is not None:
            pass

    asyncio.run(send())
    assert "update_states" in asyncio.run(talk(visit.channels))


def test_a_kernel_has_few_connections(visit):
    async def connect() -> None:
        connections = []
        try:
            for _ in range(10):
                connections.append(await websocket.websocket_connect(visit.channels))
        finally:
            for connection in connections:
                connection.close()

    with pytest.raises(HTTPClientError) as refusal:
        asyncio.run(connect())
    assert refusal.value.code == 429


# ---------------------------------------------------------------- places


def test_the_visitor_after_the_last_is_told_to_come_back(dashboard, visit):
    with dashboard.visit(), dashboard.visit():
        assert dashboard.health()["kernels"] == 3 and visit.is_alive()
        answer = dashboard.client.get("/")
        assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0
        assert "come back" in answer.text and 'http-equiv="refresh"' in answer.text
        assert dashboard.client.post("/predict", json={"image": encoded(RED)}).status_code == 200
    until(lambda: dashboard.health()["page_ready"])


def test_a_kernel_that_died_makes_room(dashboard):
    with dashboard.visit() as visit:
        (process,) = [one for one in dashboard.kernels() if visit.kernel_id in " ".join(one.cmdline())]
        process.kill()
        until(lambda: not visit.is_alive())


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_DATA"), reason="only Linux limits another process")
def test_a_kernel_cannot_take_all_memory(dashboard, visit):
    (process,) = [one for one in dashboard.kernels() if visit.kernel_id in " ".join(one.cmdline())]
    assert process.rlimit(psutil.RLIMIT_DATA) == (visitors.MAX_KERNEL_BYTES, visitors.MAX_KERNEL_BYTES)


def test_idle_kernels_are_ended():
    kernels = server.voila_config(server.Settings())["Kernels"]
    assert (kernels["cull_idle_timeout"], kernels["cull_interval"], kernels["cull_connected"]) == (600, 60, True)


@pytest.mark.parametrize(("state", "is_ended"), [("left open", True), ("made ahead", False), ("handed out", False)])
def test_an_idle_page_is_ended_unless_its_visitor_is_still_to_come(monkeypatch, state, is_ended):
    async def cull() -> bool:
        kernels = visitors.Kernels(cull_idle_timeout=600, cull_connected=True)
        long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
        spec = types.SimpleNamespace(metadata={})
        kernels._kernels["k"] = types.SimpleNamespace(
            last_activity=long_ago, execution_state="idle", kernel_name="python3", kernel_spec=spec
        )
        kernels._kernel_connections["k"] = 1
        ended = []
        monkeypatch.setattr(kernels, "shutdown_kernel", lambda kernel_id, **_: _note(ended, kernel_id))
        if state == "made ahead":
            kernels.spare = "k"
        if state == "handed out":
            kernels.expect("k")
        await kernels.cull_kernel_if_idle("k")
        kernels._stay("k")
        return bool(ended)

    async def _note(ended: list[str], kernel_id: str) -> None:
        ended.append(kernel_id)

    assert asyncio.run(cull()) == is_ended


@pytest.mark.parametrize(("site", "kind", "status"), [("cross-site", "image", 403), ("same-site", "empty", 403)])
def test_another_site_takes_no_place(guarded, site, kind, status):
    headers = {"Authorization": f"Bearer {TOKEN}", "Sec-Fetch-Site": site, "Sec-Fetch-Dest": kind}
    assert guarded.client.get("/", headers=headers).status_code == status
    assert guarded.health()["kernels"] == 0


@pytest.mark.slow
def test_a_notebook_that_fails_is_an_honest_page(tmp_path, run_dir):
    notebook = write_notebook(tmp_path / "notebooks", "1 / 0  # a secret")
    with running(tmp_path, run_dir, notebook, "--make-ahead", "0") as started:
        answer = started.client.get("/")
        assert answer.status_code == 500 and 'data-testid="error"' in answer.text
        assert "Zero" not in answer.text and "secret" not in answer.text
        assert "ZeroDivisionError" in started.log.read_text()
        until(lambda: started.health()["kernels"] == 0)


# ---------------------------------------------------------------- the token


@pytest.mark.parametrize("path", ["/", "/voila/static/voila.js", "/voila/templates/lab/static/voila.js", "/nope"])
def test_without_the_token_nothing_is_shown(guarded, path):
    answer = guarded.client.get(path)
    assert answer.status_code == 401 and "token" in answer.text and answer.headers["WWW-Authenticate"] == "Bearer"
    assert guarded.health()["kernels"] == 0


def test_a_wrong_token_is_refused(guarded):
    assert guarded.client.get("/?token=wrong").status_code == 403
    assert guarded.client.get("/", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert guarded.client.get("/", headers={"Cookie": f"{limits.Access(TOKEN).cookie_name}={TOKEN}"}).status_code == 401


def test_without_the_token_no_websocket_opens(guarded):
    with pytest.raises(HTTPClientError) as refusal:
        asyncio.run(talk(guarded.channels("0-0-0-0-0")))
    assert refusal.value.code == 401


def test_the_token_becomes_a_cookie(guarded):
    with httpx.Client(base_url=guarded.address, timeout=PATIENCE) as visitor:
        answer = visitor.get(f"/?token={TOKEN}")
        assert answer.status_code == 303 and answer.headers["Location"] == "/study/"
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and TOKEN not in cookie
        assert visitor.get("/voila/static/voila.js").status_code == 200


def test_a_link_on_another_site_leads_in(guarded):
    answer = guarded.client.get(f"/?token={TOKEN}", headers={"Sec-Fetch-Site": "cross-site"})
    guarded.client.cookies.clear()
    assert answer.status_code == 200 and 'url=/study/"' in answer.text and "Set-Cookie" in answer.headers


def test_predict_takes_the_token_as_a_header(guarded):
    picture = {"image": encoded(RED)}
    assert guarded.client.post("/predict", json=picture).status_code == 401
    assert guarded.client.post(f"/predict?token={TOKEN}", json=picture).status_code == 401
    answer = guarded.client.post("/predict", json=picture, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.json()["name"] == "Homer Simpson"


def test_a_large_body_without_the_token_is_refused(guarded):
    answer = guarded.client.post("/predict", content=bytes(30_000_000))
    assert answer.status_code == 401 and "token" in answer.json()["error"]


def test_health_needs_no_token(guarded):
    assert guarded.health()["status"] == "ok"


def test_a_logged_request_has_no_token(caplog):
    request = types.SimpleNamespace(method="GET", path="/study/", uri=f"/study/?token={TOKEN}")
    server.log_request(types.SimpleNamespace(get_status=lambda: 500, request=request))
    assert "500 GET /study/" in caplog.text and TOKEN not in caplog.text


def test_the_token_stays_out_of_the_log(guarded):
    guarded.client.get(f"/nope?token={TOKEN}")
    guarded.client.cookies.clear()
    assert TOKEN not in guarded.log.read_text()


def test_a_visitor_who_left_makes_room(guarded):
    headers = {"Authorization": f"Bearer {TOKEN}"}

    async def come_and_go(kernel_id: str) -> None:
        connection = await websocket.websocket_connect(HTTPRequest(guarded.channels(kernel_id), headers=headers))
        connection.close()

    answer = guarded.client.get("/", headers=headers)
    assert answer.status_code == 200 and guarded.health()["kernels"] == 1
    asyncio.run(come_and_go(re.search(r'"kernelId": "([^"]+)"', answer.text)[1]))
    until(lambda: guarded.health()["kernels"] == 0)


def test_a_visitor_who_never_came_makes_room(guarded):
    guarded.client.get("/", headers={"Authorization": f"Bearer {TOKEN}"})
    until(lambda: guarded.health()["kernels"] == 0)


# ---------------------------------------------------------------- the end


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_server_and_kernels(tmp_path, run_dir, notebook, number):
    started = Running(tmp_path, run_dir, notebook)
    kernels = until(started.kernels)  # one is being started; that is the hardest moment
    if number == signal.SIGTERM:
        until(lambda: started.health()["page_ready"])
        kernels = started.kernels()
    assert started.stop(number) == 0
    assert [kernel for kernel in kernels if kernel.is_running()] == []
    assert [left.name for left in tmp_path.iterdir() if left.name.startswith("voila_")] == []
    assert "Traceback" not in started.log.read_text()


@pytest.mark.slow
def test_a_killed_server_leaves_no_kernels(tmp_path, run_dir, notebook):
    started = Running(tmp_path, run_dir, notebook)
    until(lambda: started.health()["page_ready"])
    kernels = started.kernels()
    started.stop(signal.SIGKILL)
    until(lambda: not any(kernel.is_running() and kernel.status() != "zombie" for kernel in kernels))


def test_a_taken_port_ends_the_command_with_a_sentence(dashboard, notebook):
    command = [sys.executable, "-m", "lib.serving.server", "--port", str(dashboard.port), "--notebook", str(notebook)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    assert f"Port {dashboard.port} is taken" in ended.stderr
