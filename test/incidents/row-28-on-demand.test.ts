/**
 * Row 28: on-demand issuance is no lever on the CA. By route, with a real CA: a thousand names that nobody knows, and a
 * service that refuses; what is asked for at the CA is bounded by the settings, and neighbours are answered meanwhile.
 */
import assert from 'node:assert/strict';
import type { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { get } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { connect } from 'node:tls';
import { startAcmeFront, type AcmeFront } from '../support/acme-front.ts';
import { configFile } from '../support/callers.ts';
import { freePort } from '../support/free-port.ts';
import { type Pebble, startPebble, withoutPebble } from '../support/pebble.ts';
import { type Product, startProduct } from '../support/product.ts';
import { closed } from '../support/program.ts';

const NAMES = 1000;
const AT_ONCE = 40;
const PER_MINUTE = 3;
const NEIGHBOUR = 'app.example.com';
const MAX_GROWTH_KIB = 200 * 1024;

suite('names that strangers come for', { skip: withoutPebble }, () => {
  let ca: Pebble;
  let front: AcmeFront;
  let product: Product;
  const asked = new Set<string>();
  const service = createServer(({ url = '' }, response) => {
    const domain = new URL(url, 'http://ask.test').searchParams.get('domain') ?? '';
    asked.add(domain);
    response.writeHead(domain.startsWith('known') ? 200 : 403).end();
  });

  before(async () => {
    const [httpPort, tlsPort] = [await freePort(), await freePort()];
    ca = await startPebble({ httpPort, tlsPort });
    front = await startAcmeFront(ca, { isHurried: true });
    service.listen(0, '127.0.0.1');
    await once(service, 'listening');
    const ask = `http://127.0.0.1:${(service.address() as AddressInfo).port}/`;
    const settings = {
      acme: {
        directory: front.directoryUrl,
        ca_pem: front.trustPem,
        on_demand: { allow: ['*.open.example.com', '*.asked.example.com'], per_minute: PER_MINUTE, ask },
      },
    };
    product = await startProduct({
      env: {
        OHP_CONFIG: configFile(settings),
        OHP_HTTP_PORT: String(httpPort),
        OHP_HTTPS_PORT: String(tlsPort),
      },
    });
    for (const hostname of ['*.asked.example.com', '*.open.example.com', NEIGHBOUR])
      await product.api('POST', '/v1/proxies', { hostname, target_url: 'http://127.0.0.1:9' });
  });

  after(async () => {
    await product[Symbol.asyncDispose]();
    await front[Symbol.asyncDispose]();
    await ca[Symbol.asyncDispose]();
    await closed(service);
  });

  const ordered = () =>
    front.requests
      .filter(({ resource }) => resource === 'newOrder')
      .map(({ payload }) => payload.identifiers[0].value as string);

  test('the first handshake for a name that the service allows is with a certificate of the CA', async () => {
    assert.match((await served(product, 'known.asked.example.com')).issuer, /Pebble/);
    assert.deepEqual([...asked], ['known.asked.example.com']);
    const { body } = await product.api('GET', '/v1/certificates?hostname=known.asked.example.com');
    assert.ok(body.certificates.some(({ source }: { source: string }) => source === 'acme'));
  });

  test(`${NAMES} names that it refuses get the internal certificate, no order, and neighbours are answered`, async () => {
    const before = residentKib(product);
    let next = 0;
    const come = async () => {
      while (next < NAMES) {
        const certificate = await served(product, `x${next++}.open.example.com`);
        assert.doesNotMatch(certificate.issuer, /Pebble/);
      }
    };
    let answered = 0;
    const visit = async () => {
      while (next < NAMES) {
        // Its target is away, which is an answer.
        assert.equal(await statusOf(product, NEIGHBOUR), 502);
        answered++;
      }
    };
    await Promise.all([...Array.from({ length: AT_ONCE }, come), visit()]);
    assert.ok(answered > 0);
    assert.deepEqual(
      ordered().filter((name) => name.includes('.open.')),
      [],
    );
    const growth = residentKib(product) - before;
    assert.ok(growth < MAX_GROWTH_KIB, `${growth} KiB more`);
  });

  test('of names that it allows no more are ordered than the minute allows', async () => {
    await Promise.all(Array.from({ length: 60 }, (_, i) => served(product, `known${i}.open.example.com`)));
    const names = ordered().filter((name) => name !== NEIGHBOUR);
    assert.ok(new Set(names).size <= PER_MINUTE + 1, names.join());
  });
});

const residentKib = ({ child }: Product): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(join('/proc', String(child.pid), 'status'), 'utf8'))?.[1]);

function statusOf({ httpsPort }: Product, hostname: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port: httpsPort, servername: hostname, rejectUnauthorized: false };
    const headers = { host: `${hostname}:${httpsPort}` };
    get({ ...options, headers, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode);
    }).on('error', reject);
  });
}

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
