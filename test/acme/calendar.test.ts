/** The product over weeks, at a time that the test decides, against real CAs: what a CA suggests, CAs that are away, chains. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { Agent, request as httpsRequest } from 'node:https';
import type { IncomingMessage } from 'node:http';
import { after, before, suite, test } from 'node:test';
import { text } from 'node:stream/consumers';
import { connect } from 'node:tls';
import { x509 } from '../../src/certificates/peculiar.fixture.ts';
import { DAY, HOUR, MINUTE } from '../../src/core/clock.ts';
import { type AcmeFront, startAcmeFront } from '../support/acme-front.ts';
import { configFile } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { settled } from '../support/gateway.ts';
import { handshake } from '../support/handshake.ts';
import { JumpingClock, type OwnProcess, startHere } from '../support/own-process.ts';
import { type Pebble, startPebble, withoutPebble } from '../support/pebble.ts';
import { startUpstream, type Upstream } from '../support/upstream.ts';

const TARGET = 'http://127.0.0.1:9';
/** As `renewal.ts`: so often in a row one CA is not reached before the next one is asked. */
const TRIES = 4;
/** Questions about one authorization; more than one attempt has. */
const MANY = 40;

suite('weeks of one product, with two CAs', { skip: withoutPebble }, () => {
  const stack = new AsyncDisposableStack();
  const clock = new JumpingClock();
  let ca: Pebble;
  let first: AcmeFront;
  let second: AcmeFront;
  let product: OwnProcess;
  let upstream: Upstream;
  let held = Promise.withResolvers<void>();

  before(async () => {
    const [httpPort, tlsPort] = [await freePort(), await freePort()];
    const env = { PEBBLE_WFE_NONCEREJECT: '0', PEBBLE_ALTERNATE_ROOTS: '1' };
    ca = stack.use(await startPebble({ httpPort, tlsPort, env }));
    first = stack.use(await startAcmeFront(ca, { isHurried: true }));
    second = stack.use(await startAcmeFront(ca, { isHurried: true }));
    upstream = stack.use(
      await startUpstream((incoming, response) => {
        if (incoming.url !== '/slow') return void response.end('here');
        response.write('begun ');
        void held.promise.then(() => response.end('ended'));
      }),
    );
    const issuers = [
      { name: 'first', directory: first.directoryUrl, ca_pem: ca.trustPem },
      {
        name: 'second',
        directory: second.directoryUrl,
        ca_pem: ca.trustPem,
        preferred_chain: await rootName(ca, 1),
      },
    ];
    const variables = {
      OHP_CONFIG: configFile({ acme: { issuers } }),
      OHP_HTTP_PORT: String(httpPort),
      OHP_HTTPS_PORT: String(tlsPort),
    };
    product = stack.use(await startHere(variables, clock));
  });

  after(() => stack.disposeAsync());

  const create = async (hostname: string, target_url = TARGET) => {
    const made = await product.api('POST', '/v1/proxies', { hostname, target_url });
    assert.equal(made.status, 201, JSON.stringify(made.body));
  };
  const explained = async (hostname: string) =>
    (await product.api('GET', `/v1/certificate-explanation?check=false&hostname=${hostname}`)).body;
  const byCa = (hostname: string, isRight: (certificate: X509Certificate) => boolean = () => true) =>
    eventually(async () => {
      const certificate = await handshake(product, hostname);
      return certificate.issuer.includes('Pebble') && isRight(certificate) ? certificate : undefined;
    }, `the certificate for ${hostname}`).catch(async (cause: unknown) => {
      throw new Error(JSON.stringify(await explained(hostname)), { cause });
    });
  const orders = (front: AcmeFront, name: string) =>
    front.requests
      .filter(({ resource, payload }) => resource === 'newOrder' && payload?.identifiers[0].value === name)
      .map(({ payload }) => payload);
  /** Time goes by, from one attempt to the next, until the order has failed so often. */
  const untilFailed = (hostname: string, times: number) =>
    eventually(async () => {
      const { orders: made, next_attempt_at: next } = await explained(hostname);
      const timeline = made.flatMap((order: { timeline: { event: string }[] }) => order.timeline);
      if (timeline.filter(({ event }: { event: string }) => event === 'failed').length >= times) return true;
      const waitMs = Date.parse(next) - clock.now();
      // The product looks once a minute.
      if (waitMs > 0) clock.jump(waitMs + MINUTE);
      return undefined;
    }, `${times} failures`);

  test('the window that a CA suggests opens: a new certificate by an order that says what it replaces, and no request is dropped', async () => {
    const hostname = 'window.example.com';
    await create(hostname, upstream.url);
    const before = await byCa(hostname);
    const listed = await product.api('GET', `/v1/certificates?hostname=${hostname}`);
    const { id } = listed.body.certificates.find(({ source }: { source: string }) => source === 'acme');
    const renewsAt = async () =>
      Date.parse((await product.api('GET', `/v1/certificates/${id}`)).body.renews_at);
    const [start, end] = [clock.now() + 2 * DAY, clock.now() + 3 * DAY];
    first.renewal = { window: { start: new Date(start).toISOString(), end: new Date(end).toISOString() } };
    clock.jump(7 * HOUR);
    await eventually(async () => ((await renewsAt()) <= end ? true : undefined), 'the time of the window');
    assert.ok((await renewsAt()) >= start);
    assert.equal(orders(first, hostname).length, 1, 'the window is not open');

    const signed = Promise.withResolvers<void>();
    first.fail('finalize', { kind: 'slow', until: signed.promise });
    clock.jump(3 * DAY);
    held = Promise.withResolvers();
    const visitors = visit(product.httpsPort, hostname);
    await visitors.answered(20);
    signed.resolve();
    const renewed = await byCa(hostname, ({ serialNumber }) => serialNumber !== before.serialNumber);
    await visitors.answered(20);
    held.resolve();
    assert.deepEqual(await visitors.end(), { failed: [], slow: 'begun ended' });
    assert.equal(renewed.subjectAltName, `DNS:${hostname}`);
    const [, replacing, ...more] = orders(first, hostname);
    assert.deepEqual(more, []);
    // RFC 9773 §4.1: the key identifier of the issuer, a dot, the serial number.
    const serial = Buffer.from(replacing.replaces.split('.')[1], 'base64url').toString('hex');
    assert.equal(BigInt(`0x${serial}`), BigInt(`0x${before.serialNumber}`));
    first.renewal = undefined;
  });

  test('a CA that is away is tried four times, minutes apart; then the next one is asked, and the first again for the next hostname', async () => {
    const [away, back] = ['away.example.com', 'back.example.com'];
    first.isAway = true;
    const begun = clock.now();
    await create(away);
    await untilFailed(away, TRIES);
    await byCa(away);
    assert.ok(clock.now() - begun >= 3 * MINUTE);
    assert.deepEqual([orders(first, away).length, orders(second, away).length], [0, 1]);
    const [order] = (await explained(away)).orders;
    assert.equal(order.issuer, 'second');
    const failed = order.timeline.filter(({ event }: { event: string }) => event === 'failed');
    assert.equal(failed.length, TRIES);
    assert.match(failed.at(-1).text, /could not be reached.*; second is asked next$/);

    first.isAway = false;
    await create(back);
    await byCa(back);
    assert.deepEqual([orders(first, back).length, orders(second, back).length], [1, 0]);
  });

  test('when every CA is away, the first one is asked again after the last', async () => {
    const hostname = 'round.example.com';
    for (const front of [first, second]) front.isAway = true;
    await create(hostname);
    await untilFailed(hostname, 2 * TRIES);
    for (const front of [first, second]) front.isAway = false;
    clock.jump(2 * HOUR);
    await byCa(hostname);
    assert.deepEqual([orders(first, hostname).length, orders(second, hostname).length], [1, 0]);
  });

  test("a certificate for another key, or for another's name, is never served; a new order with a new key brings the right one", async () => {
    const hostname = 'mixed-up.example.com';
    const { body } = await product.api('POST', '/v1/certificate-orders', { names: ['mixed.example.net'] });
    await create('mixed.example.net');
    assert.equal(body.state, 'issued', JSON.stringify(body));
    const stranger = (await byCa('mixed.example.net')).toString();
    const headers = { 'content-type': 'application/pem-certificate-chain' };
    first.fail('certificate', { kind: 'answer', status: 200, body: stranger, headers });
    const from = first.requests.length;
    await create(hostname);
    await untilFailed(hostname, 1);
    const [order] = (await explained(hostname)).orders;
    assert.match(order.timeline.at(-1).text, /a certificate that was not ordered: it is for another key/);
    const certificate = await handshake(product, hostname);
    assert.match(certificate.issuer, /internal CA/);
    const wanted = Date.parse((await explained(hostname)).next_attempt_at) - clock.now();
    clock.jump(wanted + MINUTE);
    const served = await byCa(hostname);
    assert.equal(served.subjectAltName, `DNS:${hostname}`);
    const signed = first.requests.slice(from).filter(({ resource }) => resource === 'finalize');
    const keys = new Set(signed.map(({ payload }) => keyIn(payload.csr)));
    assert.deepEqual([orders(first, hostname).length, keys.size], [2, 2]);
  });

  test('a CA that looks again and again in vain (RFC 8555 §8.2) is not waited for beyond one attempt: the other challenge is next', async () => {
    const hostname = 'again.example.com';
    const error = { type: 'urn:ietf:params:acme:error:connection', detail: 'nobody answers on port 80' };
    const inVain = ({ challenges }: { challenges: { type: string }[] }) =>
      orders(first, hostname).length > 1
        ? {}
        : {
            status: 'pending',
            challenges: challenges.map((each) =>
              each.type === 'http-01' ? { ...each, status: 'processing', error } : each,
            ),
          };
    // The first one tells of the challenges that there are.
    first.fail('authorization', { kind: 'members', members: {} });
    first.fail('authorization', { kind: 'members', members: inVain }, MANY);
    await create(hostname);
    await eventually(async () => {
      if (orders(first, hostname).length > 1) return true;
      await settled(() => first.requests.length);
      clock.jump(MINUTE / 2);
      return undefined;
    }, 'another order');
    await byCa(hostname);
    const told = (await explained(hostname)).orders[0].timeline.map(({ text }: { text: string }) => text);
    assert.ok(told.includes(`the CA could not check ${hostname} by http-01`), told.join());
    assert.ok(told.includes(`the CA checked ${hostname} by tls-alpn-01`), told.join());
  });

  test('several names in one certificate, with an RSA key, as somebody asks for it', async () => {
    const names = ['one.example.com', 'two.example.com', 'three.example.net'];
    for (const name of names) await create(name);
    for (const name of names) await byCa(name);
    const asked = { names, key_type: 'rsa2048', issuer: 'first' };
    const { body } = await product.api('POST', '/v1/certificate-orders', asked);
    assert.equal(body.state, 'issued', JSON.stringify(body));
    const certificate = await byCa(
      'two.example.com',
      ({ publicKey }) => publicKey.asymmetricKeyType === 'rsa',
    );
    assert.equal(certificate.publicKey.asymmetricKeyDetails?.modulusLength, 2048);
    assert.deepEqual(
      certificate.subjectAltName?.split(', ').sort(),
      names.map((name) => `DNS:${name}`).sort(),
    );
  });

  test('of the chains that a CA has, the one that leads to preferred_chain is served', async () => {
    const [usual, preferred] = ['usual.example.com', 'preferred.example.com'];
    for (const [name, issuer] of [
      [usual, 'first'],
      [preferred, 'second'],
    ] as const) {
      const { body } = await product.api('POST', '/v1/certificate-orders', { names: [name], issuer });
      assert.equal(body.state, 'issued', JSON.stringify(body));
      await create(name);
    }
    const roots = [await ca.root(0), await ca.root(1)] as const;
    assert.equal(await leadsTo(product.httpsPort, usual, roots[0]), true);
    assert.equal(await leadsTo(product.httpsPort, usual, roots[1]), false);
    assert.equal(await leadsTo(product.httpsPort, preferred, roots[1]), true);
    assert.equal(await leadsTo(product.httpsPort, preferred, roots[0]), false);
  });
});

/** Of a request for a certificate, in hexadecimal. */
const keyIn = (csr: string): string =>
  Buffer.from(new x509.Pkcs10CertificateRequest(Buffer.from(csr, 'base64url')).publicKey.rawData).toString(
    'hex',
  );

const rootName = async (ca: Pebble, index: number): Promise<string> =>
  new X509Certificate(await ca.root(index)).subject.replace('CN=', '');

/** Whether a client that trusts this root alone takes what is served. */
function leadsTo(port: number, servername: string, rootPem: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, servername, ca: rootPem }, () => {
      resolve(true);
      socket.destroy();
    });
    socket.on('error', () => resolve(false));
  });
}

/** Requests one after the other, on one connection that stays and on a new one each, beside one that takes its time. */
function visit(port: number, hostname: string) {
  const failed: string[] = [];
  let count = 0;
  let isOver = false;
  const staying = new Agent({ keepAlive: true, maxSockets: 1 });
  const ask = async (path: string, agent: Agent | false): Promise<string> => {
    const asked = httpsRequest({
      host: '127.0.0.1',
      port,
      path,
      agent,
      servername: hostname,
      headers: { host: `${hostname}:${port}` },
      rejectUnauthorized: false,
    });
    asked.end();
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    const body = await text(response);
    return response.statusCode === 200 ? body : `${response.statusCode} ${body}`;
  };
  const keepOn = async (agent: Agent | false) => {
    while (!isOver) {
      const answer = await ask('/', agent).catch(String);
      if (answer !== 'here') failed.push(answer);
      count++;
    }
  };
  const slow = ask('/slow', false).catch(String);
  const loops = [keepOn(staying), keepOn(false)];
  return {
    async answered(more: number) {
      const wanted = count + more;
      await eventually(async () => count >= wanted || undefined, `${more} answers`);
    },
    async end() {
      isOver = true;
      await Promise.all(loops);
      staying.destroy();
      return { failed, slow: await slow };
    },
  };
}
