"""Which URLs are downloaded, and within which limits. Every connection goes to a server on loopback."""

import gzip
import http.server
import socket
import ssl
import threading

import pytest

from lib.errors import UserError
from lib.serving import fetch
from lib.serving.fetch import PrivateAddress

PUBLIC = "93.184.215.14"  # any public address: `Internet.dial` connects to loopback instead
PICTURE = b"bytes of a picture"
RESOLVE, DIAL = fetch.resolve, socket.create_connection

# Self-signed, for the name pictures.example, valid until 2120; used in these tests only.
CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBcjCCARmgAwIBAgIBATAKBggqhkjOPQQDAjAbMRkwFwYDVQQDDBBwaWN0dXJl
cy5leGFtcGxlMCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAbMRkw
FwYDVQQDDBBwaWN0dXJlcy5leGFtcGxlMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcD
QgAEJjuRvT5mhck2pAjtNXFqjg5ARuRtqjXqbh46XnhMSz5hVyq6UVGERYkUdJtY
6XkLAdigZ3kagTrMZ1JkdR0ER6NMMEowGwYDVR0RBBQwEoIQcGljdHVyZXMuZXhh
bXBsZTAMBgNVHRMBAf8EAjAAMB0GA1UdDgQWBBQSUJ10SRLxMjhtQDYTg6167ANC
dDAKBggqhkjOPQQDAgNHADBEAiBfg/A1nIz69w7+C97UTEZnVnG8xPUa+qP8Mb/Q
b1be5gIgQM20A30ElN+ojkyN1a9I2akD/x5+VDD+jduviv576zg=
-----END CERTIFICATE-----
"""
KEY = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgufy+a46Rkzxc8oEO
xfmUF1IKjjbq/qwOPTXGlDW3CiahRANCAAQmO5G9PmaFyTakCO01cWqODkBG5G2q
NepuHjpeeExLPmFXKrpRUYRFiRR0m1jpeQsB2KBneRqBOsxnUmR1HQRH
-----END PRIVATE KEY-----
"""


class Server(http.server.ThreadingHTTPServer):
    """A server on loopback whose pages are functions that write to the raw connection."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages = {"/picture": page(PICTURE)}
        self.requests: list[tuple[str, str | None, dict]] = []  # path, server name in TLS, headers
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """Print nothing: clients hang up on purpose in these tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append((self.path, getattr(self.connection, "name", None), dict(self.headers)))
        self.server.pages[self.path](self)

    def log_message(self, *arguments):
        pass


class Internet:
    """Host names with the addresses that a test sets; every connection goes to the server on loopback."""

    def __init__(self, server: Server):
        self.server = server
        self.names: dict[str, list[str]] = {"pictures.example": [PUBLIC]}
        self.resolved: list[str] = []
        self.dialled: list[str] = []

    def resolve(self, host, port):
        self.resolved.append(host)
        return self.names[host] if host in self.names else RESOLVE(host, port)

    def dial(self, address, seconds):
        self.dialled.append(address[0])
        return DIAL(("127.0.0.1", self.server.server_port), seconds)

    def fetch(self, path: str = "/picture", dial=None, **changes) -> bytes:
        """Download a page with names of the module changed."""
        url = f"http://pictures.example{path}" if path.startswith("/") else path
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket, "create_connection", dial or self.dial)
            for name, value in ({"resolve": self.resolve} | changes).items():
                patch.setattr(fetch, name, value)
            return fetch.read_picture(url)


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.closing.set()
        server.shutdown()


@pytest.fixture
def internet(server):
    return Internet(server)


def page(body: bytes = b"", status: int = 200, length: int | None = None, **headers):
    """A page with a body; `content_type="text/html"` is the header Content-Type."""

    def answer(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def endless(head: bytes, part: bytes, seconds: float = 0):
    """A page that continues until the client hangs up."""

    def answer(handler):
        handler.wfile.write(head)
        while not handler.server.closing.wait(seconds):
            handler.wfile.write(part)

    return answer


def redirect(location: str):
    return page(status=302, location=location)


# ---------------------------------------------------------------- downloads


def test_a_public_url_is_downloaded(internet):
    assert internet.fetch() == PICTURE


def test_a_request_has_the_host_name_and_nothing_about_this_machine(internet, server):
    internet.fetch("/picture#fragment")
    ((path, _, headers),) = server.requests
    assert path == "/picture"
    assert headers["Host"] == "pictures.example"
    assert set(headers) == {"Host", "User-Agent", "Accept", "Accept-Encoding"}


def test_private_addresses_are_read_only_if_allowed(server):
    assert fetch.read_picture(server.url + "/picture", allow_private=True) == PICTURE
    with pytest.raises(PrivateAddress, match="not on the public internet"):
        fetch.read_picture(server.url + "/picture")
    assert len(server.requests) == 1


def test_three_redirects_are_followed_relative_ones_too(internet, server):
    server.pages |= {"/1": redirect("/2"), "/2": redirect("//pictures.example/3"), "/3": redirect("picture")}
    assert internet.fetch("/1") == PICTURE


def test_a_body_without_a_length_is_read(internet, server):
    server.pages["/open"] = lambda handler: handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + PICTURE)
    assert internet.fetch("/open") == PICTURE


def test_the_next_address_is_tried_if_one_does_not_answer(internet):
    seconds_given = []

    def dial(address, seconds):
        seconds_given.append(seconds)
        if address[0] == PUBLIC:
            raise TimeoutError
        return internet.dial(address, seconds)

    internet.names["pictures.example"] = [PUBLIC, "93.184.215.15"]
    assert internet.fetch(dial=dial, CONNECT_SECONDS=4) == PICTURE
    assert seconds_given[0] <= 2  # half of the four, so that time is left for the other


def test_bytes_of_any_type_are_downloaded(internet, server):
    server.pages["/text"] = page(b"a text", content_type="text/plain")
    assert internet.fetch("/text") == b"a text"


@pytest.mark.parametrize("body", [b"<html>", b"\n<!DOCTYPE html><html>", b"\xef\xbb\xbf<?xml?>"])
def test_a_web_page_is_not_a_picture(server, body):
    server.pages["/page"] = page(body)
    with pytest.raises(UserError, match="leads to a web page"):
        fetch.read_picture(server.url + "/page", allow_private=True)


def test_a_drawing_in_svg_is_said_to_be_one(server):
    server.pages["/drawing"] = page(b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>")
    with pytest.raises(UserError, match="This is an SVG drawing"):
        fetch.read_picture(server.url + "/drawing", allow_private=True)
    entities = b"<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' 'x.dtd' [ <!ENTITY ns 'http://x'> ]>"
    server.pages["/drawing"] = page(b"<?xml version='1.0'?>" + entities + b"<svg/>")
    with pytest.raises(UserError, match="This is an SVG drawing"):
        fetch.read_picture(server.url + "/drawing", allow_private=True)
    for drawing in (b"<!-- made with html2svg --><svg/>", b"<svg><div xmlns='http://www.w3.org/1999/xhtml'/></svg>"):
        server.pages["/drawing"] = page(drawing)
        with pytest.raises(UserError, match="an SVG drawing"):
            fetch.read_picture(f"{server.url}/drawing", allow_private=True)
    server.pages["/page"] = page(b"<!doctype html><link rel=icon href='data:image/svg+xml,<svg/>'>")
    with pytest.raises(UserError, match="leads to a web page"):
        fetch.read_picture(server.url + "/page", allow_private=True)


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",  # metadata of most clouds
        "168.63.129.16",  # Azure
        "192.0.0.192",  # Oracle
        "100.100.100.200",  # Alibaba, in the shared address space of providers
        "192.88.99.1",
        "198.18.0.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "2001:db8::1",
        "fe80::1",
        "fe80::1%1",
        "fec0::1",
        "fd00:ec2::254",
        "ff02::1",
    ],
)
def test_private_and_special_addresses_are_not_public(address):
    assert not fetch.is_public(address)


@pytest.mark.parametrize(
    "address",
    [PUBLIC, "1.1.1.1", "223.255.255.254", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"],
)
def test_global_addresses_are_public(address):
    assert fetch.is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "0",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "2852039166",
    ],
)
def test_other_notations_of_private_addresses_are_rejected(internet, host):
    with pytest.raises(UserError):  # private; or no such name, if the system does not know the notation
        internet.fetch(f"http://{host}/picture")
    assert internet.dialled == []


@pytest.mark.parametrize("addresses", [["10.0.0.7"], [PUBLIC, "10.0.0.7"], ["::1", PUBLIC]])
def test_a_name_with_any_private_address_is_rejected(internet, addresses):
    internet.names["pictures.example"] = addresses
    with pytest.raises(PrivateAddress) as problem:
        internet.fetch()
    assert internet.dialled == []
    assert "10.0.0.7" not in str(problem.value)  # it would reveal the structure of this network


def test_the_connection_goes_to_the_address_that_was_checked(internet):
    answers = iter([[PUBLIC], ["127.0.0.1"]])  # DNS rebinding: another look-up returns a different address
    assert internet.fetch(resolve=lambda host, port: next(answers)) == PICTURE
    assert internet.dialled == [PUBLIC]
    assert next(answers) == ["127.0.0.1"]  # there was no other look-up


def test_a_name_is_checked_again_after_a_redirect(internet, server):
    server.pages["/again"] = redirect("/picture")
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    with pytest.raises(PrivateAddress):
        internet.fetch("/again", resolve=lambda host, port: next(answers))
    assert internet.dialled == [PUBLIC]


def test_this_machines_own_public_address_is_rejected(server, monkeypatch):
    monkeypatch.setattr(fetch, "is_public", lambda address: True)  # 127.0.0.1 stands for the public address
    with pytest.raises(PrivateAddress):
        fetch.read_picture(server.url + "/picture")
    assert server.requests == []


def test_an_unknown_name_is_an_error(internet):
    def resolve(host, port):
        raise OSError("Name or service not known")

    with pytest.raises(UserError, match=r"No address was found for 'pictures\.example'"):
        internet.fetch(resolve=resolve)


def test_a_name_too_long_to_look_up_is_an_error(internet):
    with pytest.raises(UserError, match="No address was found"):
        internet.fetch(f"http://{'a' * 70}.example/")


def test_proxies_in_the_environment_are_not_used(internet, monkeypatch):
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
        monkeypatch.setenv(variable.upper(), "http://127.0.0.1:9")
    assert internet.fetch() == PICTURE


# ---------------------------------------------------------------- redirects


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{port}/picture",
        "http://localhost:{port}/picture",
        "http://[::1]:{port}/picture",
        "http://2130706433:{port}/picture",
        "http://169.254.169.254/latest/meta-data/",
        "//169.254.169.254/latest/meta-data/",
        "file:///etc/passwd",
        "ftp://pictures.example/picture",
        "gopher://pictures.example/picture",
        "http://user:password@pictures.example/picture",
        "http://[broken/",
    ],
)
def test_a_redirect_is_checked_like_a_url(internet, server, location):
    server.pages["/away"] = redirect(location.format(port=server.server_port))
    with pytest.raises(UserError):
        internet.fetch("/away")
    assert internet.dialled == [PUBLIC]
    assert [path for path, *_ in server.requests] == ["/away"]


def test_a_redirect_loop_ends(internet, server):
    server.pages["/loop"] = redirect("/loop")
    with pytest.raises(UserError, match="redirects more than 3 times"):
        internet.fetch("/loop")
    assert len(server.requests) == 4


# ---------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://pictures.example/a.jpg", "must begin with http"),
        ("file:///etc/passwd", "must begin with http"),
        ("data:image/png;base64,AAAA", "must begin with http"),
        ("javascript:alert(1)", "must begin with http"),
        ("homer.jpg", "must begin with http"),
        ("", "must begin with http"),
        ("http:///homer.jpg", "names no server"),
        ("http://pictures.example:0/", "names no server"),
        ("http://pictures.example:65616/", "names no server"),  # 65616 - 65536 = 80
        ("http://user@pictures.example/", "user name or password"),
        ("http://:password@pictures.example/", "user name or password"),
        ("http://pictures.example\\@127.0.0.1/", "user name or password"),
        ("http://pictures.example/\r\nHost: other", "not an address that can be read"),
        ("http://[::1/", "not an address that can be read"),
        ("http://pictures.example:x/", "not an address that can be read"),
        ("http://xn--/", "not an address that can be read"),
        ("http://pictures.example/" + "a" * 70_000, "not an address that can be read"),
    ],
)
def test_an_unusable_url_is_an_error(internet, url, message):
    with pytest.raises(UserError, match=message):
        internet.fetch(url or " ")
    assert internet.resolved == []


# ---------------------------------------------------------------- limits

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        endless(HEAD, b"x" * 1000),
        endless(CHUNKED, b"3e8\r\n" + b"x" * 1000 + b"\r\n"),
        page(b"x" * 10_001),
        page(b"x", length=10_001),  # rejected by its Content-Length
        page(b"x", length=10**19),
    ],
    ids=["endless", "endless chunks", "too large", "declared too large", "declared absurdly large"],
)
def test_a_large_body_is_rejected(internet, server, answer):
    server.pages["/large"] = answer
    with pytest.raises(UserError, match=r"more than 0\.01 MB"):
        internet.fetch("/large", MAX_BYTES=10_000)


def test_a_body_of_the_largest_size_is_read(internet, server):
    server.pages["/full"] = page(b"x" * 10_000)
    assert len(internet.fetch("/full", MAX_BYTES=10_000)) == 10_000


@pytest.mark.parametrize(
    "answer",
    [
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        endless(b"HTTP/1.1 200 OK\r\n", b"X-Header: x\r\n" * 100),
        endless(CHUNKED, b"1;" + b"x" * 5000 + b"\r\nx\r\n"),
    ],
    ids=["interim answers", "headers", "chunk extensions"],
)
def test_an_answer_of_overhead_only_is_rejected(internet, server, answer):
    server.pages["/overhead"] = answer
    with pytest.raises(UserError, match=r"far more than a picture|broke the protocol"):
        internet.fetch("/overhead", MAX_BYTES=10_000)


@pytest.mark.parametrize(
    "answer",
    [
        endless(HEAD, b"x", seconds=0.02),
        endless(b"", b"H", seconds=0.02),
        endless(b"HTTP/1.1 200 OK\r\n", b"X: x\r\n", seconds=0.02),
        endless(b"", b"", seconds=0.02),
    ],
    ids=["body", "status line", "headers", "silence"],
)
def test_a_slow_answer_ends_at_the_deadline(internet, server, answer):
    server.pages["/slow"] = answer
    with pytest.raises(UserError, match=r"longer than 0\.2 seconds"):
        internet.fetch("/slow", TOTAL_SECONDS=0.2)


def test_redirects_have_one_deadline_together(internet, server):
    def slow(handler):
        handler.server.closing.wait(0.15)
        redirect("/slow")(handler)

    server.pages["/slow"] = slow
    with pytest.raises(UserError, match=r"longer than 0\.2 seconds"):
        internet.fetch("/slow", TOTAL_SECONDS=0.2)


def test_a_name_server_that_does_not_answer_is_not_waited_for(internet, server):
    with pytest.raises(UserError, match="No address was found"):
        internet.fetch(resolve=lambda host, port: [str(server.closing.wait(60))], CONNECT_SECONDS=0.05)


def test_a_closed_port_is_an_error(internet):
    def dial(address, seconds):
        raise ConnectionRefusedError

    with pytest.raises(UserError, match=r"Nothing answers at pictures\.example, port 80"):
        internet.fetch(dial=dial)


def test_a_body_shorter_than_declared_is_rejected(internet, server):
    server.pages["/short"] = page(b"x" * 10, length=1000)
    with pytest.raises(UserError, match="failed"):
        internet.fetch("/short")


def test_nothing_beyond_the_declared_length_is_read(internet, server):
    server.pages["/long"] = page(PICTURE + b"more", length=len(PICTURE))
    assert internet.fetch("/long") == PICTURE


def test_a_gzip_bomb_is_not_decompressed(internet, server):
    bomb = gzip.compress(bytes(5_000_000))  # 5 kB
    server.pages["/bomb"] = page(bomb, content_encoding="gzip", content_type="image/png")
    with pytest.raises(UserError, match="compressed once more"):
        internet.fetch("/bomb")


def test_an_answer_that_is_not_http_is_an_error(internet, server):
    server.pages["/ssh"] = lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n")
    with pytest.raises(UserError, match="broke the protocol"):
        internet.fetch("/ssh")


@pytest.mark.parametrize("status", [204, 206, 304, 401, 404, 500])
def test_a_status_other_than_200_is_an_error(internet, server, status):
    server.pages["/status"] = page(status=status)
    with pytest.raises(UserError, match=f"status {status}"):
        internet.fetch("/status")


# ---------------------------------------------------------------- https


@pytest.fixture
def secure(internet, tmp_path):
    """The same internet with a server that uses TLS, as pictures.example."""
    (tmp_path / "both.pem").write_text(CERTIFICATE + KEY)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "both.pem")
    context.sni_callback = lambda connection, name, _: setattr(connection, "name", name)
    internet.server.socket = context.wrap_socket(internet.server.socket, server_side=True)
    return internet


def trusting(trust_env: bool) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=CERTIFICATE)


def test_certificates_are_verified_for_the_name_not_the_address(secure):
    assert secure.fetch("https://pictures.example/picture", ssl_context=trusting) == PICTURE
    assert secure.server.requests[0][1] == "pictures.example"
    assert secure.dialled == [PUBLIC]


def test_a_certificate_for_another_name_is_rejected(secure):
    secure.names["other.example"] = [PUBLIC]
    with pytest.raises(UserError, match=r"certificate is not valid: Hostname mismatch"):
        secure.fetch("https://other.example/picture", ssl_context=trusting)
    assert secure.server.requests == []


def test_a_self_signed_certificate_is_rejected(secure):
    with pytest.raises(UserError, match="certificate is not valid: self"):
        secure.fetch("https://pictures.example/picture")


def test_an_unanswered_handshake_ends_at_the_deadline(internet):
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UserError, match=r"longer than 0\.2 seconds"):
        internet.fetch(
            "https://pictures.example/picture",
            dial=lambda address, seconds: DIAL(silent.getsockname(), seconds),
            TOTAL_SECONDS=0.2,
        )
