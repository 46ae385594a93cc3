#!/usr/bin/env python3
"""Measures what SDKs that know nothing of operations make of the gateway's answers.

    scripts/compatibility/sdks.py --install          all of them, some 10 minutes
    scripts/compatibility/sdks.py --install openai   this one
    scripts/compatibility/sdks.py --json             one object for each SDK, a line each

Each SDK makes one POST on an asynchronous route, which is answered 202, the same on one with
`accepted = "minimal"`, and one on a synchronous route whose service answers 409.
"""

import http.server
import json
import pathlib
import subprocess
import sys
import tempfile

import measurement

PROGRAMS = pathlib.Path(__file__).parent / "programs"
PYTHON = {
    "stripe": "stripe==16.1.0", "stripe_module": "stripe==16.1.0", "modern_treasury": "modern-treasury==1.80.0", "increase": "increase==0.552.0",
    "svix": "svix==2.9.1", "gocardless_pro": "gocardless-pro==3.22.0", "mollie": "mollie-api-python==4.0.0",
    "workos": "workos==10.8.0", "openai": "openai==3.57.0", "lithic": "lithic==0.133.0", "anthropic": "anthropic==2.14.0",
}
NODE = {"stripe": "stripe@23.1.0", "modern-treasury": "modern-treasury@3.3.0", "openai": "openai@6.49.0", "resend": "resend@6.38.0"}
SDKS = {**{name: "python" for name in PYTHON}, **{f"node {name}": "node" for name in NODE}}
ROUTES = {
    "202": "",
    "202 without a document": 'accepted = "minimal"\n',
    "409": 'mode = "sync"\nallow = ["sync"]\n',
}


class Service(http.server.BaseHTTPRequestHandler):
    """The upstream: answers 409, and remembers which keys came."""

    protocol_version = "HTTP/1.1"
    keys = []

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        Service.keys.append(self.headers.get("Idempotency-Key", ""))
        body = json.dumps({"error": {"type": "conflict", "message": "taken"}, "message": "taken"}).encode()
        self.send_response(409)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def command(name, install):
    """How an SDK is called, without base; none where it is not installed."""
    if SDKS[name] == "node":
        folder = measurement.modules("sdks", *NODE.values()) if install else measurement.CACHE / "npm-sdks"
        return ["node", PROGRAMS / "sdk.mjs", folder, name.split()[1]] if folder.exists() else None
    folder = measurement.venv(f"sdk-{name}", PYTHON[name]) if install else measurement.CACHE / f"venv-sdk-{name}/bin"
    return [folder / "python", PROGRAMS / "sdk.py", name] if folder.exists() else None


def measure(argv, folder, service):
    """What the caller gets from each kind of route."""
    row = {}
    for what, lines in ROUTES.items():
        place = folder / what.replace(" ", "-")
        place.mkdir()
        Service.keys.clear()
        with measurement.gateway(place, service, f'[[routes]]\nmatch = "POST /{{*rest}}"\n{lines}') as port:
            door = measurement.Door(port)
            argv_of = [str(one) for one in [*argv, f"http://127.0.0.1:{door.port}"]]
            done = subprocess.run(argv_of, capture_output=True, text=True, timeout=90, cwd=place)
            lines_of = done.stdout.strip().splitlines()
            row[what] = json.loads(lines_of[-1]) if lines_of else {"ended": done.stderr[-200:]}
            if what == "409":
                # The gateway sends its own id, quoted, where a client sent no key.
                own = {key for key in Service.keys if not key.startswith('"')}
                row[what] |= {"requests": door.count("POST"), "the upstream is asked": len(Service.keys), "keys": sorted(own)}
    return row


def main():
    names, chosen, given = measurement.asked(__doc__, SDKS, "sdks")
    failed = False
    with measurement.serving(Service) as service:
        for name in names:
            try:
                argv = command(name, given.install)
                if argv is None:
                    print(f"{name}: not installed (--install)", file=sys.stderr)
                    failed |= chosen
                    continue
                with tempfile.TemporaryDirectory(prefix="cloakroom-") as folder:
                    cells = measure(argv, pathlib.Path(folder), service)
            except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                failed, cells = True, {"error": str(error)}
            package = PYTHON.get(name) or NODE[name.split()[1]]
            measurement.told({"sdk": package, "of": SDKS[name], **cells}, given.json)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
