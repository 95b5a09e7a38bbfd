/**
 * Row 28: what a CA was asked to revoke is not served any more, whether its answer came or not, and the CA is asked
 * until it answers. By route, with a real CA, a lost reply and `kill -9`.
 */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { type AcmeFront, startAcmeFront } from '../support/acme-front.ts';
import { configFile } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { handshake } from '../support/handshake.ts';
import { type Pebble, startPebble, withoutPebble } from '../support/pebble.ts';
import { type Product, startProduct } from '../support/product.ts';

const HOSTNAMES = ['lost.example.com', 'killed.example.com', 'refused.example.com'] as const;

suite('certificates that a CA is asked to revoke', { skip: withoutPebble }, () => {
  let ca: Pebble;
  let front: AcmeFront;
  let product: Product;

  before(async () => {
    const [httpPort, tlsPort] = [await freePort(), await freePort()];
    ca = await startPebble({ httpPort, tlsPort, env: { PEBBLE_WFE_NONCEREJECT: '0' } });
    front = await startAcmeFront(ca, { isHurried: true });
    product = await startProduct({
      env: {
        OHP_CONFIG: configFile({ acme: { directory: front.directoryUrl, ca_pem: front.trustPem } }),
        OHP_HTTP_PORT: String(httpPort),
        OHP_HTTPS_PORT: String(tlsPort),
      },
    });
    for (const hostname of HOSTNAMES)
      await product.api('POST', '/v1/proxies', { hostname, target_url: 'http://127.0.0.1:9' });
  });

  after(async () => {
    await product?.[Symbol.asyncDispose]();
    await front?.[Symbol.asyncDispose]();
    await ca?.[Symbol.asyncDispose]();
  });

  const served = (hostname: string): Promise<{ id: string; serial: string }> =>
    eventually(async () => {
      const { body } = await product.api('GET', `/v1/certificates?hostname=${hostname}`);
      return body.certificates.find(
        ({ source, used_by }: { source: string; used_by: string[] }) =>
          source === 'acme' && used_by.includes(hostname),
      );
    }, `a certificate of the CA for ${hostname}`);
  const revoke = (id: string) =>
    product.api('POST', `/v1/certificates/${id}/revoke`, { reason: 'keyCompromise' });
  const statusOf = async (serial: string) => (await ca.statusOf(serial)).Status;
  const gone = (id: string) =>
    eventually(
      async () => (await product.api('GET', `/v1/certificates/${id}`)).status === 404 || undefined,
      `the end of ${id}`,
    );

  test('after a lost reply it is said that nothing is known, and the certificate is not served; asked again, it is gone', async () => {
    const { id, serial } = await served('lost.example.com');
    front.fail('revokeCert', { kind: 'lost_reply' });
    const answer = await revoke(id);
    assert.equal(answer.status, 502);
    assert.match(
      answer.body.error.message,
      /is not served any more, .* whether it is revoked by now is not known/,
    );
    assert.equal(await statusOf(serial), 'Revoked');
    assert.notEqual((await handshake(product, 'lost.example.com')).serialNumber, serial.toUpperCase());
    assert.equal((await product.api('GET', `/v1/certificates/${id}`)).body.revoking, 'keyCompromise');
    assert.equal((await revoke(id)).status, 200);
    await gone(id);
  });

  test('killed before the answer, the next process does not serve it and asks the CA by itself', async () => {
    const { id, serial } = await served('killed.example.com');
    const { promise: until, resolve: release } = Promise.withResolvers<void>();
    front.fail('revokeCert', { kind: 'slow', until });
    const asking = revoke(id).catch(() => undefined);
    await eventually(async () => (await statusOf(serial)) === 'Revoked' || undefined, 'the revocation');
    await product.kill();
    release();
    await asking;
    product = await product.restart();
    assert.notEqual((await handshake(product, 'killed.example.com')).serialNumber, serial.toUpperCase());
    await gone(id);
  });

  test('what the CA refuses to revoke is served on', async () => {
    const { id, serial } = await served('refused.example.com');
    front.fail('revokeCert', { kind: 'problem', type: 'unauthorized', status: 403 });
    const answer = await revoke(id);
    assert.equal(answer.status, 502);
    assert.match(answer.body.error.message, new RegExp(`${id} is not revoked: the CA refused`));
    await eventually(
      async () =>
        (await handshake(product, 'refused.example.com')).serialNumber === serial.toUpperCase() || undefined,
      'the certificate that is not revoked',
    );
  });
});
