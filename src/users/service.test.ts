import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { createSealer } from '../config/secrets.ts';
import { HOUR, ManualClock, MINUTE, SECOND } from '../core/clock.ts';
import { type CallContext, createDispatch } from '../core/dispatch.ts';
import { AppError, type ErrorCode } from '../core/errors.ts';
import { createEvents } from '../core/events.ts';
import { bundles, expandPermissions, type Permission, permissions } from '../core/permissions.ts';
import { type Principal, system } from '../core/principal.ts';
import type { Log, LogRecord } from '../core/record.ts';
import { createIdempotencyStore } from '../store/idempotency.ts';
import { openSqlite } from '../store/sqlite.ts';
import { INVITE_MS } from './invites.ts';
import { userOperations } from './operations.ts';
import type { InvitedUser, User } from './schema.ts';
import { UserService } from './service.ts';

const PASSWORD = 'correct horse battery';

async function start(t: TestContext) {
  const clock = new ManualClock();
  const database = await openSqlite(':memory:', clock);
  const records: LogRecord[] = [];
  const log: Log = { write: (record) => void records.push(record), enabled: () => true };
  const events = createEvents();
  const news: string[] = [];
  events.on('user.changed', ({ userId }) => void news.push(`changed ${userId}`));
  events.on('user.cut', ({ userId, signedOut }) => void news.push(`cut ${userId}${signedOut ? ' out' : ''}`));
  const options = {
    database,
    events,
    clock,
    log,
    inviteUrl: (code: string) => `https://issuer/invite?code=${code}`,
    providers: [],
  };
  const users = new UserService(options);
  await users.load();
  t.after(async () => {
    users[Symbol.dispose]();
    await database[Symbol.asyncDispose]();
  });
  const idempotency = createIdempotencyStore(database, clock, createSealer(Buffer.alloc(32)));
  const dispatch = createDispatch({ services: { users }, log, clock, idempotency });
  const call = async (name: string, principal: Principal, input: object) => {
    const operation = userOperations.find((candidate) => candidate.name === name);
    assert.ok(operation, name);
    return (await dispatch(operation, input, contextOf(principal))) as unknown as InvitedUser;
  };
  return { database, users, clock, records, news, call, options };
}

const contextOf = (principal: Principal): CallContext => ({
  principal,
  signal: new AbortController().signal,
  traceId: '0'.repeat(32),
  surface: 'internal',
  clientAddress: undefined,
});

const principalWith = (granted: readonly Permission[], more: Partial<Principal> = {}): Principal => ({
  ...system,
  id: 'tok_1',
  kind: 'token',
  permissions: expandPermissions(granted),
  ...more,
});
const admin = principalWith(permissions);

const codeOf = ({ invite_url }: InvitedUser): string =>
  new URL(invite_url ?? '').searchParams.get('code') ?? '';

const refused = (code: ErrorCode, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof AppError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return true;
};

test('a created user signs in after they used their invitation, once; nothing secret is kept or logged', async (t) => {
  const { users, call, records, database } = await start(t);
  const bob = await call('create_user', admin, {
    username: 'Bob',
    role: 'viewer',
    idempotency_key: 'same-key',
  });
  assert.equal(bob.username, 'bob');
  assert.deepEqual(bob.sign_in, []);
  const code = codeOf(bob);
  assert.ok(code.length >= 43);
  assert.equal(await users.signIn('bob', PASSWORD), undefined);
  assert.equal((await users.invited(code))?.id, bob.id);
  await assert.rejects(users.acceptWithPassword(code, 'short'), refused('INVALID_INPUT', /at least 12/));
  await assert.rejects(
    users.acceptWithPassword(code, 'bob has a long one'),
    refused('INVALID_INPUT', /username/),
  );
  const tries = await Promise.allSettled([1, 2, 3].map(() => users.acceptWithPassword(code, PASSWORD)));
  assert.equal(tries.filter(({ status }) => status === 'fulfilled').length, 1);
  assert.equal(await users.invited(code), undefined);
  assert.equal((await users.signIn(' BOB ', PASSWORD))?.id, bob.id);
  assert.equal(await users.signIn('bob', `${PASSWORD}.`), undefined);
  assert.equal(await users.signIn('nobody', PASSWORD), undefined);
  const again = await call('create_user', admin, {
    username: 'Bob',
    role: 'viewer',
    idempotency_key: 'same-key',
  });
  assert.deepEqual([again.id, again.invite_url], [bob.id, undefined]);
  const kept = JSON.stringify([
    records,
    await database.read.selectFrom('users').selectAll().execute(),
    await database.read.selectFrom('invites').selectAll().execute(),
    await database.read.selectFrom('idempotency').selectAll().execute(),
  ]);
  assert.ok(!kept.includes(code) && !kept.includes(PASSWORD));
});

test('an invitation ends after 72 hours, by a newer one, and while its user is disabled', async (t) => {
  const { users, call, clock } = await start(t);
  const first = await call('create_user', admin, { username: 'bob' });
  const second = await call('update_user', admin, { id: 'bob', reset_sign_in: true });
  assert.equal(await users.invited(codeOf(first)), undefined);
  assert.ok(await users.invited(codeOf(second)));
  await call('update_user', admin, { id: 'bob', disabled: true });
  assert.equal(await users.invited(codeOf(second)), undefined);
  await assert.rejects(users.acceptWithPassword(codeOf(second), PASSWORD), refused('NOT_FOUND', /new one/));
  await call('update_user', admin, { id: 'bob', disabled: false });
  clock.advance(INVITE_MS - 1);
  assert.ok(await users.invited(codeOf(second)));
  clock.advance(1);
  assert.equal(await users.invited(codeOf(second)), undefined);
});

test('reset_sign_in ends password, passkeys and sessions', async (t) => {
  const { users, call, clock, news, database } = await start(t);
  const bob = await call('create_user', admin, { username: 'bob' });
  await users.acceptWithPassword(codeOf(bob), PASSWORD);
  const passkey = { id: 'p', user_id: bob.id, document: '{}', counter: 0, created_at: 0, last_used_at: null };
  await database.read.insertInto('passkeys').values(passkey).execute();
  const began = clock.now();
  assert.ok(users.isSignedIn(bob.id, began));
  clock.advance(2 * SECOND);
  news.length = 0;
  const reset = await call('update_user', admin, { id: bob.id, reset_sign_in: true });
  assert.deepEqual(reset.sign_in, []);
  assert.deepEqual(news, [`changed ${bob.id}`, `cut ${bob.id} out`]);
  assert.equal(await users.signIn('bob', PASSWORD), undefined);
  assert.equal(users.isSignedIn(bob.id, began), false);
  assert.ok(users.isSignedIn(bob.id, clock.now()));
  assert.deepEqual(await database.read.selectFrom('passkeys').selectAll().execute(), []);
});

test('nobody makes, changes, resets or deletes a user who may do more than they', async (t) => {
  const { users, call } = await start(t);
  const manager = principalWith(['users:write', ...bundles.viewer]);
  await call('create_user', admin, { username: 'root', role: 'admin' });
  await call('create_user', admin, { username: 'other', role: 'admin' });
  const no = refused('FORBIDDEN', /more than/);
  await assert.rejects(call('create_user', manager, { username: 'eve', role: 'admin' }), no);
  await assert.rejects(call('create_user', manager, { username: 'eve', role: 'operator' }), no);
  for (const change of [{ name: 'x' }, { reset_sign_in: true }, { disabled: true }, { role: 'none' }])
    await assert.rejects(call('update_user', manager, { id: 'root', ...change }), no);
  await assert.rejects(call('delete_user', manager, { id: 'root' }), no);
  await call('create_user', manager, { username: 'eve', role: 'viewer' });
  await assert.rejects(call('update_user', manager, { id: 'eve', role: 'operator' }), no);
  assert.equal(users.count, 3);
  const confined = principalWith(permissions, { hostnames: ['a.example.com'] });
  await assert.rejects(call('create_user', confined, { username: 'x' }), refused('FORBIDDEN', /confined/));
});

test('a token that expires makes nobody who could outlive it', async (t) => {
  const { call, clock } = await start(t);
  const brief = principalWith(permissions, { expiresAt: clock.now() + HOUR });
  const no = refused('FORBIDDEN', /outlive/);
  await assert.rejects(call('create_user', brief, { username: 'eve', role: 'admin' }), no);
  await call('create_user', brief, { username: 'eve' });
  await assert.rejects(call('update_user', brief, { id: 'eve', role: 'viewer' }), no);
  await call('create_user', admin, { username: 'root', role: 'admin' });
  await assert.rejects(call('update_user', brief, { id: 'root', reset_sign_in: true }), no);
  const person = principalWith(permissions, { kind: 'user', expiresAt: clock.now() + HOUR });
  await call('create_user', person, { username: 'mallory', role: 'viewer' });
});

test('the last administrator is not deleted, disabled, demoted or confined, also when two try at once', async (t) => {
  const { call, users } = await start(t);
  await call('create_user', admin, { username: 'a', role: 'admin' });
  await call('create_user', admin, { username: 'confined', role: 'admin', hostnames: ['a.example.com'] });
  const no = refused('PRECONDITION_FAILED', /last administrator/);
  for (const change of [{ disabled: true }, { role: 'operator' }, { hostnames: ['a.example.com'] }])
    await assert.rejects(call('update_user', admin, { id: 'a', ...change }), no);
  await assert.rejects(call('delete_user', admin, { id: 'a' }), no);
  await call('update_user', admin, { id: 'a', name: 'Somebody' });
  await call('create_user', admin, { username: 'b', role: 'admin' });
  const both = await Promise.allSettled(['a', 'b'].map((id) => call('delete_user', admin, { id })));
  assert.equal(both.filter(({ status }) => status === 'fulfilled').length, 1);
  assert.equal(users.count, 2);
});

test('of several first accounts at once one is made', async (t) => {
  const { users } = await start(t);
  const made = await Promise.allSettled(
    ['ada', 'eve', 'ada'].map((username) => users.createFirst({ username, password: PASSWORD })),
  );
  assert.equal(made.filter(({ status }) => status === 'fulfilled').length, 1);
  assert.equal(users.count, 1);
  await assert.rejects(
    users.createFirst({ username: 'late', password: PASSWORD }),
    refused('CONFLICT', /already/),
  );
});

test('streams end when rights change, not when a name does; the own answer still travels', async (t) => {
  const { call, news, clock } = await start(t);
  await call('create_user', admin, { username: 'root', role: 'admin' });
  const { id } = await call('create_user', admin, { username: 'bob', role: 'operator' });
  news.length = 0;
  await call('update_user', admin, { id, name: 'Bob' });
  assert.deepEqual(news, [`changed ${id}`]);
  await call('update_user', admin, { id, role: 'viewer' });
  assert.deepEqual(news.slice(1), [`changed ${id}`, `cut ${id}`]);
  await call('update_user', admin, { id, disabled: true });
  assert.deepEqual(news.slice(3), [`changed ${id}`, `cut ${id} out`]);
  news.length = 0;
  const own = { userId: id, clientId: 'c', grantId: 'g', tokenId: 't', scopes: [] };
  await call('delete_user', { ...admin, kind: 'user', oauth: own }, { id });
  assert.deepEqual(news, [`changed ${id}`]);
  clock.advance(SECOND / 2);
  assert.deepEqual(news, [`changed ${id}`, `cut ${id} out`]);
});

test('users are listed by name, page by page, and survive a restart; one that is damaged is not let in', async (t) => {
  const { call, database, options, records } = await start(t);
  for (const username of ['carol', 'ada', 'bob'])
    await call('create_user', admin, { username, groups: ['x'] });
  const list = (input: object) =>
    call('list_users', admin, input) as unknown as Promise<{ users: User[]; next_cursor?: string }>;
  const first = await list({ limit: 2 });
  assert.deepEqual(
    first.users.map(({ username }) => username),
    ['ada', 'bob'],
  );
  const second = await list({ limit: 2, cursor: first.next_cursor });
  assert.deepEqual(
    [second.users.map(({ username }) => username), second.next_cursor],
    [['carol'], undefined],
  );
  await database.read
    .updateTable('users')
    .set({ document: '{"role":"emperor"}' })
    .where('username', '=', 'bob')
    .execute();
  const again = new UserService(options);
  await again.load();
  assert.deepEqual(
    ['ada', 'bob', 'carol'].map((name) => again.findByUsername(name)?.username),
    ['ada', undefined, 'carol'],
  );
  assert.match(records.at(-1)?.message ?? '', /can't be read/);
});

test('who signs out everywhere is signed out in every session that began before', async (t) => {
  const { users, clock, news } = await start(t);
  const { id } = await users.createFirst({ username: 'ada', password: PASSWORD });
  const began = clock.now();
  clock.advance(MINUTE);
  await users.signOut(id);
  assert.ok(news.includes(`cut ${id} out`));
  assert.equal(users.isSignedIn(id, began), false);
  assert.ok(users.isSignedIn(id, clock.now()));
  assert.ok(await users.signIn('ada', PASSWORD));
});
