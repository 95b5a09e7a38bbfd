import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import fc from 'fast-check';
import { DAY, HOUR, ManualClock, MINUTE, SECOND } from '../core/clock.ts';
import { type CallContext, createDispatch } from '../core/dispatch.ts';
import { AppError, type ErrorCode } from '../core/errors.ts';
import { createEvents } from '../core/events.ts';
import { bundles, expandPermissions, type Permission, permissions } from '../core/permissions.ts';
import { type Principal, system } from '../core/principal.ts';
import type { Log, LogRecord } from '../core/record.ts';
import { createIdempotencyStore } from '../store/idempotency.ts';
import { createSealer } from '../config/secrets.ts';
import { openSqlite } from '../store/sqlite.ts';
import { newCredential } from './credential.ts';
import { isLastingAdministrator } from './grants.ts';
import { tokenOperations } from './operations.ts';
import type { Token } from './schema.ts';
import { TokenService } from './service.ts';

const ADMIN = 'the-administrators-own-secret-0123456789';

async function start(t: TestContext, { path = ':memory:', clock = new ManualClock() } = {}) {
  const database = await openSqlite(path, clock);
  const records: LogRecord[] = [];
  const log: Log = { write: (record) => void records.push(record), enabled: () => true };
  const events = createEvents();
  const revoked: string[] = [];
  events.on('token.revoked', ({ tokenId }) => void revoked.push(tokenId));
  const tokens = new TokenService({ database, events, clock, log });
  await tokens.load();
  const stop = once(async () => {
    await tokens[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
  });
  t.after(stop);
  const dispatch = createDispatch({
    services: { tokens },
    log,
    clock,
    idempotency: createIdempotencyStore(database, clock, createSealer(Buffer.alloc(32))),
  });
  const call = (name: string, principal: Principal, input: object) => {
    const operation = tokenOperations.find((candidate) => candidate.name === name);
    assert.ok(operation, name);
    return dispatch(operation, input, contextOf(principal)) as Promise<Token & { secret?: string }>;
  };
  return { database, tokens, clock, records, revoked, events, call, stop };
}

function once(run: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined;
  return () => (done ??= run());
}

const contextOf = (principal: Principal): CallContext => ({
  principal,
  signal: new AbortController().signal,
  traceId: '0'.repeat(32),
  surface: 'internal',
  clientAddress: undefined,
});

async function withAdministrator(t: TestContext, options: Parameters<typeof start>[1] = {}) {
  const app = await start(t, options);
  await app.tokens.ensureAdministrator(ADMIN);
  const admin = app.tokens.authenticate(ADMIN);
  assert.ok(admin);
  /** Creates a token and gives it with the principal that it authenticates as. */
  const make = async (input: object, by: Principal = admin) => {
    const { secret, ...token } = await app.call('create_token', by, { name: 'made', ...input });
    assert.ok(secret);
    const principal = app.tokens.authenticate(secret);
    assert.ok(principal);
    return { secret, token, principal };
  };
  return { ...app, admin, make };
}

const refused = (code: ErrorCode, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof AppError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return true;
};

test('the first start makes one administrator: from the given secret, or with a generated one that is told once', async (t) => {
  const given = await start(t);
  assert.deepEqual(await given.tokens.ensureAdministrator(ADMIN), { created: true });
  assert.deepEqual(await given.tokens.ensureAdministrator(ADMIN), { created: false });
  assert.ok(isLastingAdministrator(given.tokens.authenticate(ADMIN)!));

  const generated = await start(t);
  const { created, secret = '' } = await generated.tokens.ensureAdministrator();
  assert.equal(created, true);
  assert.ok(generated.tokens.authenticate(secret));
  assert.deepEqual(await generated.tokens.ensureAdministrator(), { created: false });
});

test('two first starts at once make one administrator', async (t) => {
  const { tokens, database } = await start(t);
  const results = await Promise.all([tokens.ensureAdministrator(), tokens.ensureAdministrator()]);
  assert.deepEqual(results.filter(({ created }) => created).length, 1);
  assert.equal((await database.read.selectFrom('tokens').select('id').execute()).length, 1);
});

test("a later start says that a secret it was given is ignored, unless it is an administrator's", async (t) => {
  const { tokens, make, call, admin } = await withAdministrator(t);
  const ignored = { created: false, ignored: true };
  assert.deepEqual(await tokens.ensureAdministrator('another-secret-of-32-characters-or-more'), ignored);
  const second = await make({ bundle: 'admin' });
  const viewer = await make({ bundle: 'viewer' });
  assert.deepEqual(await tokens.ensureAdministrator(second.secret), { created: false });
  assert.deepEqual(await tokens.ensureAdministrator(viewer.secret), ignored);
  await call('revoke_token', admin, { id: second.token.id });
  assert.deepEqual(await tokens.ensureAdministrator(second.secret), ignored);
});

test("who lost the administrator's token gets a new one, once; the lost one, rotated or not, ends with its streams", async (t) => {
  for (const rotated of [false, true]) {
    const { tokens, admin, call, make, revoked } = await withAdministrator(t);
    const lost = rotated ? ((await call('rotate_token', admin, { id: admin.id })).secret ?? '') : ADMIN;
    const other = await make({ bundle: 'admin', name: 'a colleague' });
    revoked.length = 0;
    const { secret = '', token, revoked: ended } = await tokens.resetAdministrator();
    assert.ok(isLastingAdministrator(tokens.authenticate(secret)!));
    assert.deepEqual(
      [token.name, token.owner, ended, revoked],
      ['administrator', 'system', [admin.id], [admin.id]],
    );
    assert.equal(tokens.authenticate(lost), undefined);
    assert.ok(tokens.authenticate(other.secret), 'tokens that were given to others stay');
    assert.deepEqual((await tokens.resetAdministrator()).revoked, [token.id]);
  }
});

test("a new administrator's secret may be chosen, but not one that is or was in use, and is then not told", async (t) => {
  const { tokens, admin, records } = await withAdministrator(t);
  const chosen = 'another-secret-of-32-characters-or-more';
  const made = await tokens.resetAdministrator(chosen);
  assert.ok(!('secret' in made));
  assert.equal(tokens.authenticate(chosen)?.id, made.token.id);
  for (const used of [ADMIN, chosen])
    await assert.rejects(
      tokens.resetAdministrator(used),
      refused('CONFLICT', /is or was .*nothing was changed/),
    );
  await assert.rejects(tokens.resetAdministrator('short'), refused('INVALID_INPUT', /has to have 32 to/));
  assert.equal(tokens.authenticate(chosen)?.id, made.token.id);
  assert.equal(tokens.authenticate(ADMIN), undefined);
  assert.deepEqual(
    records
      .filter(({ kind, operation }) => kind === 'audit' && operation === 'reset_admin_token')
      .map(({ outcome, principal, detail }) => [outcome, principal, detail?.made, detail?.revoked]),
    [['OK', 'system', made.token.id, [admin.id]]],
  );
});

test("an administrator's secret that is too short, or one of ours cut short, stops the first start", async (t) => {
  const { tokens } = await start(t);
  await assert.rejects(tokens.ensureAdministrator('short'), /token has to have 32 to 512/);
  await assert.rejects(tokens.ensureAdministrator(newCredential().slice(0, -1)), /mistyped or cut/);
  assert.deepEqual(await tokens.ensureAdministrator(newCredential()), { created: true });
});

test('authenticate gives the same frozen principal every time, and nothing for what it does not know', async (t) => {
  const { tokens, admin } = await withAdministrator(t);
  assert.equal(tokens.authenticate(ADMIN), admin);
  assert.ok(Object.isFrozen(admin));
  for (const unknown of [
    '',
    'ohp_',
    ADMIN.slice(1),
    `${ADMIN} `,
    newCredential(),
    'x'.repeat(100_000),
    '\ud800',
  ])
    assert.equal(tokens.authenticate(unknown), undefined);
});

test('a token does what it was given and what follows from it: who may write may read', async (t) => {
  const { make } = await withAdministrator(t);
  const { token, principal } = await make({ permissions: ['proxies:write', 'logs:read'] });
  assert.deepEqual(token.permissions, ['proxies:read', 'proxies:write', 'logs:read']);
  assert.deepEqual([...principal.permissions], token.permissions);
  assert.equal(principal.id, token.id);
  assert.deepEqual((await make({ bundle: 'viewer' })).token.permissions, [...bundles.viewer]);
});

test('the secret is in the first answer and nowhere else: not in the store, a list, a log or a repeated call', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tokens-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const app = await withAdministrator(t, { path: join(folder, 'state.db') });
  const input = { name: 'job', bundle: 'viewer', idempotency_key: 'key-0001' };
  const { secret = '', ...first } = await app.call('create_token', app.admin, input);
  assert.ok(app.tokens.authenticate(secret));
  const again = await app.call('create_token', app.admin, input);
  assert.deepEqual(again, first, 'the repeated call gives the same token without its secret');
  const rotated = await app.call('rotate_token', app.admin, { id: first.id });
  const list = await app.call('list_tokens', app.admin, {});
  await app.stop();
  const bytes = Buffer.concat(readdirSync(folder).map((name) => readFileSync(join(folder, name))));
  for (const canary of [secret, rotated.secret ?? '', ADMIN]) {
    assert.ok(canary.length >= 32);
    assert.equal(bytes.includes(canary), false, 'the store holds no secret');
    assert.equal(JSON.stringify([list, again, app.records]).includes(canary), false);
  }
});

test('tokens and what they may do survive a restart', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tokens-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'state.db');
  const before = await withAdministrator(t, { path });
  const kept = await before.make({
    permissions: ['routes:write'],
    hostnames: ['*.Dev.Example.com'],
    expires_in: '30d',
  });
  const gone = await before.make({ bundle: 'viewer' });
  await before.call('revoke_token', before.admin, { id: gone.token.id });
  await before.stop();
  const after = await start(t, { path });
  assert.deepEqual(after.tokens.authenticate(kept.secret), kept.principal);
  assert.deepEqual(kept.principal.hostnames, ['*.dev.example.com']);
  assert.equal(after.tokens.authenticate(gone.secret), undefined);
  assert.deepEqual(await after.tokens.ensureAdministrator(), { created: false });
});

test('a revoked token stops at once and the news is told after the commit', async (t) => {
  const { make, call, admin, tokens, revoked } = await withAdministrator(t);
  const { secret, token } = await make({ bundle: 'viewer' });
  const answer = await call('revoke_token', admin, { id: token.id });
  assert.equal(tokens.authenticate(secret), undefined);
  assert.deepEqual(revoked, [token.id]);
  assert.ok(answer.revoked_at);
  assert.deepEqual(
    await call('revoke_token', admin, { id: token.id }),
    answer,
    'revoking again changes nothing',
  );
  assert.deepEqual(revoked, [token.id]);
});

test('a token whose time is over does not authenticate', async (t) => {
  const { make, tokens, clock } = await withAdministrator(t);
  const { secret, token } = await make({ bundle: 'viewer', expires_in: '12h' });
  assert.equal(Date.parse(token.expires_at ?? ''), clock.now() + 12 * HOUR);
  clock.advance(12 * HOUR - 1);
  assert.ok(tokens.authenticate(secret));
  clock.advance(1);
  assert.equal(tokens.authenticate(secret), undefined);
});

test('rotating gives a new secret, keeps the id, and ends the old secret at once', async (t) => {
  const { make, call, admin, tokens, revoked } = await withAdministrator(t);
  const { secret, token, principal } = await make({ bundle: 'operator' });
  const rotated = await call('rotate_token', admin, { id: token.id, version: 1 });
  assert.equal(tokens.authenticate(secret), undefined);
  assert.deepEqual(tokens.authenticate(rotated.secret ?? ''), principal);
  assert.deepEqual([rotated.id, rotated.version, revoked], [token.id, 2, [token.id]]);
  await assert.rejects(
    call('rotate_token', admin, { id: token.id, version: 1 }),
    refused('PRECONDITION_FAILED', /at version 2, not 1/),
  );
});

test('who rotates the token of the call itself gets the answer before its own streams are cut', async (t) => {
  const { call, admin, tokens, revoked, clock } = await withAdministrator(t);
  const { secret = '' } = await call('rotate_token', admin, { id: admin.id });
  assert.equal(tokens.authenticate(ADMIN), undefined, 'the old secret stops at once');
  assert.ok(tokens.authenticate(secret));
  assert.deepEqual(revoked, []);
  clock.advance(SECOND);
  assert.deepEqual(revoked, [admin.id]);
});

test('what a revoked token had begun does not make, end or take over another token', async (t) => {
  const { make, call, admin } = await withAdministrator(t);
  const { principal, token } = await make({ bundle: 'admin' });
  const { id } = (await make({ bundle: 'viewer' })).token;
  const results = await Promise.allSettled([
    call('revoke_token', admin, { id: token.id }),
    call('create_token', principal, { name: 'late', bundle: 'admin' }),
    call('rotate_token', principal, { id }),
    call('revoke_token', principal, { id }),
  ]);
  assert.deepEqual(
    results.map(({ status }) => status),
    ['fulfilled', 'rejected', 'rejected', 'rejected'],
  );
});

test('nobody can grant more permissions, hostnames or time than they hold', async (t) => {
  const { make, call } = await withAdministrator(t);
  const { principal } = await make({
    permissions: ['tokens:write', 'proxies:read'],
    hostnames: ['*.dev.example.com'],
    expires_in: '2d',
  });
  const grant = (input: object) => call('create_token', principal, { name: 'x', ...input });
  const fine = { permissions: ['proxies:read'], hostnames: ['app.dev.example.com'], expires_in: '1d' };
  assert.equal((await grant(fine)).owner, principal.id);
  const forbidden = (input: object, message: RegExp) =>
    assert.rejects(grant({ ...fine, ...input }), refused('FORBIDDEN', message));
  await forbidden({ permissions: ['proxies:write'] }, /you lack proxies:write/);
  await forbidden({ permissions: ['commands:run:say'] }, /you lack commands:run:say/);
  await forbidden({ permissions: undefined, bundle: 'admin' }, /you lack proxies:write, .*system:write/);
  await forbidden(
    { hostnames: ['dev.example.com'] },
    /confined to \*\.dev\.example\.com; dev\.example\.com is/,
  );
  await forbidden({ hostnames: ['a.dev.example.com', '*.example.com'] }, /\*\.example\.com is outside/);
  await forbidden({ hostnames: undefined }, /hostnames.*you are confined to \*\.dev\.example\.com/);
  await forbidden({ expires_in: '3d' }, /expires at 2026-01-03T00:00:00\.000Z/);
  await forbidden({ expires_in: undefined }, /expires at 2026-01-03/);
});

test('whatever is asked for, what is granted never exceeds what the holder has', async (t) => {
  const { make, call, tokens } = await withAdministrator(t);
  const subset = fc.uniqueArray(fc.constantFrom<Permission>(...permissions), { minLength: 1 });
  const hosts = fc.option(
    fc.uniqueArray(fc.constantFrom('*.a.test', 'x.a.test', '*.x.a.test', 'b.test', '*.test'), {
      minLength: 1,
    }),
    { nil: undefined },
  );
  const expiry = fc.option(fc.constantFrom('1h', '2h', '3h'), { nil: undefined });
  const wanted = fc.record({ permissions: subset, hostnames: hosts, expires_in: expiry });
  await fc.assert(
    fc.asyncProperty(wanted, wanted, async (holding, asked) => {
      const { principal: holder } = await make({
        ...holding,
        permissions: ['tokens:write', ...holding.permissions],
      });
      const answer = await call('create_token', holder, { name: 'x', ...asked }).catch(() => undefined);
      if (!answer) return;
      const got = tokens.authenticate(answer.secret ?? '')!;
      for (const permission of got.permissions) assert.ok(holder.permissions.has(permission));
      if (holder.expiresAt !== undefined) assert.ok(got.expiresAt! <= holder.expiresAt);
      if (holder.hostnames)
        for (const name of got.hostnames!)
          assert.ok(
            holder.hostnames.some((own) => own === name || (own[0] === '*' && name.endsWith(own.slice(1)))),
          );
    }),
    { numRuns: 60 },
  );
});

test('a weaker holder can neither revoke nor rotate a stronger token', async (t) => {
  const { make, call, admin, tokens } = await withAdministrator(t);
  const weak = (await make({ permissions: ['tokens:write'] })).principal;
  const stronger = await make({ bundle: 'viewer' });
  for (const id of [stronger.token.id, admin.id]) {
    await assert.rejects(call('revoke_token', weak, { id }), refused('FORBIDDEN', /may do more than you/));
    await assert.rejects(call('rotate_token', weak, { id }), refused('FORBIDDEN', /you lack proxies:read/));
  }
  assert.ok(tokens.authenticate(stronger.secret));
  const own = await make({ permissions: ['tokens:read'] }, weak);
  await call('revoke_token', weak, { id: own.token.id });
});

test('rotating is no way to a secret that outlives its holder', async (t) => {
  const { make, call } = await withAdministrator(t);
  const brief = (await make({ bundle: 'admin', expires_in: '1d' })).principal;
  const { token } = await make({ bundle: 'viewer' });
  await assert.rejects(call('rotate_token', brief, { id: token.id }), refused('FORBIDDEN', /outlive/));
  await call('revoke_token', brief, { id: token.id });
});

test('a confined holder sees and touches only tokens that are confined within its own hostnames', async (t) => {
  const { make, call, admin } = await withAdministrator(t);
  const confined = await make({ bundle: 'admin', hostnames: ['*.dev.example.com'] });
  const inside = await make({ bundle: 'viewer', hostnames: ['a.dev.example.com'] });
  const outside = await make({ bundle: 'viewer', hostnames: ['a.dev.example.com', 'prod.example.com'] });
  const list = (await call('list_tokens', confined.principal, {})) as unknown as { tokens: Token[] };
  assert.deepEqual(list.tokens.map(({ id }) => id).sort(), [confined.token.id, inside.token.id].sort());
  for (const id of [outside.token.id, admin.id, 'tok_none']) {
    await assert.rejects(call('revoke_token', confined.principal, { id }), refused('NOT_FOUND', /no token/));
    await assert.rejects(call('rotate_token', confined.principal, { id }), refused('NOT_FOUND', /no token/));
  }
  await call('rotate_token', confined.principal, { id: inside.token.id });
});

test("the last administrator's token that lasts can't be revoked, by anyone", async (t) => {
  const { make, call, admin, tokens } = await withAdministrator(t);
  await make({ bundle: 'admin', expires_in: '1h' });
  await make({ bundle: 'admin', hostnames: ['*.example.com'] });
  const last = refused('PRECONDITION_FAILED', /last administrator's token .*Create another one/);
  await assert.rejects(call('revoke_token', admin, { id: admin.id }), last);
  await assert.rejects(call('revoke_token', system, { id: admin.id }), last);
  const second = await make({ bundle: 'admin' });
  const both = await Promise.allSettled(
    [admin.id, second.token.id].map((id) => call('revoke_token', system, { id })),
  );
  assert.equal(both.filter(({ status }) => status === 'fulfilled').length, 1, 'not even both at once');
  assert.ok(tokens.authenticate(second.secret) ?? tokens.authenticate(ADMIN));
});

test('bad input is refused with what is allowed', async (t) => {
  const { call, admin } = await withAdministrator(t);
  const bad = (input: object, message: RegExp) =>
    assert.rejects(
      call('create_token', admin, { name: 'x', bundle: 'viewer', ...input }),
      refused('INVALID_INPUT', message),
    );
  await bad({ bundle: undefined }, /either permissions or a bundle \(viewer, operator, admin\), one of them/);
  await bad({ permissions: ['logs:read'] }, /not both/);
  await bad({ bundle: undefined, permissions: [] }, /permissions/);
  await bad({ hostnames: [] }, /leave it out for all hostnames/);
  await bad({ hostnames: ['*'] }, /has to be a hostname/);
  await bad({ hostnames: ['*.*.example.com'] }, /has to be a hostname/);
  await bad({ expires_in: 'tomorrow' }, /duration such as 30d/);
  await bad({ expires_in: '0s' }, /from 1m to 3650d/);
  await bad({ expires_in: '4000d' }, /from 1m to 3650d/);
  await bad({ name: '' }, /name/);
  await bad({ name: 'x\u001b[31m' }, /printable/);
  await bad({ name: 'x'.repeat(201) }, /name/);
  await bad({ scope: 'x' }, /unknown argument "scope" \(valid arguments are name, permissions/);
});

test('a list is paged by a cursor, oldest first, and leaves revoked tokens out unless asked', async (t) => {
  const { make, call, admin, clock } = await withAdministrator(t);
  const made: string[] = [admin.id];
  for (let i = 0; i < 5; i++) {
    if (i % 2) clock.advance(1);
    made.push((await make({ bundle: 'viewer' })).token.id);
  }
  await call('revoke_token', admin, { id: made[2] });
  const pages = async (input: object) => {
    const seen: string[] = [];
    for (let cursor: string | undefined; ; ) {
      const page = (await call('list_tokens', admin, {
        limit: 2,
        ...input,
        ...(cursor && { cursor }),
      })) as unknown as {
        tokens: Token[];
        next_cursor?: string;
      };
      seen.push(...page.tokens.map(({ id }) => id));
      cursor = page.next_cursor;
      if (!cursor) return seen;
    }
  };
  assert.deepEqual((await pages({ include_revoked: true })).sort(), [...made].sort());
  assert.deepEqual((await pages({})).sort(), made.filter((id) => id !== made[2]).sort());
  await assert.rejects(
    call('list_tokens', admin, { cursor: 'nonsense' }),
    refused('INVALID_INPUT', /cursor/),
  );
});

test('last use is shown at once, and written at most once a minute and at the end', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tokens-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'state.db');
  const { make, tokens, clock, database, stop } = await withAdministrator(t, { path });
  const { secret, token } = await make({ bundle: 'viewer' });
  const stored = async () =>
    (
      await database.read
        .selectFrom('tokens')
        .select('last_used_at')
        .where('id', '=', token.id)
        .executeTakeFirstOrThrow()
    ).last_used_at;
  clock.advance(10 * SECOND);
  const used = clock.now();
  tokens.authenticate(secret);
  assert.equal(await stored(), null);
  const listed = tokens.list({ limit: 10, includeRevoked: false }, { principal: system }).tokens;
  const shown = listed.find(({ id }) => id === token.id);
  assert.equal(Date.parse(shown?.last_used_at ?? ''), used);
  clock.advance(MINUTE);
  await database.change({}, async () => undefined); // Changes run in order: the timer's own is done after this one.
  assert.equal(await stored(), used);
  clock.advance(5 * SECOND);
  tokens.authenticate(secret);
  await stop();
  const after = await start(t, { path });
  const again = after.tokens.list({ limit: 10, includeRevoked: false }, { principal: system });
  assert.equal(Date.parse(again.tokens.find(({ id }) => id === token.id)?.last_used_at ?? ''), clock.now());
});

test('a row that can not be read opens nothing, is reported, and takes no other token down', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tokens-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'state.db');
  const before = await withAdministrator(t, { path });
  const { secret, token } = await before.make({ bundle: 'viewer', hostnames: ['a.example.com'] });
  await before.database.change({}, async (tx) => {
    await tx
      .updateTable('tokens')
      .set({ document: '{"permissions":["everything"]}' })
      .where('id', '=', token.id)
      .execute();
  });
  await before.stop();
  const after = await start(t, { path });
  assert.equal(after.tokens.authenticate(secret), undefined);
  assert.ok(after.tokens.authenticate(ADMIN));
  assert.match(after.records.map(({ message }) => message).join(), new RegExp(`${token.id} can't be read`));
});

test('tokens that were revoked or expired three months ago are forgotten at the next start', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tokens-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'state.db');
  const before = await withAdministrator(t, { path });
  const old = await before.make({ bundle: 'viewer' });
  const expired = await before.make({ bundle: 'viewer', expires_in: '1d' });
  await before.call('revoke_token', before.admin, { id: old.token.id });
  before.clock.advance(92 * DAY);
  const fresh = await before.make({ bundle: 'viewer' });
  await before.call('revoke_token', before.admin, { id: fresh.token.id });
  await before.stop();
  const after = await start(t, { path, clock: before.clock });
  const ids = after.tokens
    .list({ limit: 10, includeRevoked: true }, { principal: system })
    .tokens.map(({ id }) => id);
  assert.deepEqual(ids, [before.admin.id, fresh.token.id]);
  assert.equal(after.tokens.authenticate(expired.secret), undefined);
});

test('an empty list of hostnames in the store means none, not all', async (t) => {
  const { make, call } = await withAdministrator(t);
  const { principal } = await make({ bundle: 'admin', hostnames: ['a.example.com'] });
  const none: Principal = { ...principal, hostnames: [] };
  await assert.rejects(
    call('create_token', none, { name: 'x', bundle: 'viewer', hostnames: ['a.example.com'] }),
    refused('FORBIDDEN', /confined to no hostname/),
  );
  assert.deepEqual(expandPermissions([]), new Set());
});
