#!/usr/bin/env bash
# daphne 4.2.3 (PyPI, the ASGI server of Django Channels): an answer whose application fails half-way
# never ends, or ends as if it were whole.
#
# Seen: the application sends the head and a piece of the body, and raises. daphne logs the exception
# and leaves the connection open, without another octet. With `--http-timeout` it writes the last chunk
# when that is over, so the client takes the half for the whole. uvicorn closes the connection at once,
# without a last chunk.
#
# One would guess otherwise, because the server knows that the application has ended, and a client can
# only tell a broken answer by a connection that closes before the last chunk. A time limit of the
# client has to be shorter than daphne's, or the answer needs a Content-Length.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check daphne==4.2.3 uvicorn==0.54.0
cat >"$folder/half.py" <<'PYTHON'
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise RuntimeError("the application fails half-way")
PYTHON
cat >"$folder/try.py" <<'PYTHON'
import socket, subprocess, sys, time

def end(*server):
    """How an answer ends of which half came."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = subprocess.Popen([*server, str(port), "half:app"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                client = socket.create_connection(("127.0.0.1", port), 1)
                break
            except OSError:
                time.sleep(0.1)
        client.settimeout(10)
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        octets = b""
        try:
            while not octets.endswith(b"\r\n0\r\n\r\n") and (more := client.recv(65536)):
                octets += more
        except TimeoutError:
            return "no end within 10 s"
        if b"half" not in octets:
            return "nothing came"
        return "looks whole" if octets.endswith(b"\r\n0\r\n\r\n") else "broken off"
    finally:
        program.terminate()
        program.wait()

bin = sys.argv[1]
daphne = end(f"{bin}/daphne", "-b", "127.0.0.1", "-p")
limited = end(f"{bin}/daphne", "--http-timeout", "2", "-b", "127.0.0.1", "-p")
uvicorn = end(f"{bin}/uvicorn", "--port")
print(f"half the body came. daphne: {daphne}; with --http-timeout 2: {limited}; uvicorn: {uvicorn}")
sys.exit(0 if (daphne, limited, uvicorn) == ("no end within 10 s", "looks whole", "broken off") else 1)
PYTHON
cd "$folder"
venv/bin/python try.py venv/bin
