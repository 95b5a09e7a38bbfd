/**
 * DNS-01 in whole: the product as a person runs it, BIND as the zone's host with RFC 2136 on port 53, Pebble and smallstep as
 * CAs that ask BIND. What is in the zone is read by dig.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, suite, test } from 'node:test';
import { type AcmeFront, holdAt, startAcmeFront } from '../support/acme-front.ts';
import { type Bind, ownLoopback, startBind, withoutBind, withoutPort53 } from '../support/bind.ts';
import { type CaddyCa, startCaddyCa, withoutCaddyCa } from '../support/caddy-ca.ts';
import { configFile } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { handshake } from '../support/handshake.ts';
import { startPebble, withoutPebble } from '../support/pebble.ts';
import { type Product, startProduct } from '../support/product.ts';

const TARGET = 'http://127.0.0.1:9';
const [first, second, stale] = [ownLoopback(0), ownLoopback(1), ownLoopback(2)];
const SECRET = randomBytes(32).toString('base64');
const key = (name: string) => ({ name, algorithm: 'hmac-sha256', secret: SECRET });

const SERVERS = `@ NS ns1.example.com.\n@ NS ns2.example.com.\n`;
const ZONES = {
  'example.com': `${SERVERS}ns1 A ${first}\nns2 A ${second}\nns3 A ${stale}\n* A 127.0.0.1\n@ A 127.0.0.1\n`,
  'denied.example.net': `${SERVERS}* A 127.0.0.1\n`,
  'stale.example.net': '@ NS ns1.example.com.\n@ NS ns3.example.com.\n',
  'example.org': `${SERVERS}* A 127.0.0.1
    _acme-challenge.delegated CNAME delegated.challenges.example.org.\n`,
};

const provider = (zones: string[], keyName: string, more: object = {}) => ({
  provider: 'rfc2136',
  zones,
  server: first,
  key_name: keyName,
  secret: { env: 'TSIG_SECRET' },
  ...more,
});

const settings = (pebble: AcmeFront, caddy: CaddyCa | undefined) => ({
  acme: {
    issuers: [
      { name: 'pebble', directory: pebble.directoryUrl, ca_pem: pebble.trustPem },
      ...(caddy ? [{ name: 'caddy', directory: caddy.directoryUrl, ca_pem: caddy.trustPem }] : []),
    ],
  },
  dns: [
    provider(['example.com'], 'acme', { use: 'first' }),
    provider(['challenges.example.org', 'stale.example.net'], 'acme'),
    provider(['denied.example.net'], 'stranger'),
  ],
  dns_resolvers: [first],
  // A name server and its relays are slow where the machine is.
  dns_propagation_timeout_ms: 5000,
});

const skip = withoutPebble || withoutBind || (await withoutPort53());

suite('DNS-01, from create_proxy to the zone and back', { skip }, () => {
  const stack = new AsyncDisposableStack();
  let bind: Bind;
  let front: AcmeFront;
  let product: Product;

  before(async () => {
    const [httpPort, tlsPort] = [await freePort(), await freePort()];
    const policy = 'grant acme zonesub TXT;';
    const keys = [key('acme'), key('stranger')];
    bind = stack.use(await startBind({ zones: ZONES, addresses: [first, second], port: 53, keys, policy }));
    // It has the zone as it was, and nobody tells it of changes.
    stack.use(
      await startBind({
        zones: { 'stale.example.net': ZONES['stale.example.net'] },
        addresses: [stale],
        port: 53,
      }),
    );
    const pebble = stack.use(await startPebble({ httpPort, tlsPort, dnsServer: `${first}:53` }));
    const dnsServer = { host: first, port: 53 };
    const caddy = withoutCaddyCa === false ? await startCaddyCa({ httpPort, tlsPort, dnsServer }) : undefined;
    stack.use(caddy);
    front = stack.use(await startAcmeFront(pebble, { isHurried: true }));
    product = await startProduct({
      env: {
        OHP_HTTP_PORT: String(httpPort),
        OHP_HTTPS_PORT: String(tlsPort),
        OHP_CONFIG: configFile(settings(front, caddy)),
        TSIG_SECRET: SECRET,
      },
    });
    stack.defer(() => product[Symbol.asyncDispose]());
  });

  after(() => stack.disposeAsync());

  const valuesAt = (name: string) => bind.dig(`_acme-challenge.${name}`, 'TXT');
  const create = (hostname: string) => product.api('POST', '/v1/proxies', { hostname, target_url: TARGET });
  const explained = async (hostname: string) =>
    (await product.api('GET', `/v1/certificate-explanation?check=false&hostname=${hostname}`)).body;
  const byCa = (hostname: string) =>
    eventually(async () => {
      const certificate = await handshake(product, hostname);
      return certificate.issuer.includes('Pebble') ? certificate : undefined;
    }, `a certificate of the CA for ${hostname}`).catch(async (cause: unknown) => {
      const { orders } = await explained(hostname);
      throw new Error(`${JSON.stringify(orders, undefined, 2)}\n${product.output()}`, { cause });
    });

  test('create_proxy of a wildcard: the next handshakes are with a wildcard certificate of the CA, and nothing stays in the zone', async () => {
    await create('*.wild.example.com');
    const certificate = await byCa('any.wild.example.com');
    assert.equal(certificate.subjectAltName, 'DNS:*.wild.example.com');
    assert.deepEqual(await valuesAt('wild.example.com'), []);
    const { orders, ordering } = await explained('any.wild.example.com');
    assert.deepEqual(ordering.challenges, ['dns-01']);
    const told = orders[0].timeline.map(({ event }: { event: string }) => event);
    assert.deepEqual(told, ['asked', 'sent', 'ordered', 'published', 'proved', 'signed', 'issued']);
  });

  test('a name and its wildcard, which share a record, and a name of a zone without a provider, in one certificate', async () => {
    const names = ['several.example.com', '*.several.example.com', 'app.example.org'];
    const { body } = await product.api('POST', '/v1/certificate-orders', { names });
    assert.equal(body.state, 'issued', JSON.stringify(body));
    const proved = body.timeline.find(({ event }: { event: string }) => event === 'proved').text;
    for (const each of [
      '*.several.example.com by dns-01',
      'several.example.com by dns-01',
      'app.example.org by http-01',
    ])
      assert.ok(proved.includes(each), proved);
    const got = await product.api('GET', `/v1/certificates/${body.certificate_id}`);
    assert.deepEqual(got.body.names.sort(), names.sort());
    assert.deepEqual(await valuesAt('several.example.com'), []);
  });

  test('a name without a provider of its own, delegated by CNAME into a zone that has one', async () => {
    const { body } = await product.api('POST', '/v1/certificate-orders', {
      names: ['*.delegated.example.org'],
    });
    assert.equal(body.state, 'issued', JSON.stringify(body));
    assert.deepEqual(await bind.dig('delegated.challenges.example.org', 'TXT'), []);
  });

  test("a wildcard by Caddy's ACME server (smallstep)", { skip: withoutCaddyCa }, async () => {
    const names = ['smallstep.example.com', '*.smallstep.example.com'];
    const { body } = await product.api('POST', '/v1/certificate-orders', { names, issuer: 'caddy' });
    assert.equal(body.state, 'issued', JSON.stringify(body));
    await create('*.smallstep.example.com');
    assert.match((await handshake(product, 'a.smallstep.example.com')).issuer, /Loopback Test CA/);
    assert.deepEqual(await valuesAt('smallstep.example.com'), []);
  });

  const refused: [what: string, zone: string, problem: string, words: RegExp][] = [
    [
      'a name server that lacks the record is named, and the CA is not asked',
      'stale.example.net',
      'recordNotVisible',
      new RegExp(
        `Without it: ns3\\.example\\.com \\(${stale.replaceAll('.', '\\.')}\\): it has no such name`,
      ),
    ],
    [
      'a host of the zone that refuses the change is quoted, and the CA is not asked',
      'denied.example.net',
      'recordRefused',
      /REFUSED/,
    ],
    [
      'a zone of nobody is not asked for at the CA at all, and the settings that would help are named',
      'example.org',
      'recordNowhere',
      /no DNS provider is set for _acme-challenge\.x\.example\.org: name its zone in the setting dns/,
    ],
  ];
  for (const [what, zone, problem, words] of refused)
    test(what, async () => {
      const asked = front.requests.length;
      const hostname = `*.x.${zone}`;
      await create(hostname);
      const {
        orders,
        summary,
        next_attempt_at: next,
      } = await eventually(async () => {
        const body = await explained(hostname);
        return /1 attempts? failed/.test(body.summary) ? body : undefined;
      }, 'a failed attempt').catch(() => assert.fail(product.output()));
      const failed = orders[0].timeline.find(({ event }: { event: string }) => event === 'failed');
      assert.equal(failed.problem, problem);
      assert.match(failed.text, words);
      assert.ok(summary.includes(failed.remedy), summary);
      assert.ok(Date.parse(next) > Date.now() + 60_000);
      assert.deepEqual(await valuesAt(`x.${zone}`), []);
      const seen = front.requests.slice(asked).map(({ resource }) => resource);
      assert.ok(!seen.includes('challenge'), seen.join());
      assert.equal(seen.includes('newOrder'), zone !== 'example.org', seen.join());
    });

  test('kill -9 while the record is in the zone: after the next start the certificate is there and the record is not', async () => {
    const hostname = '*.killed.example.com';
    const held = holdAt(front, 'challenge', 'before');
    await create(hostname);
    await eventually(async () => held.isReached() || undefined, 'the CA is told of the record');
    assert.equal((await valuesAt('killed.example.com')).length, 1);
    await product.kill();
    held.release();
    product = await product.restart();
    assert.equal((await byCa('a.killed.example.com')).subjectAltName, `DNS:${hostname}`);
    await eventually(
      async () => ((await valuesAt('killed.example.com')).length === 0 ? true : undefined),
      'no record in the zone',
    );
  });
});
