"""The application that each server of Python runs, and the servers that are started by a call.

`/early` and `/refuse` answer with the body unread, `/cut` and `/cut-length` fail half-way, `/fields`
has 150 fields, `/empty` is a 205, `/slow` takes a fifth of a second and writes its operation's id into
the file that EXECUTED names.
"""

import os
import sys
import time

HALF = b"x" * 1000
STATUSES = {"/refuse": "413 Content Too Large", "/empty": "205 Reset Content"}


def kind(path):
    return "/" + path.rsplit("/", 1)[-1]


def fields(kind):
    plain = [("Content-Type", "text/plain")]
    if kind == "/cut-length":
        return [*plain, ("Content-Length", "5000")]
    if kind == "/fields":
        plain += [(f"X-Field-{n}", "1") for n in range(150)]
    if kind in ("/cut", "/empty"):
        return plain
    return [*plain, ("Content-Length", "4")]


def halves():
    yield HALF
    time.sleep(0.1)
    yield HALF
    raise RuntimeError("the application fails half-way")


def executed(operation):
    with open(os.environ["EXECUTED"], "a") as file:
        file.write(operation + "\n")


def wsgi(environ, start):
    what = kind(environ["PATH_INFO"])
    if what not in ("/early", "/refuse"):
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    if what == "/slow":
        executed(environ.get("HTTP_OPERATION_ID", ""))
        time.sleep(float(os.environ.get("PAUSE", "0.2")))
    start(STATUSES.get(what, "200 OK"), fields(what))
    if what.startswith("/cut"):
        return halves()
    return [b"" if what == "/empty" else b"done"]


async def asgi(scope, receive, send):
    import asyncio

    if scope["type"] != "http":
        return
    what = kind(scope["path"])
    if what not in ("/early", "/refuse"):
        while (await receive()).get("more_body"):
            pass
    if what == "/slow":
        executed(dict(scope["headers"]).get(b"operation-id", b"").decode())
        await asyncio.sleep(float(os.environ.get("PAUSE", "0.2")))
    named = [(name.lower().encode(), value.encode()) for name, value in fields(what)]
    status = int(STATUSES.get(what, "200").split()[0])
    await send({"type": "http.response.start", "status": status, "headers": named})
    if what.startswith("/cut"):
        for half in halves():
            await send({"type": "http.response.body", "body": half, "more_body": True})
            await asyncio.sleep(0.1)
    await send({"type": "http.response.body", "body": b"" if what == "/empty" else b"done"})


def waitress(port):
    from waitress import serve

    serve(wsgi, listen=f"127.0.0.1:{port}", channel_timeout=1)


def werkzeug(port):
    from werkzeug.serving import run_simple

    run_simple("127.0.0.1", port, wsgi, threaded=True)


def cheroot(port):
    from cheroot.wsgi import Server

    server = Server(("127.0.0.1", port), wsgi)
    server.timeout = 1
    server.safe_start()


def wsgiref(port):
    from wsgiref.simple_server import make_server

    make_server("127.0.0.1", port, wsgi).serve_forever()


def bjoern(port):
    import bjoern as library

    library.run(wsgi, "127.0.0.1", port)


def twisted(port):
    from twisted.internet import reactor
    from twisted.web.server import Site
    from twisted.web.wsgi import WSGIResource

    reactor.listenTCP(port, Site(WSGIResource(reactor, reactor.getThreadPool(), wsgi), timeout=1), interface="127.0.0.1")
    reactor.run()


def http_server(port):
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            what = kind(self.path)
            if what not in ("/early", "/refuse"):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if what == "/slow":
                executed(self.headers.get("Operation-Id", ""))
                time.sleep(0.2)
            self.send_response(int(STATUSES.get(what, "200").split()[0]))
            for name, value in fields(what):
                self.send_header(name, value)
            self.end_headers()
            for half in halves() if what.startswith("/cut") else [b"" if what == "/empty" else b"done"]:
                self.wfile.write(half)

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def tornado(port):
    import asyncio

    import tornado.web

    @tornado.web.stream_request_body
    class Handler(tornado.web.RequestHandler):
        def data_received(self, chunk):
            pass

        def prepare(self):
            if kind(self.request.path) in ("/early", "/refuse"):
                self.answer(kind(self.request.path))
                self.finish(b"done")

        def answer(self, what):
            self.set_status(int(STATUSES.get(what, "200").split()[0]))
            for name, value in fields(what):
                self.set_header(name, value)

        async def post(self):
            what = kind(self.request.path)
            if what == "/slow":
                executed(self.request.headers.get("Operation-Id", ""))
                await asyncio.sleep(0.2)
            self.answer(what)
            for half in halves() if what.startswith("/cut") else [b"" if what == "/empty" else b"done"]:
                self.write(half)
                await self.flush()

    async def run():
        application = tornado.web.Application([(r".*", Handler)])
        application.listen(port, "127.0.0.1", max_body_size=1 << 30, idle_connection_timeout=1)
        await asyncio.Event().wait()

    asyncio.run(run())


def aiohttp(port):
    import asyncio

    from aiohttp import web

    async def handler(request):
        what = kind(request.path)
        if what not in ("/early", "/refuse"):
            await request.read()
        if what == "/slow":
            executed(request.headers.get("Operation-Id", ""))
            await asyncio.sleep(0.2)
        response = web.StreamResponse(status=int(STATUSES.get(what, "200").split()[0]), headers=dict(fields(what)))
        await response.prepare(request)
        for half in halves() if what.startswith("/cut") else [b"" if what == "/empty" else b"done"]:
            await response.write(half)
        await response.write_eof()
        return response

    application = web.Application(client_max_size=1 << 30)
    application.router.add_post("/{rest:.*}", handler)
    web.run_app(application, host="127.0.0.1", port=port, print=None, keepalive_timeout=1)


if __name__ == "__main__":
    globals()[sys.argv[1].replace(".", "_")](int(sys.argv[2]))
