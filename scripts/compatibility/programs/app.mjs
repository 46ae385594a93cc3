// The application on servers of Node: `app.mjs FOLDER SERVER PORT`; `app.py` says what its paths do.
import { appendFileSync, readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { createRequire } from 'node:module';

const [folder, server, port] = process.argv.slice(2);
const require = createRequire(`${folder}/node_modules/x.cjs`);
const half = 'x'.repeat(1000);
const statuses = { refuse: 413, empty: 205 };
process.on('uncaughtException', () => {});

function respond(what, request, response) {
  response.statusCode = statuses[what] ?? 200;
  response.setHeader('Content-Type', 'text/plain');
  if (what === 'cut-length') response.setHeader('Content-Length', 5000);
  if (what === 'fields') for (let n = 0; n < 150; n += 1) response.setHeader(`X-Field-${n}`, '1');
  if (!what.startsWith('cut')) return response.end(what === 'empty' ? '' : 'done');
  response.write(half);
  response.write(half);
  setTimeout(() => {
    if (server !== 'express') return response.destroy(new Error('the application fails half-way'));
    throw new Error('the application fails half-way');
  }, 100);
}

function handle(request, response) {
  const what = request.url.split('/').at(-1);
  if (what === 'early' || what === 'refuse') return respond(what, request, response);
  request.resume().on('end', () => {
    if (what !== 'slow') return respond(what, request, response);
    appendFileSync(process.env.EXECUTED, `${request.headers['operation-id']}\n`);
    setTimeout(() => respond(what, request, response), 200);
  });
}

function listen(one) {
  one.keepAliveTimeout = 1000;
  one.listen(Number(port), '127.0.0.1');
}

const servers = {
  http: () => listen(http.createServer(handle)),
  https: () => listen(https.createServer({ cert: readFileSync('crt.pem'), key: readFileSync('key.pem') }, handle)),
  express: () => {
    const application = require('express')();
    application.use(handle);
    listen(http.createServer(application));
  },
  fastify: async () => {
    const application = require('fastify')({ keepAliveTimeout: 1000 });
    application.removeAllContentTypeParsers();
    application.addContentTypeParser('*', (request, payload, done) => done(null));
    application.post('/*', (request, reply) => {
      reply.hijack();
      handle(request.raw, reply.raw);
    });
    await application.listen({ port: Number(port), host: '127.0.0.1' });
  },
};
servers[server]();
