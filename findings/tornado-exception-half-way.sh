#!/usr/bin/env bash
# tornado 6.6.1 (PyPI): an answer whose handler fails half-way looks whole.
#
# Seen: a handler writes and flushes a piece of a body of unknown length, and raises. tornado logs the
# exception, writes the last chunk and keeps the connection open, so the client takes a 200 with
# half a body for the whole. aiohttp closes the connection without a last chunk.
#
# One would guess otherwise, because the last chunk says that the body is complete (RFC 9112 section
# 8), and the status can no longer tell of the error. With a Content-Length
# of its own the answer breaks off.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tornado==6.6.1 aiohttp==3.14.5
cat >"$folder/try.py" <<'PYTHON'
import asyncio, logging, sys
import tornado.web
from aiohttp import web

logging.disable()
class Half(tornado.web.RequestHandler):
    async def get(self):
        self.write(b"half")
        await self.flush()
        raise RuntimeError("the handler fails half-way")

async def half(request):
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"half")
    raise RuntimeError("the handler fails half-way")

async def end(port):
    """How an answer ends of which half came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    octets = b""
    while not octets.endswith(b"\r\n0\r\n\r\n"):
        more = await asyncio.wait_for(reader.read(65536), 10)
        if not more:
            return octets.split(b"\r\n")[0].decode() + ", broken off" if b"half" in octets else "nothing came"
        octets += more
    return octets.split(b"\r\n")[0].decode() + ", looks whole"

async def main():
    server = tornado.web.Application([("/", Half)]).listen(0, "127.0.0.1")
    port = next(iter(server._sockets.values())).getsockname()[1]
    application = web.Application()
    application.router.add_get("/", half)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    told = await end(port), await end(site._server.sockets[0].getsockname()[1])
    print(f"tornado: {told[0]}; aiohttp: {told[1]}")
    return told

told = asyncio.run(main())
sys.exit(0 if told == ("HTTP/1.1 200 OK, looks whole", "HTTP/1.1 200 OK, broken off") else 1)
PYTHON
"$folder/venv/bin/python" "$folder/try.py"
