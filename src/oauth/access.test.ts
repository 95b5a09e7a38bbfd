import assert from 'node:assert/strict';
import test from 'node:test';
import { bundles } from '../core/permissions.ts';
import { system, type Principal } from '../core/principal.ts';
import { AppError } from '../core/errors.ts';
import { AccessService } from './access.ts';
import { discover, register, signIn } from './oauth-client.fixture.ts';
import { startAuthorizationServer, USER } from './server.fixture.ts';

type Fixture = Awaited<ReturnType<typeof startAuthorizationServer>>;

const accessOf = ({ database, sealer, clock, service }: Fixture, gone: string[] = []) =>
  new AccessService({
    database,
    sealer,
    clock,
    grants: service.grants,
    clients: service.clients,
    onClientGone: (id) => void gone.push(id),
    usernameOf: () => 'somebody',
  });

const reader: Principal = { ...system, permissions: new Set(['clients:read', 'clients:write']) };
const caller = { principal: system };

async function manyGrants(fixture: Fixture, count: number) {
  const as = await discover(fixture.issuer);
  const ids: string[] = [];
  for (let i = 0; i < count; i++) {
    const client = await register(as, { client_name: `Client ${i}` });
    await signIn(as, client);
    ids.push(client.client_id);
    fixture.clock.advance(1);
  }
  return ids;
}

test('grants are listed oldest first, page by page, each once', async () => {
  await using fixture = await startAuthorizationServer();
  const access = accessOf(fixture);
  const ids = await manyGrants(fixture, 5);
  const seen: string[] = [];
  let cursor: string | undefined;
  do {
    const { grants, next_cursor } = await access.listGrants({ limit: 2, cursor }, caller);
    seen.push(...grants.map(({ client }) => client));
    assert.ok(grants.every(({ client_name }) => client_name.startsWith('Client ')));
    cursor = next_cursor;
  } while (cursor !== undefined);
  assert.deepEqual(seen, ids);
  const { grants } = await access.listGrants({ client: ids[3], user: USER }, caller);
  assert.deepEqual(
    grants.map(({ client }) => client),
    [ids[3]],
  );
});

test('who may not see clients sees their own grants only, and can end no other', async () => {
  await using fixture = await startAuthorizationServer();
  const access = accessOf(fixture);
  const [id] = await manyGrants(fixture, 1);
  const own: Principal = {
    ...system,
    permissions: new Set(bundles.viewer),
    oauth: { userId: USER, clientId: id ?? '', grantId: undefined, scopes: [] },
  };
  const other: Principal = {
    ...own,
    oauth: { userId: 'usr_other', clientId: 'x', grantId: undefined, scopes: [] },
  };
  const { grants } = await access.listGrants({}, { principal: own });
  assert.equal(grants.length, 1);
  assert.deepEqual((await access.listGrants({}, { principal: other })).grants, []);
  assert.deepEqual((await access.listGrants({ user: USER }, { principal: other })).grants, []);
  const grantId = grants[0]?.id ?? '';
  const isUnknown = (cause: unknown) => cause instanceof AppError && cause.code === 'NOT_FOUND';
  await assert.rejects(access.revokeGrant(grantId, { principal: other }), isUnknown);
  await access.revokeGrant(grantId, { principal: own });
  assert.deepEqual(fixture.gone, [grantId]);
});

test('a grant that has expired is not listed, and leaves the memory with what was opened by it', async () => {
  await using fixture = await startAuthorizationServer();
  await manyGrants(fixture, 1);
  fixture.clock.advance(181 * 24 * 60 * 60 * 1000);
  assert.deepEqual((await accessOf(fixture).listGrants({}, caller)).grants, []);
  assert.equal(fixture.service.grants.all().length, 1);
  fixture.service.sweep();
  assert.deepEqual(fixture.service.grants.all(), []);
  assert.equal(fixture.gone.length, 1);
});

test('clients are listed page by page, with where they came from and who let them in', async () => {
  await using fixture = await startAuthorizationServer();
  const access = accessOf(fixture);
  const ids = await manyGrants(fixture, 3);
  const made = await fixture.service.clients.create(
    { name: 'job', permissions: ['proxies:read'], redirectUris: [] },
    caller,
  );
  const seen: { id: string; source: string; grants: number }[] = [];
  let cursor: string | undefined;
  do {
    const page = await access.listClients({ limit: 2, cursor });
    seen.push(...page.clients);
    cursor = page.next_cursor;
  } while (cursor !== undefined);
  assert.deepEqual(seen.map(({ id }) => id).sort(), [...ids, made.id].sort());
  assert.deepEqual(seen.find(({ id }) => id === made.id)?.source, 'created');
  assert.ok(ids.every((id) => seen.find((one) => one.id === id)?.grants === 1));
});

test('a client that may do more than the caller is not theirs to delete', async () => {
  await using fixture = await startAuthorizationServer();
  const gone: string[] = [];
  const access = accessOf(fixture, gone);
  const strong = await fixture.service.clients.create(
    { name: 'strong', permissions: ['system:write'], redirectUris: [] },
    caller,
  );
  const weak = await fixture.service.clients.create(
    { name: 'weak', permissions: ['clients:read'], redirectUris: [] },
    caller,
  );
  const isForbidden = (cause: unknown) => cause instanceof AppError && cause.code === 'FORBIDDEN';
  await assert.rejects(access.deleteClient(strong.id, { principal: reader }), isForbidden);
  await access.deleteClient(weak.id, { principal: reader });
  assert.deepEqual(gone, [weak.id]);
  assert.equal(fixture.service.clients.permissions(weak.id), undefined);
  assert.ok(fixture.service.clients.permissions(strong.id));
});
