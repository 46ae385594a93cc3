#!/usr/bin/env python3
"""Measures what HTTP clients do that the gateway's clients may be.

    scripts/compatibility/clients.py --install            all of them, some 10 minutes
    scripts/compatibility/clients.py --install curl wget  these
    scripts/compatibility/clients.py --json               one object for each client, a line each

Measured of each: how often a server gets one POST that it closes without an answer, directly and through
nginx, Apache and HAProxy; what becomes of `Expect: 202-accepted`; which fields a 303 to another port of
the same host still has. A client is a program in `programs/`, called with its name, a mode and a URL:
`new` posts on a new connection, `reused` after a GET, `expect` with that field, `redirect` posts and
follows, `follow` asks with GET and follows.
"""

import contextlib
import http.server
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import measurement
from configurations import PROXIES
from proxies import Mute

PROGRAMS = pathlib.Path(__file__).parent / "programs"
PIP = ["requests==2.34.2", "httpx[http2]==0.28.1", "urllib3==2.8.0", "aiohttp==3.14.5"]
NPM = ["axios@1.21.1", "got@16.1.0", "undici@7.30.2", "node-fetch@3.3.2", "superagent@10.4.2", "playwright-core@1.65.1"]
PYTHON, NODE = measurement.CACHE / "venv-clients/bin/python", measurement.CACHE / "npm-clients"
OWN = ["Authorization: Basic eDp5", "Prefer: wait=1", "Accept: application/json", "X-Own: 1", "Idempotency-Key: k"]


def curl(version, *options):
    def argv(mode, url, folder):
        fields = ["Content-Type: application/json", *(["Expect: 202-accepted"] if mode == "expect" else []),
                  *(OWN if mode in ("redirect", "follow") else [])]
        post = [] if mode == "follow" else ["-d", '{"sku": "A-1"}']
        more = [part for field in fields for part in ("-H", field)]
        warm = [url.rsplit("/", 1)[0] + "/warm", "-o", "/dev/null", "-sk", version, "--next"] if mode == "reused" else []
        return ["curl", "-sk", "-L", version, *warm, "-sk", "-L", version, *options, "--max-time", "25", "-o", "/dev/null", *more, *post, url,
                "-w", '{"status": %{response_code}, "message": "%{errormsg}"}\n']

    return argv


def wget(mode, url, folder):
    fields = ["Content-Type: application/json", *(["Expect: 202-accepted"] if mode == "expect" else []),
              *(OWN if mode in ("redirect", "follow") else [])]
    post = [] if mode == "follow" else ["--post-data", '{"sku": "A-1"}']
    warm = [url.rsplit("/", 1)[0] + "/warm"] if mode == "reused" else []
    # wget waits one second longer before each of its twenty tries, up to ten.
    return ["wget", "-q", "-O", "/dev/null", "--no-check-certificate", *[f"--header={one}" for one in fields], *post, *warm, url]


def python(name):
    return lambda mode, url, folder: [PYTHON, PROGRAMS / "send.py", name, mode, url]


def node(name):
    return lambda mode, url, folder: ["node", PROGRAMS / "send.mjs", NODE, name, mode, url]


def java(name):
    def argv(mode, url, folder):
        if not (folder / "Send.class").exists():
            measurement.shell(["javac", "-d", folder, PROGRAMS / "Send.java"])
        return ["java", "-Djdk.internal.httpclient.disableHostnameVerification=true", "-cp", folder, "Send", name, mode, url]

    return argv


CLIENTS = {
    "curl": curl("--http1.1"),
    "curl over HTTP/2": curl("--http2"),
    "curl -X POST": curl("--http1.1", "-X", "POST"),
    "wget": wget,
    "chromium": node("chromium"),
    **{name: python(name) for name in ("requests", "httpx", "httpx-h2", "urllib3", "urllib", "aiohttp")},
    **{f"node {name}": node(name) for name in ("fetch", "http", "undici", "undici-h2", "undici-request", "node-fetch", "axios", "got", "superagent")},
    **{f"java {name}": java(name) for name in ("HttpURLConnection", "HttpClient")},
    **{f"php {name}": (lambda name: lambda mode, url, folder: ["php", PROGRAMS / "send.php", name, mode, url])(name)
       for name in ("curl", "streams")},
    "ruby": lambda mode, url, folder: ["ruby", PROGRAMS / "send.rb", "net", mode, url],
}
# Which modes a client takes part in.
NO_REUSE = {"curl -X POST", "urllib", "php streams", "node superagent", "wget"}
NO_REDIRECT = {"chromium", "ruby", "node http", "curl over HTTP/2", "httpx-h2", "node undici-h2", "node undici-request"}
OVER_HTTP2 = {"curl over HTTP/2", "chromium", "httpx-h2", "node undici-h2", "java HttpClient"}
ONLY_HTTP2 = {"curl over HTTP/2", "httpx-h2", "node undici-h2"}
VERSIONS = [
    ["curl", "--version"], ["wget", "--version"], ["chromium", "--version"], ["java", "--version"], ["php", "-v"], ["ruby", "-v"],
    ["node", "--version"], [PYTHON, "--version"],
]


class Recorder(http.server.BaseHTTPRequestHandler):
    """Remembers requests; `/go` leads with a 303 to another port, an `Expect` is answered 417."""

    protocol_version = "HTTP/1.1"
    seen, target = [], 0

    def handle_expect_100(self):
        return True

    def answer(self):
        row = {"method": self.command, "path": self.path, "fields": {name.lower(): value for name, value in self.headers.items()}}
        Recorder.seen.append(row)
        began = time.monotonic()
        self.connection.settimeout(3)
        with contextlib.suppress(TimeoutError):
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                while self.rfile.readline().strip() != b"0":
                    pass
                self.rfile.readline()
            else:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
        row["waited"] = time.monotonic() - began > 0.6
        self.connection.settimeout(None)
        if self.path == "/go":
            self.send_response(303)
            self.send_header("Location", f"http://127.0.0.1:{Recorder.target}/there")
        else:
            self.send_response(417 if "Expect" in self.headers else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


def told(argv, mode, url, folder, seconds=40):
    """What a client says of one exchange."""
    command = [str(one) for one in argv(mode, url, folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, cwd=folder)
    except subprocess.TimeoutExpired:
        return {"ended": f"not after {seconds} s"}
    with contextlib.suppress(ValueError, IndexError):
        return json.loads(done.stdout.strip().splitlines()[-1])
    return {"code": done.returncode, "message": done.stderr.strip()[-160:]}


def repeated(name, argv, folder):
    """How often a server gets one POST that it closes without an answer."""
    row = {}
    modes = ["new"] if name in NO_REUSE else ["new", "reused"]
    if name not in ONLY_HTTP2:
        for mode in modes:
            row[f"directly, {mode}"] = posted(argv, mode, folder, None, "1.1", 230 if name == "wget" else 40)
        for proxy in ("nginx", "apache", "haproxy"):
            row[f"{proxy}, HTTP/1.1, {modes[-1]}"] = posted(argv, modes[-1], folder, proxy, "1.1")
    if name in OVER_HTTP2:
        for proxy in ("nginx", "apache", "haproxy"):
            row[f"{proxy}, HTTP/2, new"] = posted(argv, "new", folder, proxy, "2")
    return row


def posted(argv, mode, folder, proxy, protocol, seconds=40):
    mute, port = Mute(), measurement.free_port()
    with contextlib.ExitStack() as life:
        url = f"http://127.0.0.1:{mute.port}"
        if proxy:
            place = pathlib.Path(life.enter_context(tempfile.TemporaryDirectory(prefix="cloakroom-")))
            place.chmod(0o777)
            life.enter_context(measurement.running(*PROXIES[proxy].start(place, port, mute.port, False, protocol)))
            url = f"{PROXIES[proxy].scheme(protocol)}://127.0.0.1:{port}"
        row = told(argv, mode, f"{url}/pay", folder, seconds)
    return {"requests": mute.posts, **row}


def expects(argv, folder, port):
    """What becomes of `Expect: 202-accepted`: whether it is sent, and what the caller sees of a 417."""
    Recorder.seen.clear()
    row = told(argv, "expect", f"http://127.0.0.1:{port}/orders", folder)
    posts = [one for one in Recorder.seen if one["method"] == "POST"]
    row["requests"] = len(posts)
    if posts:
        fields = posts[0]["fields"]
        row |= {"sent": fields.get("expect", "no"), "waited": posts[0]["waited"],
                "framing": "chunked" if "transfer-encoding" in fields else "length"}
    return row


def redirected(argv, mode, folder, port):
    """With which method, and which of its fields, a client follows a 303 to another port."""
    Recorder.seen.clear()
    row = told(argv, mode, f"http://127.0.0.1:{port}/go", folder)
    there = [one for one in Recorder.seen if one["path"] == "/there"]
    if not there:
        return {"followed": False, **row}
    asked = ["authorization", "prefer", "accept", "x-own", "idempotency-key", "content-type"]
    return {"followed": there[0]["method"], "lost": [one for one in asked if one not in there[0]["fields"]
            or one == "accept" and there[0]["fields"][one] != "application/json"]}


def measure(name, folder, port):
    argv = CLIENTS[name]
    row = {"POST unanswered": repeated(name, argv, folder)}
    if name not in ONLY_HTTP2:
        row["Expect"] = expects(argv, folder, port)
    if name not in NO_REDIRECT:
        for mode in ("redirect", "follow"):
            row[f"303 after {'POST' if mode == 'redirect' else 'GET'}"] = redirected(argv, mode, folder, port)
    return row


def version(argv):
    with contextlib.suppress(OSError):
        return subprocess.run([str(one) for one in argv], capture_output=True, text=True).stdout.strip().splitlines()[0]
    return f"{argv[0]}: not installed"


def main():
    names, _, given = measurement.asked(__doc__, CLIENTS, "clients")
    if given.install:
        measurement.venv("clients", *PIP)
        measurement.modules("clients", *NPM)
        measurement.debian("curl", "wget", "chromium", "default-jdk-headless", "php-cli", "php-curl", "ruby", "nginx-light", "apache2", "haproxy")
    measurement.told({"versions": [version(one) for one in VERSIONS], "packages": PIP + NPM}, given.json)
    failed = False
    with measurement.serving(Recorder) as port, measurement.serving(Recorder) as target:
        Recorder.target = target
        for name in names:
            with tempfile.TemporaryDirectory(prefix="cloakroom-") as folder:
                try:
                    cells = measure(name, pathlib.Path(folder), port)
                except (RuntimeError, OSError) as error:
                    failed, cells = True, {"error": str(error)}
            measurement.told({"client": name, **cells}, given.json)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
