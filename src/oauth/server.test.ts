import assert from 'node:assert/strict';
import test from 'node:test';
import * as oauth from 'oauth4webapi';
import {
  authorize,
  browse,
  discover,
  insecure,
  question,
  REDIRECT_URI,
  refresh,
  register,
  signIn,
} from './oauth-client.fixture.ts';
import { bundles, type Permission } from '../core/permissions.ts';
import { system } from '../core/principal.ts';
import { ELSEWHERE, startAuthorizationServer, USER } from './server.fixture.ts';

const ACCESS_TOKEN_TYPE = 'access_token';
const BASIC = { token_endpoint_auth_method: 'client_secret_basic' };
const administrator = { principal: system };

test('code, PKCE and a resource give an access token for that resource', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as);
  const { back, redeem } = await authorize(as, client, { resource: `${fixture.issuer}/mcp` });
  assert.equal(back.searchParams.get('iss'), fixture.issuer);
  const response = await redeem();
  assert.equal(response.headers.get('cache-control'), 'no-store');
  const tokens = await oauth.processAuthorizationCodeResponse(as, client, response);
  const principal = fixture.principal(tokens.access_token);
  assert.equal(principal?.oauth?.userId, USER);
  assert.equal(principal.oauth.clientId, client.client_id);
  assert.deepEqual(principal.oauth.scopes, ['viewer']);
  assert.ok(tokens.refresh_token);
});

test('a token is for the resource that was asked for and no other', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as);
  const tokens = await signIn(as, client, { resource: `${fixture.issuer}/other` });
  assert.equal(fixture.principal(tokens.access_token), undefined);
  const other = { origin: fixture.issuer, path: '/other', isControl: false };
  assert.ok(fixture.service.authenticate(tokens.access_token, other));
});

test('50 refreshes at the same time within the grace all work, and so do their successors', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as);
  const tokens = await signIn(as, client);
  const refreshed = await Promise.all(
    Array.from({ length: 50 }, async () =>
      oauth.processRefreshTokenResponse(as, client, await refresh(as, client, tokens.refresh_token)),
    ),
  );
  assert.equal(new Set(refreshed.map((one) => one.refresh_token)).size, 50);
  const next = await Promise.all(
    refreshed.map(async ({ refresh_token }) => (await refresh(as, client, refresh_token)).status),
  );
  assert.deepEqual([...new Set(next)], [200]);
  assert.deepEqual(fixture.gone, []);
});

test('a refresh token that comes again after the grace ends its whole family', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as);
  const tokens = await signIn(as, client);
  const fresh = await oauth.processRefreshTokenResponse(
    as,
    client,
    await refresh(as, client, tokens.refresh_token),
  );
  fixture.clock.advance(61_000);
  assert.equal((await refresh(as, client, tokens.refresh_token)).status, 400);
  assert.equal(fixture.gone.length, 1);
  assert.equal(fixture.principal(fresh.access_token), undefined);
  assert.equal((await refresh(as, client, fresh.refresh_token)).status, 400);
});

test('of 200 redemptions of one code at the same time exactly one gets a token', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const { redeem } = await authorize(as, await register(as));
  const statuses = await Promise.all(Array.from({ length: 200 }, async () => (await redeem()).status));
  assert.equal(statuses.filter((status) => status === 200).length, 1);
  assert.equal(statuses.filter((status) => status === 400).length, 199);
});

test('a code that comes again ends what it gave', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as);
  const { redeem } = await authorize(as, client);
  const tokens = await oauth.processAuthorizationCodeResponse(as, client, await redeem());
  assert.equal((await redeem()).status, 400);
  assert.equal(fixture.principal(tokens.access_token), undefined);
});

test('a wrong resource at the token endpoint does not burn the refresh token', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as);
  const tokens = await signIn(as, client);
  const wrong = await oauth.refreshTokenGrantRequest(as, client, oauth.None(), tokens.refresh_token ?? '', {
    ...insecure,
    additionalParameters: { resource: 'https://elsewhere.example/' },
  });
  assert.equal(wrong.status, 400);
  assert.equal((await refresh(as, client, tokens.refresh_token)).status, 200);
});

test('who asks without a scope gets viewer', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as);
  const tokens = await signIn(as, client, { scope: undefined });
  assert.deepEqual(fixture.principal(tokens.access_token)?.oauth?.scopes, ['viewer']);
});

test('an access token that was revoked opens nothing, after a restart neither', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as);
  const tokens = await signIn(as, client);
  const [, other] = [tokens, await signIn(as, client)];
  const revocation = await oauth.revocationRequest(as, client, oauth.None(), tokens.access_token, insecure);
  assert.equal(await oauth.processRevocationResponse(revocation), undefined);
  assert.equal(fixture.principal(tokens.access_token), undefined);
  assert.ok(fixture.principal(other.access_token), 'another one of the same grant goes on');
  assert.equal(fixture.revoked.length, 1);
  await fixture.reopen();
  assert.equal(fixture.principal(tokens.access_token), undefined);
  assert.ok(fixture.principal(other.access_token));
});

test('revoking a refresh token ends the access tokens of its grant', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as);
  const tokens = await signIn(as, client);
  const token = tokens.refresh_token ?? '';
  await oauth.processRevocationResponse(
    await oauth.revocationRequest(as, client, oauth.None(), token, insecure),
  );
  assert.equal(fixture.principal(tokens.access_token), undefined);
});

test('a client can revoke no token of another client', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const tokens = await signIn(as, await register(as));
  const stranger = await register(as);
  await oauth.revocationRequest(as, stranger, oauth.None(), tokens.access_token, insecure);
  assert.ok(fixture.principal(tokens.access_token));
});

test('introspection tells a client what is in its access token, and that a revoked one is not active', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as);
  const { access_token } = await signIn(as, client);
  const ask = async () =>
    oauth.processIntrospectionResponse(
      as,
      client,
      await oauth.introspectionRequest(as, client, oauth.None(), access_token, {
        ...insecure,
        additionalParameters: { token_type_hint: ACCESS_TOKEN_TYPE },
      }),
    );
  const told = await ask();
  assert.equal(told.active, true);
  assert.equal(told.sub, USER);
  assert.equal(told.client_id, client.client_id);
  assert.equal(told.scope, 'viewer');
  assert.equal(told.aud, `${fixture.issuer}/mcp`);
  await oauth.revocationRequest(as, client, oauth.None(), access_token, insecure);
  assert.equal((await ask()).active, false);
});

test('who registered itself learns nothing of the tokens of others', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const { access_token } = await signIn(as, await register(as));
  const stranger = await register(as, BASIC);
  const auth = oauth.ClientSecretBasic(stranger.secret);
  const response = await oauth.introspectionRequest(as, stranger, auth, access_token, insecure);
  const told = await oauth.processIntrospectionResponse(as, stranger, response);
  assert.deepEqual(told, { active: false });
});

test('userinfo answers to a token for this host with what the user allowed', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as);
  const tokens = await signIn(as, client, { scope: 'openid profile viewer' });
  assert.ok(fixture.principal(tokens.access_token));
  const told = await oauth.processUserInfoResponse(
    as,
    client,
    USER,
    await oauth.userInfoRequest(as, client, tokens.access_token, insecure),
  );
  assert.equal(told.name, 'Somebody');
});

test('who asks only who the user is gets a token for that and nothing else', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as);
  const tokens = await signIn(as, client, { scope: 'openid profile' });
  assert.equal(fixture.principal(tokens.access_token), undefined);
  const response = await oauth.userInfoRequest(as, client, tokens.access_token, insecure);
  assert.equal((await oauth.processUserInfoResponse(as, client, USER, response)).name, 'Somebody');
});

test('userinfo does not answer to a token for another resource', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as);
  const tokens = await signIn(as, client, { scope: 'openid viewer', resource: ELSEWHERE });
  const { status } = await oauth.userInfoRequest(as, client, tokens.access_token, insecure);
  assert.equal(status, 403);
});

test('a client that registered itself can’t act for itself', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const response = await oauth.dynamicClientRegistrationRequest(
    as,
    { redirect_uris: [], response_types: [], grant_types: ['client_credentials'], ...BASIC },
    insecure,
  );
  assert.equal(response.status, 400);
  const client = await register(as, BASIC);
  const asked = await oauth.clientCredentialsGrantRequest(
    as,
    client,
    oauth.ClientSecretBasic(client.secret),
    { scope: 'viewer' },
    insecure,
  );
  assert.equal(asked.status, 400);
});

test('a registered client can’t change itself into one that acts for itself', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as, BASIC);
  const update = await fetch(client.manageUrl, {
    method: 'PUT',
    headers: {
      authorization: `Bearer ${client.manageToken}`,
      'content-type': 'application/json',
    },
    body: JSON.stringify({
      client_id: client.client_id,
      redirect_uris: [REDIRECT_URI],
      grant_types: ['authorization_code', 'client_credentials'],
    }),
  });
  assert.equal(update.status, 400);
});

async function actingClient(
  fixture: Awaited<ReturnType<typeof startAuthorizationServer>>,
  permissions: readonly Permission[],
) {
  const made = await fixture.service.clients.create(
    { name: 'job', permissions, redirectUris: [] },
    administrator,
  );
  const client = { client_id: made.id };
  const auth = oauth.ClientSecretBasic(made.secret ?? '');
  const as = await discover(fixture.issuer);
  const ask = async (parameters: Record<string, string>) =>
    oauth.processClientCredentialsResponse(
      as,
      client,
      await oauth.clientCredentialsGrantRequest(as, client, auth, parameters, insecure),
    );
  return { as, client, auth, ask };
}

test('a client of the administrator acts for itself, within what it was given', async () => {
  await using fixture = await startAuthorizationServer();
  const { ask } = await actingClient(fixture, ['proxies:read', 'proxies:write']);
  const { access_token, scope } = await ask({ scope: 'admin proxies:write' });
  assert.equal(scope, 'proxies:write');
  const principal = fixture.principal(access_token);
  assert.equal(principal?.kind, 'client');
  assert.deepEqual([...principal.permissions].sort(), ['proxies:read', 'proxies:write']);
});

test('without a scope it gets viewer, or all that it has where that is less', async () => {
  await using fixture = await startAuthorizationServer();
  const operator = await actingClient(fixture, bundles.operator);
  assert.equal((await operator.ask({})).scope, 'viewer');
  const reader = await actingClient(fixture, ['proxies:read']);
  assert.equal((await reader.ask({})).scope, 'proxies:read');
});

test('a client of the administrator may ask about the tokens of others', async () => {
  await using fixture = await startAuthorizationServer();
  const { as, client, auth } = await actingClient(fixture, []);
  const { access_token } = await signIn(as, await register(as));
  const told = await oauth.processIntrospectionResponse(
    as,
    client,
    await oauth.introspectionRequest(as, client, auth, access_token, insecure),
  );
  assert.equal(told.active, true);
});

test('a client is unknown at the token endpoint once it is deleted: 401 invalid_client', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as);
  const tokens = await signIn(as, client);
  await fixture.database.change({}, (tx) =>
    tx.deleteFrom('oauth_records').where('client_id', '=', client.client_id).execute(),
  );
  const response = await refresh(as, client, tokens.refresh_token);
  assert.equal(response.status, 401);
  assert.equal(((await response.json()) as { error: string }).error, 'invalid_client');
});

test('an error on the way back names the issuer as well', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as);
  for (const extra of [{ resource: 'https://elsewhere.example/' }, { prompt: 'none' }]) {
    const { url } = await question(as, client, extra);
    const back = await browse(url);
    assert.equal(back.searchParams.get('iss'), fixture.issuer);
    assert.ok(back.searchParams.get('error'));
  }
});

test('no challenge, an empty one, plain and unknown methods are refused', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as);
  const wrong = [
    { code_challenge: undefined, code_challenge_method: undefined },
    { code_challenge: '' },
    { code_challenge_method: 'plain' },
    { code_challenge_method: 'S512' },
    { code_challenge_method: undefined },
  ];
  for (const extra of wrong) {
    const back = await browse((await question(as, client, extra)).url);
    assert.equal(back.searchParams.get('error'), 'invalid_request', JSON.stringify(extra));
    assert.equal(back.searchParams.get('code'), null);
  }
});

test('nobody is sent to a redirect URI that is not the client’s', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as, { redirect_uris: ['https://app.example/cb'] });
  for (const uri of [
    'https://app.example/cb/',
    'https://app.example/cb?x',
    'https://evil.example/cb',
    REDIRECT_URI,
  ]) {
    const { url } = await question(as, client, { redirect_uri: uri });
    const { status, headers } = await fetch(url, { redirect: 'manual' });
    assert.equal(status, 400, uri);
    assert.equal(headers.get('location'), null);
  }
});

test('an app on the user’s machine may listen on another port than it registered', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as, { redirect_uris: ['http://127.0.0.1/callback'] });
  const redirect_uri = 'http://127.0.0.1:49152/callback';
  const { redeem } = await authorize(as, client, { redirect_uri });
  assert.equal((await redeem()).status, 200);
});

test('a pushed request (RFC 9126) is answered like any other', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as);
  const { url, verifier } = await question(as, client, { scope: undefined });
  const pushed = await oauth.processPushedAuthorizationResponse(
    as,
    client,
    await oauth.pushedAuthorizationRequest(as, client, oauth.None(), url.searchParams, insecure),
  );
  const start = new URL(as.authorization_endpoint ?? '');
  start.searchParams.set('client_id', client.client_id);
  start.searchParams.set('request_uri', pushed.request_uri);
  const params = oauth.validateAuthResponse(as, client, await browse(start), 'st');
  const response = await oauth.authorizationCodeGrantRequest(
    as,
    client,
    oauth.None(),
    params,
    REDIRECT_URI,
    verifier,
    insecure,
  );
  const tokens = await oauth.processAuthorizationCodeResponse(as, client, response);
  assert.deepEqual(fixture.principal(tokens.access_token)?.oauth?.scopes, ['viewer']);
});

test('a device that asks too often is told to slow down', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as, {
    grant_types: ['urn:ietf:params:oauth:grant-type:device_code'],
    redirect_uris: [],
    response_types: [],
  });
  const { device_code } = await oauth.processDeviceAuthorizationResponse(
    as,
    client,
    await oauth.deviceAuthorizationRequest(as, client, oauth.None(), {}, insecure),
  );
  const poll = async () => {
    const response = await oauth.deviceCodeGrantRequest(as, client, oauth.None(), device_code, insecure);
    return ((await response.json()) as { error: string }).error;
  };
  assert.equal(await poll(), 'authorization_pending');
  assert.equal(await poll(), 'slow_down');
  fixture.clock.advance(5000);
  assert.equal(await poll(), 'slow_down', 'the interval has grown');
  fixture.clock.advance(20_000);
  assert.equal(await poll(), 'authorization_pending');
});

test('what comes to the device page without its session is refused, never a fault', async () => {
  await using fixture = await startAuthorizationServer();
  for (const cookie of ['', 'ohp_session=unknown'])
    for (const type of ['application/json', 'application/x-www-form-urlencoded']) {
      const headers = { 'content-type': type, cookie };
      const url = `${fixture.issuer}/oauth/device`;
      const { status } = await fetch(url, { method: 'POST', headers, body: '{}' });
      assert.equal(status, 400, `${cookie} ${type}`);
      const resumed = await fetch(`${url}/unknown`, { headers: { cookie } });
      assert.equal(resumed.status, 400);
    }
});

test('rotating the keys invalidates nobody, and three are published', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as);
  const { access_token, refresh_token } = await signIn(as, client);
  const keyIds = async () =>
    ((await (await fetch(as.jwks_uri ?? '')).json()) as { keys: { kid: string; d?: string }[] }).keys.map(
      ({ kid, d }) => (assert.equal(d, undefined), kid),
    );
  const before = await keyIds();
  await fixture.service.rotateKeys();
  const after = await keyIds();
  assert.equal(after.length, 3);
  assert.ok(
    before.every((kid) => after.includes(kid)),
    'what was published still is',
  );
  assert.ok(fixture.principal(access_token));
  const fresh = await oauth.processRefreshTokenResponse(as, client, await refresh(as, client, refresh_token));
  assert.ok(fixture.principal(fresh.access_token));
  const { kid } = JSON.parse(Buffer.from(fresh.access_token.split('.')[0] ?? '', 'base64url').toString());
  assert.ok(before.includes(kid), 'who kept the key set knows the key');
});

test('discovery answers in every form, with the issuer that was asked', async () => {
  await using fixture = await startAuthorizationServer();
  const forms = [
    '/.well-known/oauth-authorization-server',
    '/.well-known/openid-configuration',
    '/.well-known/oauth-authorization-server/mcp',
    '/.well-known/openid-configuration/mcp',
  ];
  for (const form of forms) {
    const response = await fetch(`${fixture.issuer}${form}`);
    assert.equal(response.status, 200, form);
    const told = (await response.json()) as oauth.AuthorizationServer;
    assert.equal(told.issuer, fixture.issuer);
    assert.deepEqual(told.code_challenge_methods_supported, ['S256']);
    assert.equal(told.authorization_response_iss_parameter_supported, true);
    assert.equal(told['client_id_metadata_document_supported'], true);
    assert.ok(told.token_endpoint_auth_methods_supported?.includes('none'));
    assert.ok(told.scopes_supported?.includes('viewer'), 'the scope that everyone starts with');
    assert.equal(told.scopes_supported?.includes('admin'), false);
  }
});
