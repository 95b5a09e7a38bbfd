/** The product with CAs that differ: an external account, profiles, ARI and `replaces`, RSA, and one that refuses. */
import assert from 'node:assert/strict';
import type { X509Certificate } from 'node:crypto';
import { after, before, suite, test } from 'node:test';
import { connect } from 'node:tls';
import { DAY } from '../../src/core/clock.ts';
import { type AcmeFront, startAcmeFront } from '../support/acme-front.ts';
import { configFile } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { type Pebble, startPebble, withoutPebble } from '../support/pebble.ts';
import { type Product, startProduct } from '../support/product.ts';

const TARGET = 'http://127.0.0.1:9';
const KEY = Buffer.from('a key of an external account, 32').toString('base64url');

suite('several CAs, and what a proxy wants of them', { skip: withoutPebble }, () => {
  let ca: Pebble;
  let front: AcmeFront;
  let product: Product;

  before(async () => {
    const [httpPort, tlsPort] = [await freePort(), await freePort()];
    ca = await startPebble({
      httpPort,
      tlsPort,
      externalAccounts: { 'kid-1': KEY },
      env: { PEBBLE_WFE_NONCEREJECT: '0' },
    });
    front = await startAcmeFront(ca, { isHurried: true });
    const there = { directory: front.directoryUrl, ca_pem: front.trustPem, eab_key_id: 'kid-1' };
    const issuers = [
      // The same CA without its front, and without the account that it wants.
      { name: 'refusing', directory: ca.directoryUrl, ca_pem: ca.trustPem },
      { ...there, name: 'there', eab_hmac_key: KEY },
    ];
    product = await startProduct({
      env: {
        OHP_CONFIG: configFile({ acme: { issuers } }),
        OHP_HTTP_PORT: String(httpPort),
        OHP_HTTPS_PORT: String(tlsPort),
      },
    });
  });

  after(async () => {
    await product[Symbol.asyncDispose]();
    await front[Symbol.asyncDispose]();
    await ca[Symbol.asyncDispose]();
  });

  const byCa = (name: string, isRight: (certificate: X509Certificate) => boolean = () => true) =>
    eventually(async () => {
      const certificate = await served(product, name);
      return certificate.issuer.includes('Pebble') && isRight(certificate) ? certificate : undefined;
    }, `the certificate for ${name}`).catch((cause: unknown) => {
      throw new Error(product.output(), { cause });
    });
  const orders = (name: string) =>
    front.requests
      .filter(({ resource, payload }) => resource === 'newOrder' && payload?.identifiers[0].value === name)
      .map(({ payload }) => payload);

  test('a proxy that names the CA with an external account, RSA and a profile gets exactly that', async () => {
    const hostname = 'rsa.example.com';
    const certificate = { issuers: ['there', 'internal'], key_type: 'rsa2048', profile: 'shortlived' };
    const made = await product.api('POST', '/v1/proxies', { hostname, target_url: TARGET, certificate });
    assert.equal(made.status, 201, JSON.stringify(made.body));
    assert.equal((await byCa(hostname)).publicKey.asymmetricKeyType, 'rsa');
    assert.deepEqual(
      orders(hostname).map(({ profile }) => profile),
      ['shortlived'],
    );
    const { body } = await product.api('GET', `/v1/proxies/${hostname}`);
    assert.deepEqual(body.certificate, certificate);
    const explained = await product.api('GET', `/v1/certificate-explanation?hostname=${hostname}`);
    const { issuer, key_type, profile, issuers } = explained.body.ordering;
    assert.deepEqual(
      { issuer, key_type, profile, issuers: issuers.length },
      { issuer: 'there', key_type: 'rsa2048', profile: 'shortlived', issuers: 1 },
    );
  });

  test('another kind of key is ordered at once, replacing what is there; a renewal replaces too', async () => {
    const hostname = 'rsa.example.com';
    await product.api('PATCH', `/v1/proxies/${hostname}`, { certificate: { issuers: ['there'] } });
    assert.equal(orders(hostname).length, 1, 'what is there is as it is wanted');
    await product.api('PATCH', `/v1/proxies/${hostname}`, {
      certificate: { issuers: ['there'], key_type: 'p256' },
    });
    await byCa(hostname, ({ publicKey }) => publicKey.asymmetricKeyType === 'ec');
    assert.equal(orders(hostname).length, 2);
    assert.ok(orders(hostname)[1]?.replaces);
  });

  test('when the first CA refuses the account, the second one is asked at once', async () => {
    const hostname = 'second.example.com';
    await product.api('POST', '/v1/proxies', { hostname, target_url: TARGET });
    await byCa(hostname);
    const { body } = await product.api('GET', `/v1/certificate-explanation?hostname=${hostname}`);
    const [order] = body.orders;
    assert.equal(order.issuer, 'there');
    assert.ok(
      order.timeline.some(({ problem }: { problem?: string }) => problem === 'externalAccountRequired'),
    );
  });

  test('the window that the CA suggests (ARI) moves a renewal, and the renewal says which certificate it replaces', async () => {
    const hostname = 'ari.example.com';
    const certificate = { issuers: ['there'] };
    await product.api('POST', '/v1/proxies', { hostname, target_url: TARGET, certificate });
    await byCa(hostname);
    const listed = await product.api('GET', `/v1/certificates?hostname=${hostname}`);
    const { id } = listed.body.certificates.find(({ source }: { source: string }) => source === 'acme');
    const renewsAt = async () =>
      Date.parse((await product.api('GET', `/v1/certificates/${id}`)).body.renews_at);
    const [start, end] = [Date.now() + 5 * DAY, Date.now() + 6 * DAY];
    assert.ok((await renewsAt()) > end, 'the usual time is later');
    front.renewal = { window: { start: new Date(start).toISOString(), end: new Date(end).toISOString() } };
    // A CA is asked at the first look after a start.
    await product.kill();
    product = await product.restart();
    const moved = await eventually(async () => {
      const at = await renewsAt();
      return at <= end ? at : undefined;
    }, 'the time that the CA suggests');
    assert.ok(moved >= start);
    const { serialNumber } = await byCa(hostname);
    const renewed = await product.api('POST', `/v1/certificates/${id}/renew`, {});
    assert.equal(renewed.body.state, 'issued', JSON.stringify(renewed.body));
    const asked = front.requests.filter(({ resource }) => resource === 'renewalInfo').at(-1)?.path;
    // RFC 9773 §4.1: the key identifier of the issuer, a dot, the serial number.
    const replaced: string = orders(hostname).at(-1).replaces;
    assert.ok(asked?.includes('/renewal-info/'));
    assert.equal(
      BigInt(`0x${Buffer.from(replaced.split('.')[1] ?? '', 'base64url').toString('hex')}`),
      BigInt(`0x${serialNumber}`),
    );
  });

  test('an issuer that is not set up is refused with those that are', async () => {
    const { status, body } = await product.api('POST', '/v1/proxies', {
      hostname: 'x.example.com',
      target_url: TARGET,
      certificate: { issuers: ['nobody'] },
    });
    assert.equal(status, 400);
    assert.match(JSON.stringify(body), /there are refusing, there, internal/);
  });
});

function served({ httpsPort }: Product, servername: string): Promise<X509Certificate> {
  return new Promise((resolve, reject) => {
    const socket = connect(
      { host: '127.0.0.1', port: httpsPort, servername, rejectUnauthorized: false },
      () => {
        resolve(socket.getPeerX509Certificate() as X509Certificate);
        socket.destroy();
      },
    );
    socket.on('error', reject);
  });
}
