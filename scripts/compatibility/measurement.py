"""The ground under each measurement: programs on free ports, the gateway, packages, rows."""

import argparse
import contextlib
import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
GATEWAY = os.environ.get("CLOAKROOM", str(ROOT / "target/debug/cloakroom"))
# Packages of PyPI and npm are kept here, so that a second measurement begins at once.
CACHE = pathlib.Path(os.environ.get("COMPATIBILITY_CACHE", pathlib.Path.home() / ".cache/cloakroom-compatibility"))


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


@contextlib.contextmanager
def running(argv, folder, port, env=None, user=None, seconds=20, patience=5):
    """A program that listens on a port, ended with its children when the block is left."""
    log = open(pathlib.Path(folder) / f"{pathlib.Path(argv[0]).name}.log", "ab")
    program = subprocess.Popen(
        [str(one) for one in argv], cwd=folder, stdout=log, stderr=log, env={**os.environ, **(env or {})},
        start_new_session=True, user=user,
    )
    try:
        until(lambda: listens(port) or program.poll() is not None, f"{argv[0]} did not listen", seconds)
        if not listens(port):
            raise RuntimeError(f"{argv[0]} ended: {pathlib.Path(log.name).read_text(errors='replace')[-900:]}")
        yield program
    finally:
        stop(program, patience)
        log.close()


def stop(program, patience):
    """Ends a program and its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGTERM)
    try:
        program.wait(patience)
    except subprocess.TimeoutExpired:
        pass
    # Children that outlive the first of them.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)
    program.wait()


@contextlib.contextmanager
def serving(handler):
    """A server of this program, with one handler; gives its port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    # Connections that the other side drops are no news.
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()


def certified(folder):
    """Writes `crt.pem` and `key.pem` for 127.0.0.1; gives what a gateway needs to trust them."""
    new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes"]
    authority, key = folder / "authority.pem", folder / "authority-key.pem"
    shell([*new, "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", key, "-out", authority])
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    shell([*new, "-subj", "/CN=127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "asked.pem"])
    shell(["openssl", "x509", "-req", "-in", folder / "asked.pem", "-CA", authority, "-CAkey", key, "-CAcreateserial", "-days", "2",
           "-extfile", folder / "names", "-out", folder / "crt.pem"])
    return {"SSL_CERT_FILE": str(authority)}


def configuration(folder, port, public_port, upstream, lines, store=None):
    """Writes the gateway's configuration: `lines` go after the upstream's section, which a port or a URL names."""
    upstream = upstream if isinstance(upstream, str) else f"http://127.0.0.1:{upstream}"
    (folder / "cloakroom.toml").write_text(
        f"""[server]
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{public_port}"
[admin]
listen = "127.0.0.1:{free_port()}"
[auth]
shared = true
[store]
url = "{store or f'sqlite:{folder}/ledger.db'}"
[upstreams.default]
url = "{upstream}"
{lines}
"""
    )
    return [GATEWAY, "serve", "--config", "cloakroom.toml"]


@contextlib.contextmanager
def gateway(folder, upstream, lines, public_port=None, port=None, env=None):
    """cloakroom before an upstream's port or URL; gives the port it listens on."""
    port = port or free_port()
    argv = configuration(folder, port, public_port or port, upstream, lines)
    with running(argv, folder, port, env):
        yield port


class Door:
    """A port before another that passes octets on, counts requests, and may be shut."""

    def __init__(self, behind):
        self.behind, self.heads, self.shut = behind, [], False
        self.open()
        self.port = self.socket.getsockname()[1]

    def open(self, port=0):
        self.socket = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self.run, args=(self.socket,), daemon=True).start()

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def closed_for(self, seconds):
        """Connections are refused for some seconds, from another thread."""
        self.close()
        time.sleep(seconds)
        self.open(self.port)

    def count(self, start):
        return sum(head.startswith(start) for head in self.heads)

    def run(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            behind = socket.create_connection(("127.0.0.1", self.behind), 5)
        except OSError:
            connection.close()
            return
        behind.settimeout(None)
        threading.Thread(target=self.pump, args=(behind, connection, False), daemon=True).start()
        self.pump(connection, behind, True)

    def pump(self, source, target, requests):
        with contextlib.suppress(OSError):
            while octets := source.recv(65536):
                # A request begins a segment with every client that was tried.
                if requests and octets.split(b" ", 1)[0] in (b"GET", b"POST", b"PUT", b"DELETE", b"HEAD"):
                    self.heads.append(octets.split(b"\r\n", 1)[0].decode("latin-1"))
                target.sendall(octets)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


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


def shell(argv, **more):
    """Runs a command that has to end well, and says what it wrote if it does not."""
    done = subprocess.run([str(one) for one in argv], capture_output=True, text=True, **more)
    if done.returncode:
        raise RuntimeError(f"{argv[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-900:]}")
    return done.stdout.strip()


def venv(name, *packages):
    """A virtual environment with pinned packages of PyPI; gives its folder of programs."""
    folder = CACHE / f"venv-{name}"
    listed = folder / "packages"
    if not listed.exists() or listed.read_text() != "\n".join(packages):
        shell([sys.executable, "-m", "venv", "--clear", folder])
        shell([folder / "bin/pip", "install", "-q", "--disable-pip-version-check", *packages])
        listed.write_text("\n".join(packages))
    return folder / "bin"


def modules(name, *packages):
    """A folder with pinned packages of npm in `node_modules`."""
    folder = CACHE / f"npm-{name}"
    listed = folder / "packages"
    if not listed.exists() or listed.read_text() != "\n".join(packages):
        folder.mkdir(parents=True, exist_ok=True)
        shell(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, *packages])
        listed.write_text("\n".join(packages))
    return folder


def debian(*packages):
    """Installs packages of Debian that are missing, without starting what they bring."""
    missing = [one for one in packages if subprocess.run(["dpkg", "-s", one], capture_output=True).returncode]
    if missing:
        shell(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
              env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"})


def asked(doc, names, kind):
    """The command line: which of the names, `--install`, `--json`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(kind, nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument("--install", action="store_true", help="install what is missing")
    parser.add_argument("--json", action="store_true", help="one JSON object for each row, a line each")
    given = parser.parse_args()
    chosen = getattr(given, kind)
    unknown = [name for name in chosen if name not in names]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(names)}")
    if not pathlib.Path(GATEWAY).exists():
        parser.error(f"there is no {GATEWAY}: run `cargo build`, or set CLOAKROOM")
    return chosen or list(names), bool(chosen), given


def told(row, as_json):
    print(json.dumps(row) if as_json else json.dumps(row, indent=2), flush=True)
