// HTTP clients of Node, npm and Chromium: `send.mjs FOLDER CLIENT MODE URL`; `clients.py` says what the modes are.
import http from 'node:http';
import https from 'node:https';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
process.removeAllListeners('warning');
const [folder, client, mode, url] = process.argv.slice(2);
const require = createRequire(`${folder}/node_modules/x.cjs`);
const load = (name) => import(pathToFileURL(require.resolve(name)));
const warm = mode === 'reused' ? new URL('/warm', url).href : null;
const method = mode === 'follow' ? 'GET' : 'POST';
const body = mode === 'follow' ? undefined : JSON.stringify({ sku: 'A-1' });
const headers = { 'Content-Type': 'application/json' };
if (mode === 'expect') headers.Expect = '202-accepted';
if (mode === 'redirect' || mode === 'follow') {
  Object.assign(headers, {
    Authorization: 'Basic eDp5', Prefer: 'wait=1', Accept: 'application/json', 'X-Own': '1', 'Idempotency-Key': 'k',
  });
}

async function withFetch(fetch, more = {}) {
  if (warm) await (await fetch(warm, more)).text();
  return (await fetch(url, { method, headers, body, ...more })).status;
}

function withHttp() {
  const library = url.startsWith('https') ? https : http;
  const agent = new library.Agent({ keepAlive: true, rejectUnauthorized: false });
  const send = (method, url, headers, body) =>
    new Promise((resolve, reject) => {
      const request = library.request(url, { method, headers, agent }, (answer) => {
        answer.resume().on('end', () => setImmediate(() => resolve(answer.statusCode)));
      });
      request.on('error', reject).end(body);
    });
  return (warm ? send('GET', warm, {}) : Promise.resolve()).then(() => send(method, url, headers, body));
}

const clients = {
  fetch: () => withFetch(fetch),
  http: withHttp,
  undici: async () => withFetch((await load('undici')).fetch),
  'undici-h2': async () => {
    const { Agent, fetch } = await load('undici');
    return withFetch(fetch, { dispatcher: new Agent({ allowH2: true, connect: { rejectUnauthorized: false } }) });
  },
  'undici-request': async () => {
    const { request } = await load('undici');
    if (warm) await (await request(warm)).body.text();
    return (await request(url, { method, headers, body })).statusCode;
  },
  'node-fetch': async () => {
    const agent = new (url.startsWith('https') ? https : http).Agent({ keepAlive: true, rejectUnauthorized: false });
    return withFetch((await load('node-fetch')).default, { agent });
  },
  axios: async () => {
    const options = { headers, validateStatus: () => true, httpAgent: new http.Agent({ keepAlive: true }) };
    const axios = require('axios');
    if (warm) await axios.get(warm, options);
    return (await axios.request({ method, url, data: body, ...options })).status;
  },
  got: async () => {
    const got = (await load('got')).default;
    const agent = { http: new http.Agent({ keepAlive: true }), https: new https.Agent({ keepAlive: true }) };
    const options = { agent, throwHttpErrors: false, https: { rejectUnauthorized: false } };
    if (warm) await got(warm, options);
    return (await got(url, { method, headers, body, ...options })).statusCode;
  },
  superagent: async () => {
    const superagent = require('superagent');
    const request = method === 'POST' ? superagent.post(url).send(body) : superagent.get(url);
    return (await request.set(headers).ok(() => true)).status;
  },
  chromium: async () => {
    const { chromium } = require('playwright-core');
    const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--ignore-certificate-errors'] });
    try {
      const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
      // The page itself makes the connection that is used again; /once closes it.
      await page.goto(new URL(warm ? '/warm' : '/once', url).href);
      const send = ([url, method, headers, body]) => fetch(url, { method, headers, body }).then((answer) => answer.status);
      return await page.evaluate(send, [url, method, headers, body]);
    } finally {
      await browser.close();
    }
  },
};

try {
  console.log(JSON.stringify({ status: await clients[client]() }));
} catch (error) {
  console.log(JSON.stringify({ raised: error.code ?? error.name, message: String(error.message).slice(0, 120) }));
}
process.exit(0);
