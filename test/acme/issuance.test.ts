/** The product against a real CA: a hostname is created, and its next handshakes are with the CA's certificate. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { type AcmeFront, startAcmeFront } from '../support/acme-front.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { handshake } from '../support/handshake.ts';
import { type Pebble, startPebble, withoutPebble } from '../support/pebble.ts';
import { type Product, startProduct } from '../support/product.ts';

const TARGET = 'http://127.0.0.1:9';

let ca: Pebble;
/** Without the seconds of `Retry-After`. */
let front: AcmeFront;
let env: Record<string, string>;
const files = mkdtempSync(join(tmpdir(), 'issuance-'));

before(async () => {
  if (withoutPebble) return;
  const [httpPort, tlsPort] = [await freePort(), await freePort()];
  ca = await startPebble({ httpPort, tlsPort });
  front = await startAcmeFront(ca, { isHurried: true });
  const trust = join(files, 'trust.pem');
  writeFileSync(trust, front.trustPem);
  env = {
    OHP_HTTP_PORT: String(httpPort),
    OHP_HTTPS_PORT: String(tlsPort),
    OHP_ACME_DIRECTORY: front.directoryUrl,
    OHP_ACME_CA_FILE: trust,
    OHP_ACME_EMAIL: 'it@example.com',
  };
});

after(async () => {
  if (withoutPebble) return;
  await front[Symbol.asyncDispose]();
  await ca[Symbol.asyncDispose]();
  rmSync(files, { recursive: true });
});

/** Sockets of the process that lead anywhere, as the kernel has them: `local remote`, hexadecimal, but for loopback. */
function connectionsElsewhere({ child }: Product): string[] {
  const inodes = new Set(
    readdirSync(`/proc/${child.pid}/fd`).flatMap((fd) => {
      const [, inode] = /^socket:\[(\d+)\]$/.exec(linkOf(`/proc/${child.pid}/fd/${fd}`)) ?? [];
      return inode === undefined ? [] : [inode];
    }),
  );
  const rows = ['tcp', 'tcp6', 'udp', 'udp6'].flatMap((kind) =>
    readFileSync(`/proc/${child.pid}/net/${kind}`, 'utf8').trim().split('\n').slice(1),
  );
  return rows
    .map((row) => row.trim().split(/\s+/))
    .filter((columns) => inodes.has(columns[9] ?? ''))
    .map((columns) => columns[2] ?? '')
    .filter((remote) => !/^(?:0+|0100007F|0{24}0100007F|0{16}FFFF00000100007F|0{24}01000000):/.test(remote));
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    // Closed since the list was made.
    return '';
  }
}

const byCa = (product: Product, name: string) =>
  eventually(async () => {
    const certificate = await handshake(product, name);
    return certificate.issuer.includes('Pebble') ? certificate : undefined;
  }, `a certificate of the CA for ${name}`).catch((cause: unknown) => {
    throw new Error(product.output(), { cause });
  });

test('a CA that can not reach port 80 is answered by TLS-ALPN-01 on the HTTPS port', {
  skip: withoutPebble,
}, async () => {
  await using product = await startProduct({ env: { ...env, OHP_HTTP_PORT: '0' } });
  const hostname = 'tls.example.com';
  await product.api('POST', '/v1/proxies', { hostname, target_url: TARGET });
  assert.equal((await byCa(product, hostname)).subjectAltName, `DNS:${hostname}`);
});

test('a default start on loopback orders nothing, asks nobody, and explain_certificate says why', async (t) => {
  const product = await startProduct();
  t.after(() => product[Symbol.asyncDispose]());
  await product.api('POST', '/v1/proxies', { hostname: 'app.example.org', target_url: TARGET });
  const { body } = await product.api('GET', '/v1/certificate-explanation?hostname=app.example.org');
  assert.equal(body.ordering.on, false);
  assert.match(body.ordering.why_not, /listeners are on 127\.0\.0\.1, where no CA reaches them/);
  assert.deepEqual(body.orders, []);
  assert.deepEqual(connectionsElsewhere(product), []);
  const refused = await product.api('POST', '/v1/certificate-orders', { names: ['app.example.org'] });
  assert.equal(refused.status, 412);
  assert.deepEqual(connectionsElsewhere(product), []);
});

test('what the CA says when it refuses is told in its own words, with the remedy and the next attempt', {
  skip: withoutPebble,
}, async () => {
  // The CA looks at ports where nobody listens.
  await using product = await startProduct({ env: { ...env, OHP_HTTP_PORT: '0', OHP_HTTPS_PORT: '0' } });
  const hostname = 'lost.example.com';
  await product.api('POST', '/v1/proxies', { hostname, target_url: TARGET });
  const body = await eventually(async () => {
    const answer = await product.api('GET', `/v1/certificate-explanation?check=false&hostname=${hostname}`);
    return answer.body.summary.includes('2 attempts failed') ? answer.body : undefined;
  }, 'two failed attempts').catch(() => assert.fail(product.output()));
  const failed = body.orders[0].timeline.filter(({ event }: { event: string }) => event === 'failed');
  assert.match(failed[0].text, /lost\.example\.com by http-01/);
  assert.match(failed[1].text, /lost\.example\.com by tls-alpn-01/);
  assert.equal(failed[0].problem, 'connection');
  assert.match(failed[0].ca_words, /connection refused/);
  assert.match(failed[0].remedy, /Let the world reach port 80/);
  assert.ok(Date.parse(body.next_attempt_at) > Date.now() + 10 * 60_000);
  assert.equal(body.certificate.source, 'internal');

  // Who asks about a request that came while it was so is told, and of another hostname nothing.
  const quiet = 'quiet.example.com';
  const certificate = { issuers: ['internal'] };
  await product.api('POST', '/v1/proxies', { hostname: quiet, target_url: TARGET, certificate });
  const troubleBefore = async (name: string) => {
    const { headers } = await product.get(name, '/');
    const story = await eventually(async () => {
      const path = `/v1/request-explanation?trace_id=${String(headers['x-trace-id'])}`;
      const explained = await product.api('GET', path);
      return explained.status === 200 && explained.body.request ? explained.body : undefined;
    }, `the story of a request to ${name}`);
    return story.trouble_before.map(({ text }: { text: string }) => text);
  };
  const trouble = await troubleBefore(hostname);
  assert.equal(trouble.length, 2, trouble.join('\n'));
  for (const text of trouble) assert.match(text, /^certificates \(warn\): .*lost\.example\.com/);
  assert.deepEqual(await troubleBefore(quiet), []);
});

suite('one product, with a CA that is well', { skip: withoutPebble }, () => {
  let product: Product;

  before(async () => {
    product = await startProduct({ env });
  });

  after(() => product[Symbol.asyncDispose]());

  test('create_proxy: the next handshakes are with a certificate of the CA, by HTTP-01, unasked', async () => {
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
  });

  test('one call each: several names in one certificate, renewed, explained, revoked, and replaced by itself', async () => {
    for (const hostname of ['a.example.com', 'b.example.com'])
      await product.api('POST', '/v1/proxies', { hostname, target_url: TARGET });
    await byCa(product, 'a.example.com');
    const names = ['a.example.com', 'b.example.com'];
    const ordered = await product.api('POST', '/v1/certificate-orders', { names, key_type: 'p384' });
    assert.equal(ordered.status, 201, JSON.stringify(ordered.body));
    assert.equal(ordered.body.state, 'issued', JSON.stringify(ordered.body));
    const id = ordered.body.certificate_id;
    const got = await product.api('GET', `/v1/certificates/${id}`);
    assert.deepEqual(got.body.names, names);
    assert.equal(got.body.order.id, ordered.body.id);
    assert.doesNotMatch(JSON.stringify(got.body), /PRIVATE KEY/);

    const renewed = await product.api('POST', `/v1/certificates/${id}/renew`, {});
    assert.equal(renewed.body.state, 'issued', JSON.stringify(renewed.body));
    assert.notEqual(renewed.body.certificate_id, id);
    const explained = await product.api(
      'GET',
      '/v1/certificate-explanation?check=false&hostname=b.example.com',
    );
    assert.match(explained.body.summary, /with a certificate from a CA until/);
    assert.equal(explained.body.orders[0].id, renewed.body.id);

    // What else is there for these names would be served in its place.
    const { certificates } = (await product.api('GET', '/v1/certificates')).body;
    for (const other of certificates) {
      const isOfThese = other.names.some((name: string) => names.includes(name));
      if (other.source !== 'acme' || !isOfThese || other.id === renewed.body.certificate_id) continue;
      const deleted = await product.api('DELETE', `/v1/certificates/${other.id}`);
      assert.equal(deleted.status, 200, JSON.stringify(deleted.body));
    }
    const { serial } = (await product.api('GET', `/v1/certificates/${renewed.body.certificate_id}`)).body;
    const revoked = await product.api('POST', `/v1/certificates/${renewed.body.certificate_id}/revoke`, {
      reason: 'keyCompromise',
    });
    assert.equal(revoked.status, 200, JSON.stringify(revoked.body));
    assert.deepEqual(await ca.statusOf(serial), {
      ...(await ca.statusOf(serial)),
      Status: 'Revoked',
      Reason: 1,
    });
    assert.equal((await product.api('GET', `/v1/certificates/${renewed.body.certificate_id}`)).status, 404);
    for (const hostname of names) await byCa(product, hostname);
  });

  test('rotate_acme_account_key at Pebble: the next order, and one after a restart, are of the account with its new key', async () => {
    const path = '/v1/certificate-issuers/default/account-key';
    const order = (name: string) => product.api('POST', '/v1/certificate-orders', { names: [name] });
    assert.equal((await order('before.example.com')).body.state, 'issued');
    const [first, second] = [await product.api('POST', path, {}), await product.api('POST', path, {})];
    assert.equal(first.status, 200, JSON.stringify(first.body));
    assert.equal(second.body.account_url, first.body.account_url);
    assert.notEqual(second.body.thumbprint, first.body.thumbprint);
    assert.equal((await order('after.example.com')).body.state, 'issued');
    await product.kill();
    product = await product.restart();
    const late = await product.api('POST', '/v1/certificate-orders', { names: ['restarted.example.com'] });
    assert.equal(late.body.state, 'issued', JSON.stringify(late.body));
  });
});
