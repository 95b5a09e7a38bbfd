import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import test, { suite, type TestContext } from 'node:test';
import { type Clock, HOUR, systemClock } from '../../../core/clock.ts';
import { AppError } from '../../../core/errors.ts';
import { type Bind, startBind, withoutBind } from '../../../../test/support/bind.ts';
import { Guide } from '../../../../test/support/guide.ts';
import { providerContract } from '../provider.contract.ts';
import { createResolver } from '../resolver.ts';
import type { SettingsOf } from '../schema.ts';
import { createRfc2136 } from './rfc2136.ts';

const SECRET = randomBytes(32).toString('base64');
const ZONE = 'example.test';
const ACME = { name: 'acme', algorithm: 'hmac-sha256', secret: SECRET };
const BIG = { name: 'big.key', algorithm: 'hmac-sha512', secret: randomBytes(64).toString('base64') };
const OTHER = { name: 'other', algorithm: 'hmac-sha256', secret: randomBytes(32).toString('base64') };
/** Of work that nobody cancels; the runner ends a test that hangs. */
const { signal } = new AbortController();
const ONE = { zone: ZONE, name: `_acme-challenge.${ZONE}`, value: 'a-value' };

async function startPrimary(t: TestContext): Promise<Bind> {
  const bind = await startBind({
    zones: {
      [ZONE]: `@ NS ns1\nns1 A 127.0.0.1\nwww A 127.0.0.1\n`,
      'elsewhere.test': '@ NS ns1.example.test.\n',
    },
    keys: [ACME, BIG, OTHER],
    policy: 'grant acme zonesub TXT; grant big.key zonesub TXT;',
  });
  t.after(() => bind[Symbol.asyncDispose]());
  return bind;
}

function providerFor(
  bind: Bind,
  changes: Partial<SettingsOf<'rfc2136'>> & { key?: string; clock?: Clock } = {},
) {
  const { key = SECRET, clock = systemClock, ...settings } = changes;
  const network = { clock, randomBytes };
  const resolver = createResolver(network, [{ address: '127.0.0.1', port: bind.port }]);
  return createRfc2136(
    {
      provider: 'rfc2136',
      zones: [ZONE],
      port: bind.port,
      key_name: 'acme',
      algorithm: 'hmac-sha256',
      secret: { env: 'KEY' },
      ...settings,
    },
    { network, resolver, readSecret: async () => key },
  );
}

providerContract(
  'RFC 2136 at BIND',
  async (t) => {
    const bind = await startPrimary(t);
    return {
      zone: ZONE,
      open: () => providerFor(bind),
      openUnauthorised: (canary) =>
        providerFor(bind, { key: Buffer.from(canary.padEnd(32, '.')).toString('base64') }),
      values: async (name) => (await bind.dig(name, 'TXT')).map((line) => line.replace(/^"|"$/g, '')),
      seed: async (name, value) => providerFor(bind).publish({ zone: ZONE, name, value }, signal),
    };
  },
  { skip: withoutBind },
);

suite('RFC 2136', { skip: withoutBind }, () => {
  test('hmac-sha512 signs, and the server is found by the SOA record or by its name', async (t) => {
    const bind = await startPrimary(t);
    const big = { key: BIG.secret, key_name: BIG.name, algorithm: 'hmac-sha512' } as const;
    await providerFor(bind, big).publish(ONE, signal);
    await providerFor(bind, { ...big, server: 'ns1.example.test' }).publish({ ...ONE, value: 'b' }, signal);
    assert.deepEqual((await bind.dig(ONE.name, 'TXT')).sort(), ['"a-value"', '"b"']);
  });

  const refusals: [string, Parameters<typeof providerFor>[1], RegExp][] = [
    ['a key that the server does not know', { key_name: 'nobody' }, /does not know the TSIG key nobody/],
    ['a wrong secret', { key: OTHER.secret }, /another secret for the TSIG key acme/],
    [
      'a key without the right',
      { key: OTHER.secret, key_name: 'other' },
      /does not let the key other change/,
    ],
  ];
  for (const [what, changes, words] of refusals)
    test(`${what} is told as that`, async (t) => {
      const bind = await startPrimary(t);
      await assert.rejects(
        providerFor(bind, { server: '127.0.0.1', ...changes }).publish(ONE, signal),
        (error) => error instanceof AppError && error.code === 'UPSTREAM_FAILED' && words.test(error.message),
      );
      assert.deepEqual(await bind.dig(ONE.name, 'TXT'), []);
    });

  test('a clock that is wrong is told with the difference', async (t) => {
    const bind = await startPrimary(t);
    const clock = { ...systemClock, now: () => Date.now() - HOUR };
    await assert.rejects(
      providerFor(bind, { server: '127.0.0.1', clock }).publish(ONE, signal),
      /another time than this machine \((3599|3600|3601) seconds apart\)/,
    );
  });

  test('a zone that the server does not have is told as that', async (t) => {
    const bind = await startPrimary(t);
    await assert.rejects(
      providerFor(bind, { server: '127.0.0.1' }).publish({ ...ONE, zone: 'absent.test' }, signal),
      /is not the primary of the zone absent.test \(NOTAUTH\)/,
    );
  });

  test('a name of another zone is told as that', async (t) => {
    const bind = await startPrimary(t);
    await assert.rejects(
      providerFor(bind, { server: '127.0.0.1' }).publish({ ...ONE, name: 'x.elsewhere.test' }, signal),
      /keeps the name in another zone than example.test \(NOTZONE\)/,
    );
  });

  /** Between us and the server: may change what the server answers. */
  async function startTamperer(t: TestContext, bind: Bind, change: (answer: Buffer) => Buffer) {
    const server = createServer((client) => {
      const peer = connect(bind.port, '127.0.0.1');
      client.on('error', () => peer.destroy()).pipe(peer);
      // Answers to updates are short, and come in one piece on loopback.
      peer
        .on('error', () => client.destroy())
        .on('data', (bytes: Buffer) => {
          const answer = change(bytes.subarray(2));
          const length = Buffer.alloc(2);
          length.writeUInt16BE(answer.length);
          client.end(Buffer.concat([length, answer]));
        });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => server.close());
    return (server.address() as AddressInfo).port;
  }

  const forged: [string, (answer: Buffer) => Buffer, RegExp][] = [
    [
      'that success is pretended in',
      (answer) => {
        answer[3] = 0;
        return answer;
      },
      /the signature of its answer is wrong/,
    ],
    [
      'whose signature was taken away',
      (answer) => {
        const plain = Buffer.from(answer.subarray(0, 12));
        plain[3] = 0;
        plain.fill(0, 4);
        return plain;
      },
      /its answer is not signed/,
    ],
    ['that is cut', (answer) => answer.subarray(0, -3), /the message ends within/],
    [
      'to something else',
      (answer) => Buffer.concat([Buffer.of(0, 0), answer.subarray(2)]),
      /no answer to the update/,
    ],
  ];
  for (const [what, change, words] of forged)
    test(`an answer ${what} is not believed`, async (t) => {
      const bind = await startPrimary(t);
      const port = await startTamperer(t, bind, change);
      await assert.rejects(
        providerFor(bind, { server: '127.0.0.1', port }).publish({ ...ONE, zone: 'elsewhere.test' }, signal),
        (error) => error instanceof AppError && error.code === 'UPSTREAM_FAILED' && words.test(error.message),
      );
    });

  test('the policy of the guide for BIND lets the key write these records and no others', {
    skip: withoutBind,
  }, async (t) => {
    const block = new Guide('dns-providers').block('', 'update-policy').replaceAll('example.com', ZONE);
    const policy = /update-policy \{([^}]*)\}/.exec(block)?.[1] ?? assert.fail(block);
    const bind = await startBind({ zones: { [ZONE]: '@ NS ns1\nns1 A 127.0.0.1\n' }, keys: [ACME], policy });
    t.after(() => bind[Symbol.asyncDispose]());
    await providerFor(bind).publish(ONE, signal);
    assert.deepEqual(await bind.dig(ONE.name, 'TXT'), ['"a-value"']);
    await assert.rejects(
      providerFor(bind).publish({ ...ONE, name: `mail.${ZONE}` }, signal),
      /does not let the key acme change this record/,
    );
  });
});
