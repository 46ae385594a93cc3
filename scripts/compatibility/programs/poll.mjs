// Client libraries of npm that poll: `poll.mjs FOLDER CLIENT BASE PATH` posts and prints what the caller gets.
import { createRequire } from 'node:module';

const [folder, client, base, path] = process.argv.slice(2);
const require = createRequire(`${folder}/node_modules/x.cjs`);
const body = JSON.stringify({ sku: 'A-1' });
const headers = { 'Content-Type': 'application/json' };

async function coreLro(name) {
  const { createHttpPoller } = require(name);
  const pipelines = require('@azure/core-rest-pipeline');
  const pipeline = pipelines.createPipelineFromOptions({});
  const http = pipelines.createDefaultHttpClient();
  // What the generated clients do with a request: redirects and retries are the pipeline's.
  const send = async (method, url) => {
    const request = pipelines.createPipelineRequest({ url, method, allowInsecureConnection: true });
    if (method === 'POST') {
      request.body = body;
      request.headers.set('Content-Type', 'application/json');
    }
    const response = await pipeline.sendRequest(http, request);
    const parsed = response.bodyAsText ? JSON.parse(response.bodyAsText) : undefined;
    const rawResponse = {
      statusCode: response.status,
      headers: response.headers.toJSON(),
      body: parsed,
      request: { method, url },
    };
    return { flatResponse: parsed, rawResponse };
  };
  const poller = createHttpPoller({
    sendInitialRequest: () => send('POST', base + path),
    sendPollRequest: (url) => send('GET', String(new URL(url, base))),
  });
  const settled = name === 'core-lro-2' ? await poller : poller;
  return settled.pollUntilDone();
}

async function medplum(start) {
  const { MedplumClient } = require('@medplum/core');
  return start(new MedplumClient({ baseUrl: `${base}/`, fetch }));
}

const clients = {
  'core-lro-2': () => coreLro('core-lro-2'),
  'core-lro-3': () => coreLro('core-lro-3'),
  medplum: () =>
    medplum((it) => it.startAsyncRequest(base + path, { method: 'POST', headers, body, pollStatusOnAccepted: true })),
};

try {
  const returned = await clients[client]();
  console.log(JSON.stringify({ returned: JSON.stringify(returned).slice(0, 160) }));
} catch (error) {
  const message = String(error.message ?? error).slice(0, 200);
  console.log(JSON.stringify({ raised: error.constructor.name, message, status: error.statusCode, code: error.code }));
}
process.exit(0);
