/** `kill -9` beside what `crash.test.ts` has: while the account gets another key, while somebody waits for a certificate on demand. */
import assert from 'node:assert/strict';
import { connect } from 'node:tls';
import { after, before, suite, test } from 'node:test';
import { type AcmeFront, holdAt, startAcmeFront } from '../support/acme-front.ts';
import { configFile } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { handshake } from '../support/handshake.ts';
import { startPebble, withoutPebble } from '../support/pebble.ts';
import { type Product, startProduct } from '../support/product.ts';

const TARGET = 'http://127.0.0.1:9';
const KEY = '/v1/certificate-issuers/default/account-key';

suite('a process that is killed', { skip: withoutPebble }, () => {
  const stack = new AsyncDisposableStack();
  let front: AcmeFront;
  let product: Product;

  before(async () => {
    const [httpPort, tlsPort] = [await freePort(), await freePort()];
    const ca = stack.use(await startPebble({ httpPort, tlsPort, env: { PEBBLE_WFE_NONCEREJECT: '0' } }));
    front = stack.use(await startAcmeFront(ca, { isHurried: true }));
    const acme = {
      directory: front.directoryUrl,
      ca_pem: front.trustPem,
      on_demand: { allow: ['*.demand.example.com'] },
    };
    product = await startProduct({
      env: {
        OHP_CONFIG: configFile({ acme }),
        OHP_HTTP_PORT: String(httpPort),
        OHP_HTTPS_PORT: String(tlsPort),
      },
    });
    stack.defer(() => product[Symbol.asyncDispose]());
    await product.api('POST', '/v1/proxies', { hostname: '*.demand.example.com', target_url: TARGET });
    await order('first.example.com');
  });

  after(() => stack.disposeAsync());

  async function order(name: string): Promise<void> {
    const { body } = await product.api('POST', '/v1/certificate-orders', { names: [name] });
    assert.equal(body.state, 'issued', `${JSON.stringify(body)}\n${product.output()}`);
  }
  const count = (name: string): number =>
    front.requests.filter(
      ({ resource, payload }) => resource === 'newOrder' && payload.identifiers[0].value === name,
    ).length;
  /** Of requests that are signed by an account. */
  const accounts = (): Set<unknown> =>
    new Set(front.requests.flatMap(({ header }) => (header?.kid === undefined ? [] : [header.kid])));
  async function killed(): Promise<void> {
    await product.kill();
    product = await product.restart();
  }

  for (const when of ['before', 'after'] as const)
    test(`in the middle of a new account key, ${when} the CA has it: orders go on by the same account, and its key changes again`, async () => {
      const held = holdAt(front, 'keyChange', when);
      const rotating = product.api('POST', KEY, {}).catch(() => undefined);
      await eventually(async () => held.isReached() || undefined, 'the change at the CA');
      const killing = killed();
      held.release();
      await killing;
      assert.equal(await rotating, undefined);
      await order(`${when}-key.example.com`);
      const again = await product.api('POST', KEY, {});
      assert.equal(again.status, 200, JSON.stringify(again.body));
      assert.equal(accounts().size, 1);
    });

  test('while a stranger waits for a name on demand, and the CA has signed: the certificate comes, by one order', async () => {
    const name = 'a.demand.example.com';
    const held = holdAt(front, 'finalize', 'after');
    const visitor = connect({
      host: '127.0.0.1',
      port: product.httpsPort,
      servername: name,
      rejectUnauthorized: false,
    });
    const gone = new Promise<void>((resolve) => visitor.on('error', () => {}).on('close', () => resolve()));
    await eventually(async () => held.isReached() || undefined, 'what is to be signed');
    const killing = killed();
    held.release();
    await killing;
    await gone;
    await eventually(
      async () => ((await handshake(product, name)).issuer.includes('Pebble') ? true : undefined),
      'the certificate',
    ).catch((cause: unknown) => {
      throw new Error(product.output(), { cause });
    });
    assert.equal(count(name), 1);
  });
});
