#!/usr/bin/env python3
"""Measures whole applications behind the gateway: what works without it and not with it.

    scripts/compatibility/applications.py --install           all of them, some 10 minutes
    scripts/compatibility/applications.py --install pygeoapi  this one
    scripts/compatibility/applications.py --json              one object for each application, a line each
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

import measurement
from measurement import CACHE, curl, free_port, running

PROGRAMS = pathlib.Path(__file__).parent / "programs"
HTTPBIN = ["httpbin==0.10.4", "gunicorn==27.0.1", "setuptools<81"]
MOTO = ["moto[server]==5.2.5", "boto3==1.44.8"]
SLASH = ["starlette==1.10.0", "flask==3.1.3", "django==5.2.19", "uvicorn==0.54.0"]
PYGEOAPI = ["pygeoapi==0.21.0", "setuptools<81"]
ASYNC = '[[routes]]\nmatch = "POST /{*rest}"\n[[routes]]\nmatch = "POST /"\n'
HYBRID = ASYNC.replace('"\n', '"\nmode = "hybrid"\n')
# What is asked of httpbin; fields that name the time or the way are left out of the comparison.
ASKED = [
    ["/get?a=1&b=%C3%A4"], ["--compressed", "/gzip"], ["--compressed", "/brotli"], ["--compressed", "/deflate"], ["-H", "Range: bytes=2-9", "/range/64"], ["/etag/x"],
    ["-H", 'If-None-Match: "x"', "/etag/x"], ["-I", "/get"], ["-X", "OPTIONS", "/get"], ["-u", "a:b", "/basic-auth/a/b"],
    ["-u", "a:c", "/basic-auth/a/b"], ["-H", "Cookie: k=v", "/cookies"], ["/stream/5"], ["/stream-bytes/2000?seed=1"], ["/drip?duration=1&numbytes=5"],
    ["/redirect-to?url=%2Fget"], ["/status/418"], ["/encoding/utf8"], ["-F", "f=@{file};filename=ä.txt", "/post"], ["-d", "a=1", "/post"],
    ["-X", "PUT", "-d", "{}", "/put"], ["-X", "PATCH", "-d", "{}", "/patch"], ["-X", "DELETE", "/delete"],
]


def httpbin(folder, install):
    """Each answer directly and through the gateway, POSTs on a hybrid route."""
    bin = measurement.venv("httpbin", *HTTPBIN) if install else CACHE / "venv-httpbin/bin"
    port, differs = free_port(), {}
    (folder / "file").write_text("hello")
    argv = [bin / "gunicorn", "-b", f"127.0.0.1:{port}", "-w", "2", "-k", "gthread", "httpbin:app"]
    with running(argv, folder, port), measurement.gateway(folder, port, HYBRID) as gateway:
        for parts in ASKED:
            options = [one.replace("{file}", str(folder / "file")) for one in parts[:-1]]
            seen = [curl(*options, f"http://127.0.0.1:{one}{parts[-1]}") for one in (port, gateway)]
            plain = [compared(status, fields, body, one) for (status, fields, body), one in zip(seen, (port, gateway))]
            if plain[0] != plain[1]:
                differs[" ".join(parts)] = [part for part in ("status", "fields", "body") if plain[0][part] != plain[1][part]]
    return {"version": HTTPBIN[0], "asked": len(ASKED), "differs": differs}


def compared(status, fields, body, port):
    """What of an answer has to be the same on both ways."""
    kept = {name: value.replace(f":{port}", "") for name, value in fields.items()
            if name in ("content-type", "content-encoding", "content-range", "etag", "location", "set-cookie", "www-authenticate", "allow")}
    documents = []
    try:
        for line in body.splitlines() if body.startswith(b'{"') else [body]:
            document = json.loads(line)
            for name in ("headers", "origin", "url"):
                document.pop(name, None)
            documents.append(document)
    except ValueError:
        documents = [body]
    return {"status": status, "fields": kept, "body": documents}


def moto(folder, install):
    """boto3 through the gateway, with hybrid and with asynchronous POSTs."""
    bin, row = measurement.venv("moto", *MOTO) if install else CACHE / "venv-moto/bin", {"version": ", ".join(MOTO)}
    for name, routes in (("directly", None), ("hybrid", HYBRID), ("async", ASYNC)):
        place, port = folder / name, free_port()
        place.mkdir()
        with running([bin / "moto_server", "-H", "127.0.0.1", "-p", port], place, port, seconds=60):
            if routes is None:
                row[name] = boto(bin, port)
            else:
                with measurement.gateway(place, port, routes) as gateway:
                    row[name] = boto(bin, gateway)
    return row


def boto(bin, port):
    return json.loads(measurement.shell([bin / "python", PROGRAMS / "boto.py", f"http://127.0.0.1:{port}"]).splitlines()[-1])


GEO = """server:
  bind: {{ host: 127.0.0.1, port: {port} }}
  url: http://127.0.0.1:{port}
  mimetype: application/json; charset=UTF-8
  encoding: utf-8
  language: en-US
  map: {{ url: "https://tile.openstreetmap.org/{{z}}/{{x}}/{{y}}.png", attribution: x }}
  limits: {{ default_items: 10, max_items: 10 }}
  manager: {{ name: TinyDB, connection: {folder}/jobs.db, output_dir: {folder} }}
logging: {{ level: ERROR }}
metadata:
  identification: {{ title: x, description: x, keywords: [x], keywords_type: theme, terms_of_service: x, url: http://example.org }}
  license: {{ name: x, url: http://example.org }}
  provider: {{ name: x, url: http://example.org }}
  contact: {{ name: x, position: x, address: x, city: x, stateorprovince: x, postalcode: x, country: x, phone: x, fax: x, email: a@example.org,
              url: http://example.org, hours: x, instructions: x, role: x }}
resources:
  hello-world: {{ type: process, processor: {{ name: HelloWorld }} }}
"""


def pygeoapi(folder, install):
    """OGC API Processes: a job that ends well and one that fails, with `Prefer: respond-async`."""
    bin, port = measurement.venv("pygeoapi", *PYGEOAPI) if install else CACHE / "venv-pygeoapi/bin", free_port()
    config, document = folder / "config.yml", folder / "openapi.yml"
    config.write_text(GEO.format(port=port, folder=folder))
    env = {"PYGEOAPI_CONFIG": str(config), "PYGEOAPI_OPENAPI": str(document)}
    done = subprocess.run([bin / "pygeoapi", "openapi", "generate", config, "--output-file", document], capture_output=True, text=True)
    if not document.exists():
        raise RuntimeError(done.stderr[-600:])
    row = {"version": PYGEOAPI[0]}
    with running([bin / "pygeoapi", "serve"], folder, port, env, seconds=60), measurement.gateway(folder, port, ASYNC) as gateway:
        for kind, inputs in (("succeeds", {"name": "x"}), ("fails", {})):
            body = json.dumps({"inputs": inputs})
            url = f"http://127.0.0.1:{gateway}/processes/hello-world/execution"
            status, fields, _ = curl("-H", "Prefer: respond-async", "-H", "Content-Type: application/json", "-d", body, url)
            monitor = fields["operation-location"]
            final = finished(monitor)
            result = curl(monitor.replace("/status", "/result"))
            row[kind] = {"accepted": status, "status": final["status"], "responseStatus": final["responseStatus"], "result": result[2].decode()[:120]}
    return row


def finished(url):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        document = json.loads(curl(url)[2])
        if document["status"] in ("succeeded", "failed", "canceled"):
            return document
        time.sleep(0.2)
    raise RuntimeError("not ended within 30 s")


def json_server(folder, install):
    """A created resource, its ETag, and where pagination leads."""
    modules, port = measurement.modules("json-server", "json-server@0.17.4") if install else CACHE / "npm-json-server", free_port()
    (folder / "db.json").write_text('{"orders": [{"id": 1}, {"id": 2}, {"id": 3}]}')
    argv = ["node", modules / "node_modules/json-server/lib/cli/bin.js", "--host", "127.0.0.1", "--port", port, folder / "db.json"]
    with running(argv, folder, port), measurement.gateway(folder, port, ASYNC) as gateway:
        base = f"http://127.0.0.1:{gateway}"
        status, fields, _ = curl("-H", "Content-Type: application/json", "-d", '{"sku": "A-1"}', f"{base}/orders")
        document = finished(fields["operation-location"])
        created = curl("-L", fields["location"])
        etag = curl(f"{base}/orders/1")[1]["etag"]
        return {
            "version": "json-server@0.17.4", "accepted": status, "createdLocation on the gateway": str(document["createdLocation"]).startswith(base),
            "followed": [created[0], created[2].decode()[:60]],
            "If-None-Match": curl("-H", f"If-None-Match: {etag}", f"{base}/orders/1")[0],
            "Link on the gateway": base in curl(f"{base}/orders?_page=1&_limit=1")[1].get("link", ""),
        }


ORDERS = '[[routes]]\nmatch = "POST /orders"\ndelivery = "DELIVERY"\n'


def slash(folder, install):
    """A POST to a path without the slash that the framework wants: how it is redirected, and what comes of it."""
    bin, row = measurement.venv("slash", *SLASH) if install else CACHE / "venv-slash/bin", {"version": ", ".join(SLASH)}
    for framework in ("starlette", "flask", "django"):
        for delivery in ("at-most-once", "at-least-once"):
            place, port = folder / f"{framework}-{delivery}", free_port()
            place.mkdir()
            argv = [bin / "python", PROGRAMS / "slash.py", framework, port]
            with running(argv, place, port, seconds=60), measurement.gateway(place, port, ORDERS.replace("DELIVERY", delivery)) as gateway:
                directly = curl("-d", "body", f"http://127.0.0.1:{port}/orders")
                _, fields, _ = curl("-d", "body", f"http://127.0.0.1:{gateway}/orders")
                document = finished(fields["operation-location"])
                result = curl(fields["operation-location"].replace("/status", "/result"))
                executed = place / "executed"
                row[f"{framework}, {delivery}"] = {
                    "directly": directly[0], "status": document["status"], "error": (document["error"] or {}).get("code"),
                    "responseStatus": document["responseStatus"], "result": [result[0], result[2].decode()[:20]],
                    "orders": len(executed.read_text().split()) if executed.exists() else 0,
                }
    return row


APPLICATIONS = {"slash": slash, "httpbin": httpbin, "moto": moto, "pygeoapi": pygeoapi, "json-server": json_server}


def main():
    names, _, given = measurement.asked(__doc__, APPLICATIONS, "applications")
    failed = False
    for name in names:
        with tempfile.TemporaryDirectory(prefix="cloakroom-", ignore_cleanup_errors=True) as folder:
            try:
                cells = APPLICATIONS[name](pathlib.Path(folder), given.install)
            except (RuntimeError, OSError, KeyError) as error:
                failed, cells = True, {"error": f"{type(error).__name__}: {error}"}
        measurement.told({"application": name, **cells}, given.json)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
