#!/usr/bin/env bash
# curl 7.88.1 (Debian 12): with --http2-prior-knowledge, the second request of one call fails.
#
# Seen: of two URLs of one server the first gives 200, the second nothing, and curl ends with 16
# ("Error in the HTTP2 framing layer"). The server sees one request. Over HTTP/1.1 both give 200, and so
# do two calls of one URL each.
#
# One would guess otherwise, because reusing the connection is what HTTP/2 is for, and the server
# (Node's, as any other that was tried) keeps it open and has done nothing wrong. A measurement
# of a reused connection over HTTP/2 needs TLS, or another client.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -qq 'curl=7.88.1*' 'libcurl4=7.88.1*' 2>/dev/null
for package in *.deb; do dpkg -x "$package" .; done
cat >try.mjs <<'JAVASCRIPT'
import { execFile } from 'node:child_process';
import { createServer as http1 } from 'node:http';
import { createServer as http2 } from 'node:http2';

const answer = (request, response) => { server.seen += 1; response.end('ok'); };
const environment = { ...process.env, LD_LIBRARY_PATH: `${process.cwd()}/usr/lib/x86_64-linux-gnu` };
let server;

/** What curl writes for some paths of one new server, how it ends, and what the server saw. */
const called = async (create, option, paths) => {
  server = create(answer).listen(0, '127.0.0.1');
  server.seen = 0;
  await new Promise((done) => server.once('listening', done));
  const outputs = paths.flatMap(() => ['-o', '/dev/null']);
  const urls = paths.map((path) => `http://127.0.0.1:${server.address().port}${path}`);
  const argv = ['-s', option, ...outputs, '-w', '%{http_code} ', '--max-time', '10', ...urls];
  return new Promise((done) => execFile('usr/bin/curl', argv, { env: environment }, (error, stdout) =>
    done(`${stdout.trim()} (${error?.code ?? 0}), seen ${server.seen}`)));
};
const one = await called(http2, '--http2-prior-knowledge', ['/a']);
const two = await called(http2, '--http2-prior-knowledge', ['/a', '/b']);
const plain = await called(http1, '--http1.1', ['/a', '/b']);
console.log(`HTTP/2, one: ${one}; HTTP/2, two: ${two}; HTTP/1.1, two: ${plain}`);
const expected = ['200 (0), seen 1', '200 000 (16), seen 1', '200 200 (0), seen 2'];
process.exit([one, two, plain].every((seen, number) => seen === expected[number]) ? 0 : 1);
JAVASCRIPT
node try.mjs
