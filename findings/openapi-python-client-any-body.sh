#!/usr/bin/env bash
# openapi-python-client 0.29.1: an operation that takes JSON of any shape or octets has a call that
# always fails.
#
# The request body has two media types: application/json with the schema {} ("any value", valid in
# OpenAPI 3.1) and application/octet-stream with a binary string. The generated function tells them
# apart with isinstance(body, Any), and typing.Any cannot be used with isinstance: every call raises
# TypeError, before anything is sent. One would guess that a schema that allows everything is the
# last branch, without a test of its type. An octet-stream without a schema avoids it.
#
# Exits with 0 while that is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install openapi-python-client==0.29.1
cat >api.json <<'JSON'
{"openapi": "3.1.0", "info": {"title": "orders", "version": "1"},
 "paths": {"/orders": {"post": {"operationId": "submit", "tags": ["orders"],
   "requestBody": {"content": {
     "application/json": {"schema": {}},
     "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
   "responses": {"202": {"description": "accepted"}}}}}}
JSON
venv/bin/openapi-python-client generate --path api.json --output-path client --meta none >generated.txt 2>&1
grep -n 'isinstance(body, Any)' client/api/orders/submit.py
said=$(venv/bin/python - <<'PYTHON'
from client.api.orders import submit
try:
    submit._get_kwargs(body={"sku": "A-1"})
    print("the call works")
except TypeError as error:
    print(f"TypeError: {error}")
PYTHON
)
echo "openapi-python-client 0.29.1: $said"
[[ $said == TypeError:* ]]
