#!/usr/bin/env python3
"""Measures what reverse proxies do to a conversation with cloakroom.

    scripts/compatibility/proxies.py                     every proxy that is installed
    scripts/compatibility/proxies.py nginx haproxy       these
    scripts/compatibility/proxies.py --install nginx     installs it with apt-get, npm or pip first
    scripts/compatibility/proxies.py --json              one object for each proxy

Each proxy is tried twice: with the least configuration that passes requests on, and with the
lines of docs/compatibility/proxies.md ("mended"). Everything listens on free ports of the
loopback. A proxy takes about two minutes, most of it the answer that is held for 45 seconds.
CLOAKROOM names the gateway's binary; target/debug/cloakroom unless set.
"""

import contextlib
import http.server
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

import measurement
from configurations import PROXIES
from measurement import Door, curl, free_port, running

HELD = 45
ROUTES = """[[routes]]
match = "POST /sync/{seconds}"
mode = "sync"
allow = ["sync", "async"]
[[routes]]
match = "POST /async/{seconds}"
"""


class Service(http.server.BaseHTTPRequestHandler):
    """The upstream: says what arrived; a number in the path is how long it takes."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        while length > 0:
            length -= len(self.rfile.read(min(length, 1 << 20)) or b"x" * length)
        if self.command == "POST":
            time.sleep(float(self.path.rsplit("/", 1)[-1]))
        body = json.dumps(dict(self.headers)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


class Mute:
    """A server that reads requests and closes without an answer; a GET is answered."""

    def __init__(self):
        self.posts = 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            connection, _ = self.socket.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection, contextlib.suppress(ConnectionResetError):
            while head := self.head(connection):
                if head.startswith(b"POST"):
                    self.posts += 1
                    # What is left of the body: a close with octets unread would be a reset.
                    connection.settimeout(0.3)
                    with contextlib.suppress(TimeoutError):
                        while connection.recv(65536):
                            pass
                    return
                close = b"Connection: close\r\n" if head.startswith(b"GET /once") else b""
                connection.sendall(b"HTTP/1.1 200 OK\r\n" + close + b"Content-Length: 2\r\n\r\nok")
                if close:
                    return

    @staticmethod
    def head(connection):
        octets = b""
        while b"\r\n\r\n" not in octets:
            more = connection.recv(65536)
            if not more:
                return b""
            octets += more
        return octets


@contextlib.contextmanager
def gateway(folder, public_port):
    """cloakroom before the service, with a door before it; its links name the proxy."""
    with measurement.serving(Service) as service, measurement.gateway(folder, service, ROUTES, public_port) as port:
        yield Door(port)


def expectation(url, name, version):
    status, _, _ = curl(version, "-H", f"{name}: 202-accepted", "-d", "{}", f"{url}/sync/0")
    return {202: "passed on", 200: "dropped"}.get(status, str(status))


def events(url):
    """When the first event of an operation of two seconds arrives, in seconds."""
    status, fields, _ = curl("-d", "{}", f"{url}/async/2")
    if status != 202:
        return f"not accepted: {status}"
    path = "/" + fields["location"].split("/", 3)[3]
    reader = subprocess.Popen(
        ["curl", "-skN", "--max-time", "10", "-H", "Accept: text/event-stream", url + path],
        stdout=subprocess.PIPE,
    )
    began, first = time.monotonic(), None
    for line in reader.stdout:
        if line.startswith(b"data:") and first is None:
            first = time.monotonic() - began
    reader.wait()
    if first is None:
        return "none"
    return f"live ({first * 1000:.0f} ms)" if first < 1.5 else f"in one piece ({first:.1f} s)"


def held(url, door):
    """What becomes of an answer that is held for as long as the gateway holds one."""
    status, fields, _ = curl("-d", "{}", f"{url}/async/{HELD + 10}")
    if status != 202:
        return f"not accepted: {status}"
    path = "/" + fields["location"].split("/", 3)[3]
    before, began = len(door.heads), time.monotonic()
    status, _, _ = curl("-H", f"Prefer: wait={HELD}", url + path, seconds=HELD + 100)
    took, times = time.monotonic() - began, len(door.heads) - before
    return "yes" if status == 202 and took > HELD - 1 else f"{status} after {took:.1f} s, asked {times} times"


def authorization(url):
    _, _, body = curl("-H", "Authorization: Basic eDp5", f"{url}/whoami")
    with contextlib.suppress(ValueError):
        return "passed on" if json.loads(body).get("authorization", json.loads(body).get("Authorization")) else "dropped"
    return "no answer"


def upload(url, version):
    """A body of 8 MB that waits for 100 Continue."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x" * 8_000_000)
        file.flush()
        arguments = [version, "-H", "Expect: 100-continue", "--data-binary", f"@{file.name}", f"{url}/async/0"]
        return str(curl(*arguments, seconds=30)[0])


def unanswered(url, mute, version, warm):
    """How often the server gets one POST that it never answers, and what curl is told."""
    before = mute.posts
    targets = ([f"{url}/warm", "--next", "-sk", "-o", "/dev/null", version] if warm else []) + ["-d", "x", f"{url}/pay"]
    done = subprocess.run(
        ["curl", "-sk", "-o", "/dev/null", version, "-w", "%{http_code} ", "--max-time", "20", *targets,
         "-w", "%{http_code}"], capture_output=True, text=True,
    )
    return {"requests": mute.posts - before, "client": done.stdout.split()[-1] if done.stdout.split() else "000"}


def measure(proxy, folder, mended):
    """All cells of one proxy, in one configuration."""
    rows = {}
    for protocol, version in [("1.1", "--http1.1"), ("2", proxy.http2)]:
        if version is None:
            continue
        port = free_port()
        with gateway(folder, port) as door, running(*proxy.start(folder, port, door.port, mended, protocol)):
            url = f"{proxy.scheme(protocol)}://127.0.0.1:{port}"
            row = rows[f"HTTP/{protocol}"] = {
                "Expect": expectation(url, "Expect", version),
                "Operation-Expect": expectation(url, "Operation-Expect", version),
                "upload": upload(url, version),
            }
            if protocol == "1.1":
                row["Authorization"] = authorization(url)
                row["events"] = events(url)
                row["held"] = held(url, door)
        mute, port = Mute(), free_port()
        with running(*proxy.start(folder, port, mute.port, mended, protocol)):
            url = f"{proxy.scheme(protocol)}://127.0.0.1:{port}"
            row["POST unanswered, new"] = unanswered(url, mute, version, warm=False)
            row["POST unanswered, reused"] = unanswered(url, mute, version, warm=True)
    return rows


def main():
    names, chosen, given = measurement.asked(__doc__, PROXIES, "proxies")
    failed = False
    for name in names:
        proxy = PROXIES[name]
        if given.install:
            proxy.install()
        if not proxy.is_installed():
            print(f"{name}: not installed (--install)", file=sys.stderr)
            failed |= chosen
            continue
        for mended in (False, True):
            with tempfile.TemporaryDirectory(prefix="cloakroom-") as folder:
                pathlib.Path(folder).chmod(0o777)
                try:
                    cells = measure(proxy, pathlib.Path(folder), mended)
                except RuntimeError as error:
                    failed, cells = True, {"error": str(error)}
            row = {"proxy": name, "version": proxy.version(), "mended": mended, **cells}
            measurement.told(row, given.json)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
