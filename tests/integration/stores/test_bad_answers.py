"""What banks behind HTTP make of answers that a good server gives on bad days, and of no answer at all."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from karbor.bank.stores.s3 import S3Bank
from karbor.bank.stores.swift import SwiftBank
from karbor.errors import BankError, BankForeign, BankFull, Damaged, ObjectExists, ObjectMissing


class Server:
    """Gives the answers of `script` one after the other, and keeps what was asked."""

    def __init__(self):
        self.script = []
        self.asked = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                size = int(self.headers.get("Content-Length", 0))
                outer.asked.append((self.command, self.path, dict(self.headers), self.rfile.read(size)))
                outer.script.pop(0)(self)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer  # noqa: N815 - the library's names

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever)
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


def says(status, body=b"", **headers):
    def answer(handler):
        handler.send_response(status)
        for name, value in ({"Content-Length": len(body)} | headers).items():
            handler.send_header(name.replace("_", "-"), str(value))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    return answer


def cuts(status=200, body=b"half", announced=100):
    """The answer ends in the middle."""

    def answer(handler):
        says(status, body, Content_Length=announced)(handler)
        handler.close_connection = True

    return answer


def hangs_up(handler):
    handler.close_connection = True


def is_silent(handler):
    time.sleep(3)
    handler.close_connection = True


def s3_error(status, code):
    return says(status, f"<Error><Code>{code}</Code><Message>so it is</Message></Error>".encode())


@pytest.fixture(scope="module")
def running():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def server(running, s3):
    running.script.clear()
    running.asked.clear()
    return running


@pytest.fixture(scope="module")
def swift(running):
    bank = SwiftBank({"auth_type": "none", "endpoint": f"{running.url}/v1/AUTH_x", "timeout": "1"})
    yield bank
    bank.close()


@pytest.fixture(scope="module")
def s3(running):
    marker = b'{"karbor_bank":1,"features":["if-absent"]}'
    running.script[:] = [says(200, marker), says(200, b"<VersioningConfiguration/>"), s3_error(404, "NoSuchLock")]
    bank = S3Bank({"endpoint": running.url, "access_key": "a", "secret_key": "hidden", "timeout": "1"})
    yield bank
    bank.close()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (says(404), ObjectMissing),
        (says(403), BankForeign),
        (says(429), BankError),
        (says(498), BankError),
        (says(500), BankError),
        (says(503), BankError),
        (says(301, Location="http://elsewhere.example/"), BankError),
        (says(200, b"x" * 11), Damaged),
        (cuts(announced=9), BankError),
        (hangs_up, BankError),
        (is_silent, BankError),
    ],
)
def test_reading_from_swift(server, swift, answer, error):
    server.script.append(answer)
    with pytest.raises(error) as raised:
        swift.get("key", limit=10)
    assert type(raised.value) is error
    assert len(server.asked) == 1, "trying again is the wrapper's work"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (says(412), ObjectExists),
        (says(413), BankFull),
        (says(507), BankFull),
        (says(422), BankError),
        (says(409), BankError),
        (says(201, ETag="0123"), BankError),
        (hangs_up, BankError),
        (is_silent, BankError),
    ],
)
def test_writing_to_swift(server, swift, answer, error):
    server.script.append(answer)
    with pytest.raises(error) as raised:
        swift.put("key", [b"con", b"tent"])
    assert type(raised.value) is error
    assert [asked[3] for asked in server.asked] == [b"content"]


def test_a_range_from_swift(server, swift):
    server.script += [says(206, b"cd", Content_Range="bytes 2-3/9"), says(206, b"cd", Content_Range="bytes 2-3/4")]
    assert swift.get_range("key", 2, 2) == b"cd"
    for answer, error in (
        (server.script.pop(), Damaged),
        (says(416), Damaged),
        (says(200, b"abcdefghi"), BankError),
        (says(206, b"bcd", Content_Range="bytes 1-3/9"), BankError),
    ):
        server.script.append(answer)
        with pytest.raises(error):
            swift.get_range("key", 2, 3)


def test_a_listing_that_is_none(server, swift):
    for answer in (says(200, b"<html>welcome to the hotel</html>"), says(503), hangs_up):
        server.script.append(answer)
        with pytest.raises(BankError):
            list(swift.list("p/a-g1/"))
    server.script.append(says(404))
    assert list(swift.list("p/a-g1/")) == []


def test_a_container_is_made_for_its_project_alone(server, swift):
    etag = {"ETag": "9a0364b9e99bb480dd25e1f0284c8555"}
    server.script += [says(404), says(201), says(201, **etag)]
    swift.put("p/a-g1/config", [b"content"])
    methods = [(asked[0], asked[1]) for asked in server.asked]
    container, config = "/v1/AUTH_x/karbor.p.a-g1", "/v1/AUTH_x/karbor.p.a-g1/config"
    assert methods == [("PUT", config), ("PUT", container), ("PUT", config)]
    assert server.asked[1][2]["X-Container-Read"] == "a:*"
    server.script += [says(404), says(202), says(404)]
    with pytest.raises(BankError) as raised:
        swift.put("log/1", [b"content"])
    assert type(raised.value) is BankError
    assert "X-Container-Read" not in server.asked[4][2]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (s3_error(404, "NoSuchKey"), ObjectMissing),
        (s3_error(403, "SignatureDoesNotMatch"), BankForeign),
        (s3_error(503, "SlowDown"), BankError),
        (says(500, b"<html>"), BankError),
        (says(200, b"x" * 11), Damaged),
        (cuts(announced=9), BankError),
        (hangs_up, BankError),
        (is_silent, BankError),
    ],
)
def test_reading_from_s3(server, s3, answer, error):
    server.script.append(answer)
    with pytest.raises(error) as raised:
        s3.get("key", limit=10)
    assert type(raised.value) is error
    assert len(server.asked) == 1, "trying again is the wrapper's work"
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (s3_error(412, "PreconditionFailed"), ObjectExists),
        (s3_error(409, "ConditionalRequestConflict"), BankError),
        (s3_error(403, "QuotaExceeded"), BankFull),
        (s3_error(507, "XMinioStorageFull"), BankFull),
        (s3_error(400, "BadDigest"), BankError),
        (hangs_up, BankError),
        (is_silent, BankError),
    ],
)
def test_writing_to_s3(server, s3, answer, error):
    server.script.append(answer)
    with pytest.raises(error) as raised:
        s3.put("key", [b"con", b"tent"], if_absent=True)
    assert type(raised.value) is error
    [(method, path, headers, body)] = server.asked
    assert (method, path, body, headers["If-None-Match"]) == ("PUT", "/karbor/key", b"content", "*")
    assert headers["Content-MD5"] == "mgNkuembtIDdJeHwKEyFVQ=="


def test_a_marker_that_is_not_ours(server):
    for marker in (b"{}", b'{"karbor_bank":2,"features":[]}', b"x" * 5000):
        server.script.append(says(200, marker))
        with pytest.raises(BankForeign):
            S3Bank({"endpoint": server.url, "access_key": "a", "secret_key": "hidden"})
