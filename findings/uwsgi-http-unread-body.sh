#!/usr/bin/env bash
# uWSGI 2.0.30 (PyPI, pyuwsgi): with `--http`, answers of an application that leaves the body unread
# get lost.
#
# Seen: an application answers POSTs of 100 kB at once, without reading them. With `--http` some of
# the answers, up to two in five, never reach a client that reads and writes at the same time: its
# connection is reset without an octet. With `--http-socket`, or with `--post-buffering` beside
# `--http`, all of them arrive.
#
# One would guess otherwise, because both options are offered for HTTP, and RFC 9112 section 9.6 has
# servers close in stages, so that no client loses an answer that came early. `--http` puts a process
# between the client and the worker: the worker closes with octets unread, and the answer is lost on
# the way.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check pyuwsgi==2.0.30
cat >app.py <<'PYTHON'
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "4")])
    return [b"done"]
PYTHON
cat >try.py <<'PYTHON'
import concurrent.futures, contextlib, os, select, signal, socket, subprocess, sys, time

POSTS, SIZE = 200, 100_000

def answered(port, _):
    """Whether the answer comes to a client that reads whatever becomes of writing."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setblocking(False)
        head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n".encode()
        left, came = memoryview(head + bytes(SIZE)), b""
        while True:
            readable, writable, _ = select.select([connection], [connection] if left else [], [], 20)
            try:
                if readable:
                    octets = connection.recv(65536)
                    came += octets
                    if not octets or came.endswith(b"done"):
                        return came.endswith(b"done")
                elif writable:
                    left = left[connection.send(left[:65536]):]
                else:
                    return False
            except OSError:
                if readable:
                    return False
                left = b""

def lost(option, *more):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = ["venv/bin/pyuwsgi", option, f"127.0.0.1:{port}", "--master", "--processes", "4", "--module", "app", "--disable-logging", *more]
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            return POSTS - sum(pool.map(lambda number: answered(port, number), range(POSTS)))
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()

router, buffered, direct = lost("--http"), lost("--http", "--post-buffering", "65536"), lost("--http-socket")
print(f"answers lost of {POSTS}: {router} with --http, {buffered} if it buffers, {direct} with --http-socket")
sys.exit(0 if router > 0 and (buffered, direct) == (0, 0) else 1)
PYTHON
python3 try.py
