#!/usr/bin/env python3
"""The application as a CGI script; `app.py` says what its paths do."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import app

what = app.kind(os.environ.get("PATH_INFO") or os.environ.get("REQUEST_URI", ""))
out = sys.stdout.buffer
if what not in ("/early", "/refuse"):
    sys.stdin.buffer.read(int(os.environ.get("CONTENT_LENGTH") or 0))
if what == "/slow":
    app.executed(os.environ.get("HTTP_OPERATION_ID", ""))
out.write(f"Status: {app.STATUSES.get(what, '200 OK')}\r\n".encode())
for name, value in app.fields(what):
    out.write(f"{name}: {value}\r\n".encode())
out.write(b"\r\n")
out.flush()
for part in app.halves() if what.startswith("/cut") else [b"" if what == "/empty" else b"done"]:
    out.write(part)
    out.flush()
