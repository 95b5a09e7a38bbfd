/** The product against a real CA: a hostname is created, and its next handshakes are with the CA's certificate. */
import assert from 'node:assert/strict';
import type { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { connect } from 'node:tls';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { type Pebble, type PebbleOptions, startPebble, withoutPebble } from '../support/pebble.ts';
import { type Product, startProduct } from '../support/product.ts';

const TARGET = 'http://127.0.0.1:9';
const needs = { skip: withoutPebble };

interface World {
  ca: Pebble;
  product: Product;
  env: Record<string, string>;
}

async function world(t: TestContext, options: PebbleOptions = {}): Promise<World> {
  const [httpPort, tlsPort] = [await freePort(), await freePort()];
  const ca = await startPebble({ httpPort, tlsPort, ...options });
  t.after(() => ca[Symbol.asyncDispose]());
  const folder = mkdtempSync(join(tmpdir(), 'issuance-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const trust = join(folder, 'trust.pem');
  writeFileSync(trust, ca.trustPem);
  const env = {
    OHP_HTTP_PORT: String(httpPort),
    OHP_HTTPS_PORT: String(tlsPort),
    OHP_ACME_DIRECTORY: ca.directoryUrl,
    OHP_ACME_CA_FILE: trust,
    OHP_ACME_EMAIL: 'it@example.com',
  };
  const product = await startProduct({ env });
  t.after(() => product[Symbol.asyncDispose]());
  return { ca, product, env };
}

/** What a handshake for this name gets. */
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

const byCa = (product: Product, name: string) =>
  eventually(async () => {
    const certificate = await served(product, name);
    return certificate.issuer.includes('Pebble') ? certificate : undefined;
  }, `a certificate of the CA for ${name}`).catch((cause: unknown) => {
    throw new Error(product.output(), { cause });
  });

test(
  'create_proxy: the next handshakes are with a certificate of the CA, by HTTP-01, unasked',
  needs,
  async (t) => {
    const { product } = await world(t);
    const hostname = 'app.example.com';
    const made = await product.api('POST', '/v1/proxies', { hostname, target_url: TARGET });
    assert.equal(made.status, 201);
    const certificate = await byCa(product, hostname);
    assert.equal(certificate.subjectAltName, `DNS:${hostname}`);
    const { body } = await product.api('GET', `/v1/certificates?hostname=${hostname}`);
    const [used] = body.certificates.filter(({ used_by }: { used_by: string[] }) =>
      used_by.includes(hostname),
    );
    assert.equal(used.source, 'acme');
  },
);
