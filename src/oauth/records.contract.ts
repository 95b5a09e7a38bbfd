/** What every adapter of the authorization server's records promises. Its test calls this with a way to open one. */
import assert from 'node:assert/strict';
import test from 'node:test';
import type { Adapter, AdapterPayload } from 'oidc-provider';
import type { ManualClock } from '../core/clock.ts';

export interface OpenRecords extends AsyncDisposable {
  readonly clock: ManualClock;
  adapter(model: string): Adapter;
  /** The same, after everything in memory is gone. */
  reopen(): Promise<void>;
  /** Grants that were told to have ended. */
  readonly ended: readonly string[];
  /** All that is stored, as text. */
  stored(): Promise<string>;
}

const LIFE_SECONDS = 100;
const code = (change: Partial<AdapterPayload> = {}): AdapterPayload => ({
  kind: 'AuthorizationCode',
  jti: 'code-1',
  clientId: 'client',
  accountId: 'user',
  grantId: 'grant-1',
  ...change,
});

export function recordsContract(name: string, open: () => Promise<OpenRecords>): void {
  const title = (requirement: string) => `${name}: ${requirement}`;

  test(title('what was stored is found, also after a restart, and in its own model only'), async () => {
    await using records = await open();
    await records.adapter('AuthorizationCode').upsert('code-1', code(), LIFE_SECONDS);
    await records.reopen();
    assert.deepEqual(await records.adapter('AuthorizationCode').find('code-1'), code());
    assert.equal(await records.adapter('DeviceCode').find('code-1'), undefined);
    assert.equal(await records.adapter('AuthorizationCode').find('code-2'), undefined);
  });

  test(title('storing again replaces'), async () => {
    await using records = await open();
    const adapter = records.adapter('Session');
    await adapter.upsert('s', { uid: 'u1', accountId: 'a' }, LIFE_SECONDS);
    await adapter.upsert('s', { uid: 'u2', accountId: 'b' }, LIFE_SECONDS);
    assert.deepEqual(await adapter.find('s'), { uid: 'u2', accountId: 'b' });
    assert.equal(await adapter.findByUid('u1'), undefined);
    assert.deepEqual(await adapter.findByUid('u2'), { uid: 'u2', accountId: 'b' });
  });

  test(title('what has expired is not found; what has no end never expires'), async () => {
    await using records = await open();
    await records.adapter('AuthorizationCode').upsert('code-1', code(), LIFE_SECONDS);
    await records.adapter('Client').upsert('client', { client_id: 'client' }, 0);
    records.clock.advance(LIFE_SECONDS * 1000 - 1);
    assert.ok(await records.adapter('AuthorizationCode').find('code-1'));
    records.clock.advance(1);
    assert.equal(await records.adapter('AuthorizationCode').find('code-1'), undefined);
    assert.ok(await records.adapter('Client').find('client'));
  });

  test(title('a device is found by its user code'), async () => {
    await using records = await open();
    const payload = { userCode: 'BCDF-GHJK', clientId: 'client' };
    await records.adapter('DeviceCode').upsert('d', payload, LIFE_SECONDS);
    assert.deepEqual(await records.adapter('DeviceCode').findByUserCode('BCDF-GHJK'), payload);
    assert.equal(await records.adapter('DeviceCode').findByUserCode('bcdf-ghjk'), undefined);
  });

  test(title('of many who consume at the same time exactly one succeeds'), async () => {
    await using records = await open();
    const adapter = records.adapter('AuthorizationCode');
    await adapter.upsert('code-1', code(), LIFE_SECONDS);
    const outcomes = await Promise.allSettled(Array.from({ length: 100 }, () => adapter.consume('code-1')));
    assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
    assert.ok((await adapter.find('code-1'))?.consumed);
    await records.reopen();
    assert.ok((await records.adapter('AuthorizationCode').find('code-1'))?.consumed);
    await assert.rejects(async () => records.adapter('AuthorizationCode').consume('code-1'));
  });

  test(title('what is not there can’t be consumed'), async () => {
    await using records = await open();
    await assert.rejects(async () => records.adapter('RefreshToken').consume('never'));
  });

  test(title('a refresh token can be used again for a minute, and then counts as used'), async () => {
    await using records = await open();
    const adapter = records.adapter('RefreshToken');
    await adapter.upsert('r', code({ kind: 'RefreshToken', jti: 'r' }), LIFE_SECONDS);
    await adapter.consume('r');
    records.clock.advance(60_000);
    assert.equal((await adapter.find('r'))?.consumed, undefined);
    await adapter.consume('r');
    records.clock.advance(1);
    assert.ok((await adapter.find('r'))?.consumed, 'using it again does not give it more time');
    await assert.rejects(async () => adapter.consume('r'));
  });

  test(title('a grant takes what hangs on it with it, and its end is told'), async () => {
    await using records = await open();
    await records.adapter('Grant').upsert('grant-1', code({ kind: 'Grant' }), LIFE_SECONDS);
    await records.adapter('RefreshToken').upsert('r1', code(), LIFE_SECONDS);
    await records.adapter('RefreshToken').upsert('r2', code({ grantId: 'grant-2' }), LIFE_SECONDS);
    await records.adapter('AuthorizationCode').upsert('c1', code(), LIFE_SECONDS);
    await records.adapter('RefreshToken').revokeByGrantId('grant-1');
    assert.equal(await records.adapter('RefreshToken').find('r1'), undefined);
    assert.ok(await records.adapter('RefreshToken').find('r2'));
    assert.ok(await records.adapter('AuthorizationCode').find('c1'), 'each model for itself');
    assert.deepEqual(records.ended, []);
    await records.adapter('Grant').destroy('grant-1');
    assert.deepEqual(records.ended, ['grant-1']);
    assert.equal(await records.adapter('Grant').find('grant-1'), undefined);
  });

  test(title('nothing that opens anything can be read from the store'), async () => {
    await using records = await open();
    await records.adapter('RefreshToken').upsert('canary-id', code({ nonce: 'canary-nonce' }), LIFE_SECONDS);
    await records
      .adapter('DeviceCode')
      .upsert('x', { userCode: 'canary-code', uid: 'canary-uid' }, LIFE_SECONDS);
    assert.doesNotMatch(await records.stored(), /canary/);
  });
}
