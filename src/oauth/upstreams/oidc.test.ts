import assert from 'node:assert/strict';
import { text } from 'node:stream/consumers';
import test from 'node:test';
import { OAuth2Issuer } from 'oauth2-mock-server';
import {
  approve,
  CLIENT_ID,
  CLIENT_SECRET,
  type OidcProvider,
  startOidcProvider,
} from '../../../test/support/providers.ts';
import { HOUR } from '../../core/clock.ts';
import { OidcUpstream } from './oidc.ts';
import { fault, openUpstream, upstreamContract, type UpstreamUnderTest } from './upstream.contract.ts';

const tested: UpstreamUnderTest = {
  kind: 'oidc',
  scopes: ['openid', 'email', 'profile'],
  start: startOidcProvider,
  adapt: (settings, options) => new OidcUpstream(settings, options),
  paths: ['/token', '/jwks'],
};

upstreamContract('OpenID Connect', tested);

const MINUTE_S = 60;

const hostile: readonly [what: string, tamper: (provider: OidcProvider) => void][] = [
  ['another nonce', (provider) => void (provider.tamper = ({ payload }) => void (payload['nonce'] = 'x'))],
  ['no nonce', (provider) => void (provider.tamper = ({ payload }) => void delete payload['nonce'])],
  [
    'another issuer',
    (provider) => void (provider.tamper = ({ payload }) => void (payload['iss'] = 'https://evil.example')),
  ],
  [
    'another audience',
    (provider) => void (provider.tamper = ({ payload }) => void (payload['aud'] = 'somebody-else')),
  ],
  [
    'further audiences, for another party',
    (provider) =>
      void (provider.tamper = ({ payload }) => {
        payload['aud'] = [String(payload['aud']), 'somebody-else'];
        payload['azp'] = 'somebody-else';
      }),
  ],
  [
    'an end that is past',
    (provider) =>
      void (provider.tamper = ({ payload }) =>
        void (payload['exp'] = Math.floor(Date.now() / 1000) - MINUTE_S)),
  ],
  ['no subject', (provider) => void (provider.tamper = ({ payload }) => void delete payload['sub'])],
  [
    'a key that the provider does not publish',
    (provider) => void (provider.tamper = ({ header }) => void (header.kid = 'unknown')),
  ],
];
for (const [what, tamper] of hostile)
  test(`an ID token with ${what} signs nobody in`, async (t) => {
    const { provider, signIn } = await openUpstream(t, tested);
    await signIn();
    tamper(provider as OidcProvider);
    await assert.rejects(signIn(), fault('UPSTREAM_FAILED'));
  });

/** What the token endpoint says, with another ID token. */
const withIdToken = (provider: OidcProvider, change: (token: string) => string | undefined) => {
  const { tokens, instead } = provider;
  provider.someone = { subject: '1001', label: 'ada' };
  instead.set('/token', async (request, response) => {
    await text(request);
    const asked = provider.requests.findLast(({ url }) => url.pathname === '/authorize');
    const nonce = asked?.url.searchParams.get('nonce');
    const scopesOrTransform = (_header: object, payload: Record<string, unknown>) =>
      Object.assign(payload, { sub: '1001', aud: CLIENT_ID, nonce });
    const token = await tokens.buildToken({ scopesOrTransform });
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ access_token: 'a', token_type: 'bearer', id_token: change(token) }));
  });
};

const unsigned = (token: string): string => {
  const [, payload = ''] = token.split('.');
  return `${Buffer.from('{"alg":"none"}').toString('base64url')}.${payload}.`;
};

const forged: readonly [what: string, change: (token: string) => string | undefined][] = [
  ['that is not there', () => undefined],
  ['without a signature (alg none)', unsigned],
  ['whose signature was cut off', (token) => token.slice(0, token.lastIndexOf('.') + 1)],
  [
    'whose content was changed',
    (token) => {
      const [header = '', payload = '', signature = ''] = token.split('.');
      const claims = {
        ...JSON.parse(Buffer.from(payload, 'base64url').toString()),
        email: 'canary@example.com',
      };
      return `${header}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.${signature}`;
    },
  ],
  ['that is none', () => 'canary'],
];
for (const [what, change] of forged)
  test(`an ID token ${what} signs nobody in`, async (t) => {
    const { provider, signIn } = await openUpstream(t, tested);
    withIdToken(provider as OidcProvider, (token) => token);
    assert.equal((await signIn()).subject, '1001', 'the right one does');
    withIdToken(provider as OidcProvider, change);
    await assert.rejects(signIn(), fault('UPSTREAM_FAILED'));
  });

test('an ID token by a key of somebody else, under the name of the right one, signs nobody in', async (t) => {
  const { provider, signIn } = await openUpstream(t, tested);
  const { tokens } = provider as OidcProvider;
  const evil = new OAuth2Issuer();
  evil.url = provider.issuer;
  await evil.keys.generate('RS256', { kid: tokens.keys.get()?.kid ?? '' });
  withIdToken({ ...(provider as OidcProvider), tokens: evil }, (token) => token);
  await assert.rejects(signIn(), fault('UPSTREAM_FAILED'));
});

test('a provider that says it names itself in its answers (RFC 9207) is believed only when it does', async (t) => {
  const { provider, begin, upstream, signIn } = await openUpstream(t, tested);
  (provider as OidcProvider).metadata = { authorization_response_iss_parameter_supported: true };
  await assert.rejects(signIn(), fault('UPSTREAM_FAILED'));
  const { url, proof } = await begin();
  const answer = await approve(url);
  answer.searchParams.set('iss', provider.issuer);
  assert.equal((await upstream.finish(answer, proof)).issuer, provider.issuer);
});

test('a document of another issuer is not believed, and asked for again', async (t) => {
  const { provider, begin } = await openUpstream(t, tested);
  (provider as OidcProvider).metadata = { issuer: 'https://evil.example' };
  await assert.rejects(begin(), fault('UPSTREAM_FAILED'));
  (provider as OidcProvider).metadata = {};
  await begin();
});

test('the document is asked for once by many, believed for an hour, and never before somebody signs in', async (t) => {
  const { provider, clock, begin } = await openUpstream(t, tested);
  const asked = () => provider.requests.filter(({ url }) => url.pathname.includes('well-known')).length;
  assert.equal(asked(), 0);
  await Promise.all([begin(), begin(), begin()]);
  assert.equal(asked(), 1);
  clock.advance(HOUR - 1);
  await begin();
  assert.equal(asked(), 1);
  clock.advance(1);
  await begin();
  assert.equal(asked(), 2);
});

for (const url of ['javascript:alert(1)//', 'file:///etc/passwd', 'data:text/html,x', 'ms-settings:x'])
  test(`its document sends no browser to ${url}`, async (t) => {
    const { provider, begin } = await openUpstream(t, tested);
    (provider as OidcProvider).metadata = { authorization_endpoint: url };
    await assert.rejects(begin(), fault('UPSTREAM_FAILED'));
  });

for (const endpoint of ['token_endpoint', 'jwks_uri', 'userinfo_endpoint'])
  for (const url of [
    'https://169.254.169.254/latest/meta-data',
    'https://10.0.0.1/x',
    'https://127.0.0.1:1/x',
    'https://[::1]:1/x',
    'http://example.com/x',
    'http://127.0.0.1:1/x',
    'http://localhost:1/x',
  ])
    test(`its document leads nobody into a private network: ${endpoint} ${url}`, async (t) => {
      const { provider, signIn } = await openUpstream(t, tested);
      (provider as OidcProvider).metadata = { [endpoint]: url };
      const error: unknown = await signIn().then(
        () => undefined,
        (cause: unknown) => cause,
      );
      assert.match(
        String((error as { reason?: string }).reason),
        /no address to fetch from|is not https|only requests to/,
      );
    });

test('the address and whether it is verified are of one document: the ID token’s is not verified by another one', async (t) => {
  const { provider, signIn } = await openUpstream(t, tested);
  provider.someone = { subject: '1001', label: 'ada', email: 'ada@example.com', isEmailVerified: true };
  (provider as OidcProvider).tamper = ({ payload }) => {
    payload['email'] = 'boss@example.com';
    delete payload['email_verified'];
    delete payload['groups'];
  };
  const { email, isEmailVerified } = await signIn();
  assert.deepEqual([email, isEmailVerified], ['boss@example.com', false]);
});

test('what userinfo says of somebody else signs nobody in', async (t) => {
  const { provider, signIn } = await openUpstream(t, tested);
  (provider as OidcProvider).tamper = ({ payload }) => void (payload['sub'] = 'other');
  await assert.rejects(signIn(), fault('UPSTREAM_FAILED'));
});

test('who is signed in already is asked for a new proof', async (t) => {
  const { upstream } = await openUpstream(t, tested);
  const prompt = async (isAgain: boolean) =>
    new URL((await upstream.begin({ redirectUri: 'https://x.example/', isAgain })).url).searchParams.get(
      'prompt',
    );
  assert.deepEqual([await prompt(false), await prompt(true)], [null, 'login']);
});

test('the client secret goes to the token endpoint, in the body where that is offered and as Basic otherwise', async (t) => {
  for (const [methods, isInBody] of [
    [['client_secret_basic', 'client_secret_post'], true],
    [['client_secret_basic'], false],
  ] as const) {
    const { provider, begin, upstream } = await openUpstream(t, tested);
    (provider as OidcProvider).metadata = { token_endpoint_auth_methods_supported: methods };
    const { url, proof } = await begin();
    // This provider reads no encoded client id, and so names another audience.
    await upstream.finish(await approve(url), proof).catch(fault('UPSTREAM_FAILED'));
    const asked = provider.requests.findLast((one) => one.url.pathname === '/token');
    assert.equal(new URLSearchParams(asked?.body).get('client_secret') === CLIENT_SECRET, isInBody);
    assert.equal(asked?.headers.authorization?.startsWith('Basic '), isInBody ? undefined : true);
  }
});
