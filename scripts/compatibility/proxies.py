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

import argparse
import contextlib
import http.client
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from configurations import PROXIES

ROOT = pathlib.Path(__file__).resolve().parents[2]
GATEWAY = os.environ.get("CLOAKROOM", str(ROOT / "target/debug/cloakroom"))
HELD = 45


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition, what, seconds=20):
    """Waits for a condition, or says what did not come about."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise RuntimeError(f"{what} within {seconds} s")


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


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
                    return
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

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
def running(argv, folder, port, env=None):
    """A program that listens on a port, ended with its children when the block is left."""
    log = open(folder / f"{pathlib.Path(argv[0]).name}.log", "ab")
    program = subprocess.Popen(
        argv, cwd=folder, stdout=log, stderr=log, env={**os.environ, **(env or {})}, start_new_session=True
    )
    try:
        until(lambda: listens(port) or program.poll() is not None, f"{argv[0]} did not listen")
        if not listens(port):
            raise RuntimeError(f"{argv[0]} ended: {pathlib.Path(log.name).read_text()[-600:]}")
        yield program
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGTERM)
        try:
            program.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)
            program.wait()
        log.close()


@contextlib.contextmanager
def gateway(folder, public_port):
    """cloakroom before the service; its links name the proxy."""
    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    service.daemon_threads = True
    # Connections that the gateway drops when it is stopped are no news.
    service.handle_error = lambda *_: None
    threading.Thread(target=service.serve_forever, daemon=True).start()
    port = free_port()
    (folder / "cloakroom.toml").write_text(
        f"""[server]
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{public_port}"
[admin]
listen = "127.0.0.1:{free_port()}"
[store]
url = "sqlite:{folder}/ledger.db"
[upstreams.default]
url = "http://127.0.0.1:{service.server_port}"
[[routes]]
match = "POST /sync/{{seconds}}"
mode = "sync"
allow = ["sync", "async"]
[[routes]]
match = "POST /async/{{seconds}}"
"""
    )
    try:
        with running([GATEWAY, "serve", "--config", "cloakroom.toml"], folder, port):
            yield port
    finally:
        service.shutdown()


def curl(*arguments, seconds=20):
    """Status, fields (lower case) and body of an exchange; status 0 where none came."""
    done = subprocess.run(
        ["curl", "-sk", "-D", "-", "--max-time", str(seconds), *arguments], capture_output=True
    )
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    while body.startswith(b"HTTP/"):
        head, _, body = body.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    status = int(lines[0].split()[1]) if lines[0].startswith("HTTP/") else 0
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return status, fields, body


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


def held(url):
    """What becomes of an answer that is held for as long as the gateway holds one."""
    status, fields, _ = curl("-d", "{}", f"{url}/async/{HELD + 10}")
    if status != 202:
        return f"not accepted: {status}"
    path = "/" + fields["location"].split("/", 3)[3]
    began = time.monotonic()
    status, _, _ = curl("-H", f"Prefer: wait={HELD}", url + path, seconds=HELD + 30)
    took = time.monotonic() - began
    return "yes" if status == 202 and took > HELD - 1 else f"{status} after {took:.1f} s"


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
        with gateway(folder, port) as behind, running(*proxy.start(folder, port, behind, mended, protocol)):
            url = f"{proxy.scheme(protocol)}://127.0.0.1:{port}"
            row = rows[f"HTTP/{protocol}"] = {
                "Expect": expectation(url, "Expect", version),
                "Operation-Expect": expectation(url, "Operation-Expect", version),
                "upload": upload(url, version),
            }
            if protocol == "1.1":
                row["Authorization"] = authorization(url)
                row["events"] = events(url)
                row["held"] = held(url)
        mute, port = Mute(), free_port()
        with running(*proxy.start(folder, port, mute.port, mended, protocol)):
            url = f"{proxy.scheme(protocol)}://127.0.0.1:{port}"
            row["POST unanswered, new"] = unanswered(url, mute, version, warm=False)
            row["POST unanswered, reused"] = unanswered(url, mute, version, warm=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proxies", nargs="*", metavar="PROXY", help=", ".join(PROXIES))
    parser.add_argument("--install", action="store_true", help="install what is missing")
    parser.add_argument("--json", action="store_true", help="one JSON object for each proxy, a line each")
    asked = parser.parse_args()
    unknown = [name for name in asked.proxies if name not in PROXIES]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(PROXIES)}")
    if not pathlib.Path(GATEWAY).exists():
        parser.error(f"there is no {GATEWAY}: run `cargo build`, or set CLOAKROOM")
    failed = False
    for name in asked.proxies or PROXIES:
        proxy = PROXIES[name]
        if asked.install:
            proxy.install()
        if not proxy.is_installed():
            print(f"{name}: not installed (--install)", file=sys.stderr)
            failed |= bool(asked.proxies)
            continue
        for mended in (False, True):
            with tempfile.TemporaryDirectory(prefix="cloakroom-") as folder:
                shutil.os.chmod(folder, 0o777)
                try:
                    cells = measure(proxy, pathlib.Path(folder), mended)
                except RuntimeError as error:
                    failed, cells = True, {"error": str(error)}
            row = {"proxy": name, "version": proxy.version(), "mended": mended, **cells}
            print(json.dumps(row) if asked.json else json.dumps(row, indent=2), flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
