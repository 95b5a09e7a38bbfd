/** `kill -9` in the middle of an order: after the next start the certificate arrives, and the CA was asked once. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { type AcmeFront, holdAt, type Resource, startAcmeFront } from '../support/acme-front.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { startPebble, withoutPebble } from '../support/pebble.ts';
import { type Product, startProduct } from '../support/product.ts';

const TARGET = 'http://127.0.0.1:9';

/** Where the process dies: the CA has acted on such a request, or has not heard of it. */
const points: readonly [resource: Resource, when: 'before' | 'after'][] = [
  ['newAccount', 'after'],
  ['newOrder', 'before'],
  ['newOrder', 'after'],
  ['order', 'after'],
  ['authorization', 'after'],
  ['challenge', 'before'],
  ['challenge', 'after'],
  ['finalize', 'before'],
  ['finalize', 'after'],
  ['certificate', 'after'],
];

test('kill -9 at ten points of an order: each certificate arrives, ordered once while its order lives', {
  skip: withoutPebble,
}, async (t) => {
  const [httpPort, tlsPort] = [await freePort(), await freePort()];
  await using ca = await startPebble({ httpPort, tlsPort, env: { PEBBLE_WFE_NONCEREJECT: '0' } });
  await using front = await startAcmeFront(ca, { isHurried: true });
  const folder = mkdtempSync(join(tmpdir(), 'crash-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const trust = join(folder, 'trust.pem');
  writeFileSync(trust, front.trustPem);
  let product: Product = await startProduct({
    env: {
      OHP_HTTP_PORT: String(httpPort),
      OHP_HTTPS_PORT: String(tlsPort),
      OHP_ACME_DIRECTORY: front.directoryUrl,
      OHP_ACME_CA_FILE: trust,
    },
  });
  t.after(() => product[Symbol.asyncDispose]());
  for (const [index, [resource, when]] of points.entries()) {
    const hostname = `at-${index}.example.com`;
    const held = holdAt(front, resource, when);
    await product.api('POST', '/v1/proxies', { hostname, target_url: TARGET });
    await eventually(async () => held.isReached() || undefined, `${resource} for ${hostname}`);
    await product.kill();
    held.release();
    product = await product.restart();
    await arrives(product, hostname);
    const orders = ordersOf(front, hostname);
    const most = unheard(resource, when) ? 2 : 1;
    assert.ok(orders >= 1 && orders <= most, `${orders} orders for ${hostname}, killed ${when} ${resource}`);
  }
  assert.equal(finalized(front), points.length + 1, 'one is asked for again when the CA had not heard of it');
});

/**
 * A second order is right where the CA had not heard of the first one, and where it looked for the answer to the challenge
 * while nobody was there to give it: then the first order is over at the CA.
 */
const unheard = (resource: Resource, when: 'before' | 'after'): boolean =>
  (resource === 'newOrder' && when === 'before') || (resource === 'challenge' && when === 'after');

const ordersOf = ({ requests }: AcmeFront, hostname: string): number =>
  requests.filter(
    ({ resource, payload }) => resource === 'newOrder' && payload.identifiers[0].value === hostname,
  ).length;

const finalized = ({ requests }: AcmeFront): number =>
  requests.filter(({ resource }) => resource === 'finalize').length;

async function arrives(product: Product, hostname: string): Promise<void> {
  await eventually(async () => {
    const { body } = await product.api('GET', `/v1/certificates?hostname=${hostname}`);
    return body.certificates.some(({ source }: { source: string }) => source === 'acme') || undefined;
  }, `a certificate for ${hostname}`).catch((cause: unknown) => {
    throw new Error(product.output(), { cause });
  });
}
