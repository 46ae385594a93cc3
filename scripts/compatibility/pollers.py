#!/usr/bin/env python3
"""Measures what client libraries make of the gateway's monitors.

    scripts/compatibility/pollers.py --install           all of them, some 15 minutes
    scripts/compatibility/pollers.py --install arm       this one
    scripts/compatibility/pollers.py --json              one object for each client, a line each

Each client posts to an asynchronous route and polls as it does by itself: a job of six seconds that
succeeds, one that creates something, one that fails, one that is canceled after three seconds, and
the first again while connections are refused for three seconds, and while the gateway gets SIGTERM
and is started again three seconds after its end. `sdks.py` measures SDKs that do not poll.
"""

import contextlib
import http.server
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import measurement

PROGRAMS = pathlib.Path(__file__).parent / "programs"
JOB = 6
ROUTES = '[[routes]]\nmatch = "POST /{*rest}"\n'
AZURE = ["azure-core==1.41.0", "azure-mgmt-core==1.6.0", "aiohttp==3.14.5", "requests==2.34.2"]
# What polls, and what is known not to: the packages of each.
POLLERS = {
    "arm": AZURE,
    "arm-async": AZURE,
    "msrest": ["msrestazure==0.6.4.post1", "setuptools<81"],
    "core": AZURE,
    "core-async": AZURE,
    "core-lro-2": "npm",
    "core-lro-3": "npm",
    "medplum": "npm",
    "sushy": ["sushy==5.14.0"],
    "redfish": ["redfish==3.4.2"],
    "redfish-monitor": ["redfish==3.4.2"],
    "ansible": ["ansible-core==2.19.14"],
}
NOT_POLLING = {
    "openeo": ["openeo==0.53.0"],
    "owslib": ["OWSLib==0.35.0"],
    "google": ["google-api-core==2.44.0", "requests==2.34.2"],
    "fhirpy": ["fhirpy==2.3.1"],
    "fhirclient": ["fhirclient==4.4.0"],
}
NPM = ["core-lro-2@npm:@azure/core-lro@2.7.2", "core-lro-3@npm:@azure/core-lro@3.3.1", "@azure/core-rest-pipeline@1.22.0",
       "@medplum/core@4.5.2"]
# What some clients read before they post.
DOCUMENTS = {
    "/": {
        "api_version": "1.2.0", "stac_version": "1.0.0", "id": "x", "title": "x", "description": "x", "type": "Catalog",
        "backend_version": "1", "links": [], "endpoints": [{"path": "/jobs", "methods": ["GET", "POST"]}],
    },
    "/redfish/v1/": {"@odata.id": "/redfish/v1/", "Links": {"Sessions": {"@odata.id": "/redfish/v1/SessionService/Sessions"}}},
    "/fhir/metadata": {"resourceType": "CapabilityStatement", "status": "active", "date": "2026-11-30", "kind": "instance",
                       "fhirVersion": "4.0.1", "format": ["json"]},
    "/things/7": {"id": "thing-7"},
}


class Service(http.server.BaseHTTPRequestHandler):
    """The upstream: `/succeed`, `/create`, `/fail` end after six seconds, `/slow` after a minute."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.path.rsplit("/", 1)[-1]
        time.sleep({"slow": 60}.get(kind, JOB))
        status, document, fields = {
            "create": (201, {"id": "thing-7"}, {"Location": "/things/7"}),
            "fail": (422, {"error": {"code": "OutOfStock", "message": "none left"}}, {}),
        }.get(kind, (200, {"id": "job-1", "answer": 42}, {}))
        self.answer(status, document, fields)

    def do_GET(self):
        document = DOCUMENTS.get(self.path)
        self.answer(200 if document else 404, document or {}, {})

    def answer(self, status, document, fields):
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(body), **fields}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Stage:
    """A gateway that can be stopped and started again, behind a door."""

    def __init__(self, folder, service):
        self.folder, self.port = folder, measurement.free_port()
        self.door = measurement.Door(self.port)
        self.argv = measurement.configuration(folder, self.port, self.door.port, service, ROUTES)
        self.base = f"http://127.0.0.1:{self.door.port}"
        self.start()

    def start(self):
        self.life = contextlib.ExitStack()
        self.life.enter_context(measurement.running(self.argv, self.folder, self.port, patience=40))

    def restart(self, seconds):
        self.life.close()
        time.sleep(seconds)
        self.start()

    def cancel(self):
        """Cancels what runs, as another client would."""
        here = f"http://127.0.0.1:{self.port}"
        with urllib.request.urlopen(f"{here}/-/operations?status=running") as answer:
            listed = json.load(answer)
        for one in listed["operations"]:
            url = one["links"]["monitor"].replace(self.base, here) + "/cancel"
            urllib.request.urlopen(urllib.request.Request(url, data=b"", method="POST")).close()


def command(name, install):
    """How a client is called, without base and path."""
    if POLLERS.get(name) == "npm":
        folder = measurement.modules("pollers", *NPM) if install else measurement.CACHE / "npm-pollers"
        return ["node", PROGRAMS / "poll.mjs", folder, name] if folder.exists() else None
    packages = {**POLLERS, **NOT_POLLING}[name]
    folder = measurement.CACHE / f"venv-{packages[0].split('==')[0]}"
    if install:
        measurement.venv(packages[0].split("==")[0], *packages)
    return [folder / "bin/python", PROGRAMS / "poll.py", name] if folder.exists() else None


def ran(stage, argv, path, meanwhile=None, after=3):
    """What the caller of the library is given, with the monitor asked how often."""
    before = len(stage.door.heads)
    argv = [str(one) for one in [*argv, stage.base, path]]
    client = subprocess.Popen(argv, cwd=stage.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    thread = None
    if meanwhile:
        came = lambda: any("POST" in one for one in stage.door.heads[before:])
        measurement.until(lambda: came() or client.poll() is not None, "no POST came", 60)
        thread = threading.Timer(after, meanwhile)
        thread.start()
    try:
        out, err = client.communicate(timeout=100)
        row = json.loads(out.strip().splitlines()[-1]) if out.strip() else {"ended": err[-300:]}
    except subprocess.TimeoutExpired:
        client.kill()
        row = {"ended": "not after 100 s"}
    if thread:
        thread.join()
    row["asked"] = sum(head.startswith("GET /-/operations") for head in stage.door.heads[before:])
    return row


def measure(name, argv, folder, service):
    stage = Stage(folder, service)
    try:
        if name in NOT_POLLING:
            return {"202": ran(stage, argv, "/succeed")}
        return {
            "success": ran(stage, argv, "/succeed"),
            "created": ran(stage, argv, "/create"),
            "failure": ran(stage, argv, "/fail"),
            "canceled": ran(stage, argv, "/slow", stage.cancel),
            "refused 3 s": ran(stage, argv, "/succeed", lambda: stage.door.closed_for(3), after=1),
            "restarted": ran(stage, argv, "/succeed", lambda: stage.restart(3), after=1),
        }
    finally:
        stage.life.close()


def main():
    names, chosen, given = measurement.asked(__doc__, {**POLLERS, **NOT_POLLING}, "pollers")
    failed = False
    with measurement.serving(Service) as service:
        for name in names:
            argv = command(name, given.install)
            if argv is None:
                print(f"{name}: not installed (--install)", file=sys.stderr)
                failed |= chosen
                continue
            with tempfile.TemporaryDirectory(prefix="cloakroom-") as folder:
                try:
                    cells = measure(name, argv, pathlib.Path(folder), service)
                except RuntimeError as error:
                    failed, cells = True, {"error": str(error)}
            packages = POLLERS.get(name, NOT_POLLING.get(name))
            measurement.told({"client": name, "packages": NPM if packages == "npm" else packages, **cells}, given.json)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
