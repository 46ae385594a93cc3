#!/usr/bin/env bash
# nginx 1.22.1 (Debian 12): a server behind it that sends an interim answer breaks its HTTP/2 clients.
#
# Seen: a server of Node answers with "103 Early Hints" and then with 200. Asked directly, or through
# nginx without the hint, a client gets 200 and the body. Through nginx over HTTP/2 it gets the 103, but never
# a final answer: nginx takes the 103 for one, and sends what follows it as the body.
#
# One would guess otherwise, because every client of HTTP/1.1 has to be able to read interim answers,
# also those that it did not ask for (RFC 9110 section 15.2), and over HTTP/1.1 nobody notices: there the
# octets of that body are the final answer. Behind such a proxy a server must not send them, which
# includes the 100 that answers `Expect: 100-continue`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -qq 'nginx=1.22.1-*' 2>/dev/null
for package in *.deb; do dpkg -x "$package" .; done
cat >try.mjs <<'JAVASCRIPT'
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';

const here = process.cwd();
const handle = (request, response) => {
  if (request.url === '/hints') response.writeEarlyHints({ link: '</style.css>; rel=preload' });
  response.end('the end');
};
const listening = async (server) => {
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return server.address().port;
};
const behind = await listening(http.createServer(handle));
const direct = await listening(http2.createServer(handle));
const free = net.createServer();
const front = await listening(free);
await new Promise((done) => free.close(done));
writeFileSync('nginx.conf', `daemon off; pid ${here}/pid; error_log ${here}/error.log;
events {}
http {
  access_log off; client_body_temp_path ${here}/b; proxy_temp_path ${here}/p; fastcgi_temp_path ${here}/f;
  uwsgi_temp_path ${here}/u; scgi_temp_path ${here}/s;
  server { listen 127.0.0.1:${front} http2; location / { proxy_pass http://127.0.0.1:${behind}; proxy_http_version 1.1; } }
}
`);
const nginx = spawn('usr/sbin/nginx', ['-p', here, '-c', `${here}/nginx.conf`], { stdio: 'ignore' });

/** What a client sees: interim statuses, then the status and the body, or how it ends without. */
const seen = (port, path) => new Promise((done) => {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  const came = [];
  const ended = (what) => { session.destroy(); done([...came, what].join(', ')); };
  session.on('error', (error) => ended(error.code));
  const stream = session.request({ ':path': path });
  let body = '', status;
  stream.on('headers', (fields) => came.push(fields[':status']));
  stream.on('response', (fields) => { status = fields[':status']; });
  stream.on('data', (piece) => { body += piece; });
  stream.on('end', () => { if (status) ended(`${status} ${body}`); });
  stream.on('error', () => {});
  stream.on('close', () => { if (!status) ended('no final answer'); });
  setTimeout(() => ended('no final answer'), 5000).unref();
});
const accepts = (port) => new Promise((done) => {
  const socket = net.connect(port, '127.0.0.1', () => { socket.destroy(); done(true); });
  socket.on('error', () => done(false));
});
for (let tries = 0; tries < 100 && !(await accepts(front)); tries += 1) await new Promise((done) => setTimeout(done, 100));
const plain = await seen(front, '/plain');
const [directly, through] = [await seen(direct, '/hints'), await seen(front, '/hints')];
console.log(`without hints through nginx: ${plain}; with them directly: ${directly}; through nginx: ${through}`);
nginx.kill();
process.exit(plain === '200 the end' && directly === '103, 200 the end' && through === '103, no final answer' ? 0 : 1);
JAVASCRIPT
node try.mjs
