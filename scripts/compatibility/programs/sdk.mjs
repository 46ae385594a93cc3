// SDKs of npm: `sdk.mjs FOLDER SDK BASE` makes one POST and prints what the caller gets.
import { createRequire } from 'node:module';

const [folder, sdk, base] = process.argv.slice(2);
const require = createRequire(`${folder}/node_modules/x.cjs`);
const { hostname, port } = new URL(base);
const made = (module) => module.default ?? module;

const sdks = {
  stripe: () => {
    const Stripe = made(require('stripe'));
    return new Stripe('sk_test_x', { host: hostname, port, protocol: 'http' }).customers.create({ email: 'a@example.com' });
  },
  'modern-treasury': () => {
    const ModernTreasury = made(require('modern-treasury'));
    return new ModernTreasury({ apiKey: 'k', organizationID: 'o', baseURL: base }).counterparties.create({ name: 'x' });
  },
  openai: () => {
    const OpenAI = made(require('openai'));
    const messages = [{ role: 'user', content: 'x' }];
    return new OpenAI({ apiKey: 'k', baseURL: base }).chat.completions.create({ model: 'm', messages });
  },
  resend: () => {
    process.env.RESEND_BASE_URL = base;
    const { Resend } = require('resend');
    return new Resend('re_x').emails.send({ from: 'a@example.com', to: 'b@example.com', subject: 'x', html: 'x' });
  },
};

try {
  const answer = await sdks[sdk]();
  const id = answer?.id ?? answer?.data?.id;
  console.log(JSON.stringify({ returned: answer?.constructor?.name, id: String(id), error: answer?.error?.message }));
} catch (error) {
  console.log(JSON.stringify({ raised: error.constructor.name, message: String(error.message).slice(0, 160) }));
}
process.exit(0);
