/** The product with Caddy's ACME server (smallstep), which asks the gateway on the ports 80 and 443 of its own network. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { type CaddyCa, startCaddyCa, withoutCaddyCa } from '../support/caddy-ca.ts';
import { configFile } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { handshake } from '../support/handshake.ts';
import { type Product, startProduct } from '../support/product.ts';

const TARGET = 'http://127.0.0.1:9';

suite('one product and smallstep', { skip: withoutCaddyCa }, () => {
  let ca: CaddyCa;
  let product: Product;
  let httpPort: number;

  before(async () => {
    const tlsPort = await freePort();
    httpPort = await freePort();
    ca = await startCaddyCa({ httpPort, tlsPort });
    product = await startProduct({
      env: {
        OHP_CONFIG: configFile({
          acme: { issuers: [{ name: 'smallstep', directory: ca.directoryUrl, ca_pem: ca.trustPem }] },
        }),
        OHP_HTTP_PORT: String(httpPort),
        OHP_HTTPS_PORT: String(tlsPort),
      },
    });
  });

  after(async () => {
    await product[Symbol.asyncDispose]();
    await ca[Symbol.asyncDispose]();
  });

  const byCa = (hostname: string) =>
    eventually(async () => {
      const certificate = await handshake(product, hostname);
      return certificate.issuer.includes('Loopback Test CA') ? certificate : undefined;
    }, `a certificate of the CA for ${hostname}`).catch(async (cause: unknown) => {
      const explained = await product.api(
        'GET',
        `/v1/certificate-explanation?check=false&hostname=${hostname}`,
      );
      throw new Error(JSON.stringify(explained.body), { cause });
    });
  const proofs = async (hostname: string): Promise<string[]> => {
    const { body } = await product.api('GET', `/v1/certificate-explanation?check=false&hostname=${hostname}`);
    return body.orders[0].timeline.map(({ text }: { text: string }) => text);
  };

  test('create_proxy: by HTTP-01, the next handshakes are with a certificate of smallstep', async () => {
    const hostname = 'http.example.com';
    await product.api('POST', '/v1/proxies', { hostname, target_url: TARGET });
    assert.equal((await byCa(hostname)).subjectAltName, `DNS:${hostname}`);
    assert.ok((await proofs(hostname)).includes(`the CA checked ${hostname} by http-01`));
  });

  test('a certificate is renewed and revoked', async () => {
    const ordered = await product.api('POST', '/v1/certificate-orders', { names: ['gone.example.com'] });
    assert.equal(ordered.body.state, 'issued', JSON.stringify(ordered.body));
    const renewed = await product.api('POST', `/v1/certificates/${ordered.body.certificate_id}/renew`, {});
    assert.equal(renewed.body.state, 'issued', JSON.stringify(renewed.body));
    const path = `/v1/certificates/${renewed.body.certificate_id}`;
    const revoked = await product.api('POST', `${path}/revoke`, { reason: 'superseded' });
    assert.equal(revoked.status, 200, JSON.stringify(revoked.body));
    assert.equal((await product.api('GET', path)).status, 404);
  });

  // Its directory names a keyChange, and what answers there is "The requested operation is not implemented".
  test('rotate_acme_account_key: smallstep has none; that is told in its words, and the account keeps its key', async () => {
    const rotated = await product.api('POST', '/v1/certificate-issuers/smallstep/account-key', {});
    assert.equal(rotated.status, 502);
    assert.match(
      rotated.body.error.message,
      /^the account at smallstep keeps the key that it has: .*not implemented/,
    );
    const ordered = await product.api('POST', '/v1/certificate-orders', { names: ['after.example.com'] });
    assert.equal(ordered.body.state, 'issued', JSON.stringify(ordered.body));
  });

  test('by TLS-ALPN-01 where nothing answers on port 80: smallstep leaves what failed open, and is not waited for', async () => {
    await product.stop();
    product = await product.restart({ OHP_HTTP_PORT: '0' });
    const hostname = 'tls.example.com';
    await product.api('POST', '/v1/proxies', { hostname, target_url: TARGET });
    assert.equal((await byCa(hostname)).subjectAltName, `DNS:${hostname}`);
    const told = await proofs(hostname);
    assert.ok(told.includes(`the CA could not check ${hostname} by http-01`), told.join());
    assert.ok(told.includes(`the CA checked ${hostname} by tls-alpn-01`), told.join());
  });
});
