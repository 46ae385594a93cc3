#!/usr/bin/env bash
# gunicorn 27.0.1 (PyPI): a sync worker that is ended because it ran out of time answers 500 first.
#
# Seen: an application that takes longer than `--timeout` is aborted in the middle of its work. The
# client gets a well-formed "500 Internal Server Error", as for an exception before any work. Without
# the time-out the same request is answered 200. With `-k gthread` the time-out does not concern
# requests, and the answer is 200 in both cases.
#
# One would guess otherwise, because the documentation says that workers silent for that long "are
# killed and restarted", and a killed process answers nothing: the client would learn that the outcome
# is unknown. Behind it, a 500 does not mean that the work was not done, nor that it failed. A
# client's own limit has to be below it, or repeats have to be safe.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check gunicorn==27.0.1
cat >app.py <<'PYTHON'
import time

def app(environ, start_response):
    open("begun", "a").write("x")
    time.sleep(4)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
PYTHON
cat >try.py <<'PYTHON'
import contextlib, http.client, os, signal, socket, subprocess, sys, time

def answered(*options):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = ["venv/bin/gunicorn", "-b", f"127.0.0.1:{port}", "-w", "1", *options, "app:app"]
    server = subprocess.Popen(argv, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/", b"{}")
        return connection.getresponse().status
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()

within, beyond, threads = answered("--timeout", "30"), answered("--timeout", "1"), answered("--timeout", "1", "-k", "gthread")
begun = os.path.getsize("begun")
print(f"in time: {within}; beyond --timeout: {beyond}; the same with gthread: {threads}; begun: {begun}")
sys.exit(0 if (within, beyond, threads, begun) == (200, 500, 200, 3) else 1)
PYTHON
python3 try.py
