#!/usr/bin/env bash
# superagent 10.4.2 (npm): a POST with any Expect field is never sent.
#
# Seen: `.set('Expect', '202-accepted').send({…})` rejects with ERR_HTTP_HEADERS_SENT, and the
# server gets no request. Node's http sends the head as soon as it is given an Expect field, and
# superagent sets Content-Length after that.
#
# One would guess otherwise, because axios, got, undici and Node's fetch send the same request,
# and Expect takes any registered or private expectation (RFC 9110 section 10.1.1). Such a client
# needs a field of another name.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund superagent@10.4.2 >/dev/null
cat >try.cjs <<'JAVASCRIPT'
const http = require('node:http');
const superagent = require('superagent');
let requests = 0;
const answer = (request, response) => {
  requests += 1;
  request.resume().on('end', () => response.writeHead(202).end());
};
const server = http.createServer(answer).on('checkExpectation', answer).listen(0, '127.0.0.1', async () => {
  const url = `http://127.0.0.1:${server.address().port}/orders`;
  const plain = await superagent.post(url).send({ sku: 'A-1' });
  let code = 'none';
  try {
    await superagent.post(url).set('Expect', '202-accepted').send({ sku: 'A-1' });
  } catch (error) {
    code = error.code;
  }
  console.log(`without Expect: ${plain.status}; with it: ${code}; requests that arrived: ${requests}`);
  process.exit(plain.status === 202 && code === 'ERR_HTTP_HEADERS_SENT' && requests === 1 ? 0 : 1);
});
JAVASCRIPT
node try.cjs
