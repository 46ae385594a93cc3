"""An order service at `/orders/` on a framework that redirects `/orders` there: `slash.py FRAMEWORK PORT`.

It answers 201 with what it read, and writes a line for each order into `executed`.
"""

import sys


def created(body):
    with open("executed", "a") as file:
        file.write("order\n")
    return body.decode()


def starlette(port):
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def orders(request):
        return PlainTextResponse(created(await request.body()), 201)

    uvicorn.run(Starlette(routes=[Route("/orders/", orders, methods=["POST"])]), port=port, log_level="critical")


def flask(port):
    from flask import Flask, request

    application = Flask("slash")
    application.post("/orders/")(lambda: (created(request.get_data()), 201))
    application.run("127.0.0.1", port)


def django(port):
    from wsgiref.simple_server import make_server

    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse
    from django.urls import path

    urls = (path("orders/", lambda request: HttpResponse(created(request.body), status=201)),)
    settings.configure(ROOT_URLCONF=urls, ALLOWED_HOSTS=["*"], MIDDLEWARE=["django.middleware.common.CommonMiddleware"])
    make_server("127.0.0.1", port, get_wsgi_application()).serve_forever()


{"starlette": starlette, "flask": flask, "django": django}[sys.argv[1]](int(sys.argv[2]))
