import assert from 'node:assert/strict';
import test from 'node:test';
import * as oauth from 'oauth4webapi';
import { DAY, MINUTE } from '../core/clock.ts';
import { system } from '../core/principal.ts';
import { discover, insecure, REDIRECT_URI, refresh, register, signIn } from './oauth-client.fixture.ts';
import { limitRegistration, MAX_CLIENTS, sweepClients } from './registration.ts';
import { startAuthorizationServer } from './server.fixture.ts';

type Fixture = Awaited<ReturnType<typeof startAuthorizationServer>>;

const isKnown = async (fixture: Fixture, id: string): Promise<boolean> => {
  const query = fixture.database.read.selectFrom('oauth_records').select('id');
  return (await query.where('client_id', '=', id).where('model', '=', 'Client').execute()).length === 1;
};

/** So many clients as rows, each a millisecond older than the next. */
async function fill({ database, clock }: Fixture, count: number): Promise<void> {
  await database.change({}, async (tx) => {
    for (let i = 0; i < count; i += 500) {
      const rows = Array.from({ length: Math.min(500, count - i) }, (_, at) => ({
        id: `filler-${i + at}`,
        model: 'Client',
        grant_id: null,
        uid: null,
        user_code: null,
        account_id: null,
        client_id: `filler-${i + at}`,
        payload: '',
        created_at: clock.now() - count + i + at,
        expires_at: null,
        consumed_at: null,
      }));
      await tx.insertInto('oauth_records').values(rows).execute();
    }
  });
}

test('a public client gets no secret, and no field that is null', async () => {
  await using fixture = await startAuthorizationServer({
    middleware: (parts) => [limitRegistration({ ...parts, take: () => 0 })],
  });
  const client = await register(await discover(fixture.issuer));
  assert.equal('client_secret' in client, false);
  const told = Object.entries(client).filter(([name]) => name !== 'secret');
  assert.equal(
    told.some(([, value]) => value === null),
    false,
  );
});

test('Cursor registers its own scheme, a page and loopback at once, and an app that calls itself web is refused', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const redirect_uris = [
    'cursor://anysphere.cursor-mcp/oauth/callback',
    'https://www.cursor.com/agents/mcp/oauth/callback',
    'http://localhost:8787/callback',
  ];
  const client = await register(as, { redirect_uris });
  assert.deepEqual(client['redirect_uris'], redirect_uris);
  assert.equal(client['application_type'], 'native');
  assert.equal((await register(as))['application_type'], 'web');
  await assert.rejects(register(as, { redirect_uris, application_type: 'web' }));
  await assert.rejects(register(as, { redirect_uris: [...redirect_uris, 'javascript://x/%0aalert(1)'] }));
});

test('a confidential client’s secret expires at an integer, and is needed', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as, { token_endpoint_auth_method: 'client_secret_basic' });
  assert.equal(client['client_secret_expires_at'], 0);
  const ask = (auth: oauth.ClientAuth) =>
    oauth.refreshTokenGrantRequest(as, client, auth, 'nothing', insecure);
  const { secret } = client;
  assert.equal((await ask(oauth.None())).status, 401);
  assert.equal((await ask(oauth.ClientSecretBasic('wrong'))).status, 401);
  // The secret may come in the header or in the form, as RFC 6749 §2.3.1 leaves it to the client.
  for (const auth of [oauth.ClientSecretBasic(secret), oauth.ClientSecretPost(secret)])
    assert.equal((await ask(auth)).status, 400, 'invalid_grant');
});

test('registrations too many are refused with the time to wait', async () => {
  let wait = 0;
  await using fixture = await startAuthorizationServer({
    middleware: (parts) => [limitRegistration({ ...parts, take: () => wait })],
  });
  const as = await discover(fixture.issuer);
  await register(as);
  wait = 1500;
  const response = await oauth.dynamicClientRegistrationRequest(
    as,
    { redirect_uris: [REDIRECT_URI] },
    insecure,
  );
  assert.equal(response.status, 429);
  assert.equal(response.headers.get('retry-after'), '2');
});

test('a client that names scopes when it registers may ask for these and for others', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as, { scope: 'viewer' });
  const { access_token } = await signIn(as, client, { scope: 'proxies:write openid' });
  assert.deepEqual(fixture.principal(access_token)?.oauth?.scopes, ['proxies:write']);
});

test('what a client may not be is refused', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  for (const metadata of [
    { redirect_uris: ['http://app.example/cb'] },
    { redirect_uris: ['javascript:alert(1)'] },
    { redirect_uris: ['https://app.example/cb#x'] },
    { redirect_uris: [] },
    { grant_types: ['implicit'], response_types: ['token'] },
    { grant_types: ['client_credentials'] },
    { token_endpoint_auth_method: 'client_secret_jwt' },
  ]) {
    const wanted = { redirect_uris: [REDIRECT_URI], ...metadata };
    const { status } = await oauth.dynamicClientRegistrationRequest(as, wanted, insecure);
    assert.equal(status, 400, JSON.stringify(metadata));
  }
});

test('a client reads, changes and deletes its own registration, and nobody else does (RFC 7592)', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as);
  const url = client.manageUrl;
  const ask = (method: string, token: string, body?: object) =>
    fetch(url, {
      method,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      ...(body && { body: JSON.stringify(body) }),
    });
  const token = client.manageToken;
  assert.equal((await ask('GET', token)).status, 200);
  const changed = await ask('PUT', token, {
    client_id: client.client_id,
    client_name: 'Renamed',
    redirect_uris: [REDIRECT_URI],
  });
  assert.equal(((await changed.json()) as { client_name: string }).client_name, 'Renamed');
  assert.equal((await ask('GET', 'guessed')).status, 401);
  const stranger = await register(as);
  assert.equal((await ask('DELETE', stranger.manageToken)).status, 401);
  assert.equal((await ask('DELETE', token)).status, 204);
  assert.equal(await isKnown(fixture, client.client_id), false);
});

test('a client that nobody let in within a day is forgotten; one that is used stays', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const [used, unused] = [await register(as), await register(as)];
  const { refresh_token } = await signIn(as, used);
  const made = await fixture.service.clients.create(
    { name: 'job', permissions: [], redirectUris: [] },
    { principal: system },
  );
  fixture.clock.advance(DAY + MINUTE);
  assert.equal(await sweepClients(fixture.database, fixture.clock), 1);
  assert.equal(await isKnown(fixture, unused.client_id), false);
  assert.equal((await refresh(as, used, refresh_token)).status, 200);
  assert.equal(await isKnown(fixture, made.id), true, 'an administrator made it');
});

test('a flood of registrations shuts nobody out: the oldest unused ones make room', async () => {
  await using fixture = await startAuthorizationServer({
    middleware: (parts) => [limitRegistration({ ...parts, take: () => 0 })],
  });
  const as = await discover(fixture.issuer);
  const used = await register(as);
  const { refresh_token } = await signIn(as, used);
  fixture.clock.advance(MINUTE);
  await fill(fixture, MAX_CLIENTS);
  fixture.clock.advance(MINUTE);
  await register(as);
  assert.equal(await isKnown(fixture, 'filler-0'), false);
  assert.equal(await isKnown(fixture, `filler-${MAX_CLIENTS - 1}`), true);
  assert.equal((await refresh(as, used, refresh_token)).status, 200);
});
