/** What whoever hosts a zone has to do for DNS-01. Run by the tests of each adapter. */
import assert from 'node:assert/strict';
import test, { suite, type SuiteContext, type TestContext } from 'node:test';
import { AppError } from '../../core/errors.ts';
import type { DnsProvider, TxtRecord } from './provider.ts';

export interface ProviderUnderTest {
  /** Each call opens anew, as after a restart; what was written is still there. */
  open(): DnsProvider;
  /** With a credential that the peer does not take, which holds `canary`; undefined where there is none. */
  openUnauthorised?(canary: string): DnsProvider;
  /** Of a zone that the peer has. */
  zone: string;
  /** What a stranger would read, in any order. */
  values(name: string): Promise<string[]>;
  /** As somebody else writes it. */
  seed(name: string, value: string): Promise<void>;
}

/** Of work that nobody cancels; the runner ends a test that hangs. */
const { signal } = new AbortController();
const VALUE_1 = 'LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0';
const VALUE_2 = '-9j5k1Dg02iLGC3zvVYXLpXDYJhpLjcYHGhU8CBxp_4';
const CANARY = 'canarySecretThatMayNotBeTold';
let names = 0;

export function providerContract(
  adapter: string,
  start: (t: TestContext) => Promise<ProviderUnderTest>,
  options: { skip?: string | false } = {},
): void {
  const record = (peer: ProviderUnderTest, value: string): TxtRecord => {
    names += 1;
    return { zone: peer.zone, name: `_acme-challenge.host${names}.${peer.zone}`, value };
  };

  suite(`${adapter} keeps TXT records`, options, (_context: SuiteContext | object) => {
    test('a published value can be read, once, however often it is published', async (t) => {
      const peer = await start(t);
      const one = record(peer, VALUE_1);
      await peer.open().publish(one, signal);
      await peer.open().publish(one, signal);
      assert.deepEqual(await peer.values(one.name), [VALUE_1]);
    });

    test('two values of one name, published at once, stand side by side and go one by one', async (t) => {
      const peer = await start(t);
      const one = record(peer, VALUE_1);
      const two = { ...one, value: VALUE_2 };
      const provider = peer.open();
      await Promise.all([provider.publish(one, signal), provider.publish(two, signal)]);
      assert.deepEqual((await peer.values(one.name)).sort(), [VALUE_1, VALUE_2].sort());
      await provider.withdraw(one, signal);
      assert.deepEqual(await peer.values(one.name), [VALUE_2]);
      await provider.withdraw(two, signal);
      assert.deepEqual(await peer.values(one.name), []);
    });

    test('what somebody else wrote at the name stays', async (t) => {
      const peer = await start(t);
      const one = record(peer, VALUE_1);
      await peer.seed(one.name, 'of somebody else');
      await peer.open().publish(one, signal);
      assert.deepEqual((await peer.values(one.name)).sort(), [VALUE_1, 'of somebody else'].sort());
      await peer.open().withdraw(one, signal);
      assert.deepEqual(await peer.values(one.name), ['of somebody else']);
    });

    test('withdrawing what was never there, or twice, changes nothing and is no error', async (t) => {
      const peer = await start(t);
      const one = record(peer, VALUE_1);
      await peer.open().withdraw(one, signal);
      await peer.open().publish({ ...one, value: VALUE_2 }, signal);
      await peer.open().withdraw(one, signal);
      await peer.open().withdraw(one, signal);
      assert.deepEqual(await peer.values(one.name), [VALUE_2]);
    });

    test('after a restart, what was left is withdrawn by the record alone', async (t) => {
      const peer = await start(t);
      const left = record(peer, VALUE_1);
      await peer.open().publish(left, signal);
      const stored: TxtRecord = JSON.parse(JSON.stringify(left));
      await peer.open().withdraw(stored, signal);
      assert.deepEqual(await peer.values(left.name), []);
    });

    test('a call that is cancelled before it begins writes nothing', async (t) => {
      const peer = await start(t);
      const one = record(peer, VALUE_1);
      await assert.rejects(
        peer.open().publish(one, AbortSignal.abort()),
        (error) => error instanceof AppError && error.code === 'CANCELLED',
      );
      assert.deepEqual(await peer.values(one.name), []);
    });

    test('a credential that is not taken is named as the reason and not told', async (t) => {
      const peer = await start(t);
      if (!peer.openUnauthorised) return t.skip('it has no credential');
      const one = record(peer, VALUE_1);
      const refused: unknown = await peer
        .openUnauthorised(CANARY)
        .publish(one, signal)
        .then(() => undefined)
        .catch((error: unknown) => error);
      assert.ok(refused instanceof AppError, String(refused));
      assert.equal(refused.code, 'UPSTREAM_FAILED');
      assert.match(refused.message, /key|token|credential|secret/i);
      for (let cause: unknown = refused; cause instanceof Error; cause = cause.cause)
        assert.ok(!`${cause.message}${JSON.stringify(cause)}`.includes(CANARY));
      assert.deepEqual(await peer.values(one.name), []);
    });
  });
}
