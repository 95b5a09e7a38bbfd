import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import test from 'node:test';
import fc from 'fast-check';
import { calculateJwkThumbprint, exportJWK, generateKeyPair, SignJWT } from 'jose';
import * as oauth from 'oauth4webapi';
import { ManualClock } from '../core/clock.ts';
import { ProofChecker } from './dpop.ts';
import { authorize, discover, insecure, register } from './oauth-client.fixture.ts';
import { startAuthorizationServer } from './server.fixture.ts';

const TOKEN = 'eyJ.of.somebody';
const REQUEST = { method: 'POST', url: 'https://host.example/mcp' };
const NOW = 1_800_000_000_000;
type Claims = Record<string, unknown>;

async function setUp(algorithm: 'ES256' | 'EdDSA' | 'RS256' = 'ES256') {
  const clock = new ManualClock(NOW);
  const checker = new ProofChecker(clock);
  const { publicKey, privateKey } = await generateKeyPair(algorithm, { extractable: true });
  const jwk = await exportJWK(publicKey);
  const thumbprint = await calculateJwkThumbprint(jwk);
  let count = 0;
  const proofOf = (claims: Claims = {}, header: Record<string, unknown> = {}) =>
    new SignJWT({
      htm: 'POST',
      htu: REQUEST.url,
      jti: `proof-${count++}`,
      iat: clock.now() / 1000,
      ath: createHash('sha256').update(TOKEN).digest('base64url'),
      ...claims,
    })
      .setProtectedHeader({ typ: 'dpop+jwt', alg: algorithm, jwk, ...header })
      .sign(privateKey);
  const isProven = (proof: string | undefined, of: object = {}) =>
    checker.isProven(TOKEN, thumbprint, { ...REQUEST, ...of, proof });
  return { clock, checker, privateKey, jwk, thumbprint, proofOf, isProven };
}

for (const algorithm of ['ES256', 'EdDSA', 'RS256'] as const)
  test(`a proof by ${algorithm} of this request and token is one`, async () => {
    const { proofOf, isProven } = await setUp(algorithm);
    assert.equal(isProven(await proofOf()), true);
  });

test('a proof is good for one request', async () => {
  const { proofOf, isProven, clock } = await setUp();
  const proof = await proofOf();
  assert.equal(isProven(proof), true);
  assert.equal(isProven(proof), false);
  clock.advance(59_000);
  assert.equal(isProven(proof), false);
  clock.advance(2000);
  assert.equal(isProven(proof), false, 'too old');
});

test('a proof from a clock ahead of ours can’t come again either', async () => {
  const { proofOf, isProven, clock } = await setUp();
  const proof = await proofOf({ iat: NOW / 1000 + 60 });
  assert.equal(isProven(proof), true);
  for (let step = 0; step < 130; step++) {
    clock.advance(1000);
    assert.equal(isProven(proof), false);
  }
});

test('a proof of another method, URL, token, key or time is none', async () => {
  const { proofOf, isProven, thumbprint, checker } = await setUp();
  const wrong: [Claims, Record<string, unknown>?][] = [
    [{ htm: 'GET' }],
    [{ htm: 'post' }],
    [{ htu: 'https://other.example/mcp' }],
    [{ htu: 'http://host.example/mcp' }],
    [{ htu: 'https://host.example/other' }],
    [{ htu: 'https://host.example:8443/mcp' }],
    [{ htu: '' }],
    [{ ath: 'x' }],
    [{ ath: undefined }],
    [{ jti: undefined }],
    [{ jti: '' }],
    [{ iat: NOW / 1000 - 61 }],
    [{ iat: NOW / 1000 + 61 }],
    [{ iat: undefined }],
    [{}, { typ: 'JWT' }],
  ];
  for (const [claims, header] of wrong)
    assert.equal(isProven(await proofOf(claims, header)), false, JSON.stringify({ claims, header }));
  assert.equal(isProven(undefined), false);
  const other = await setUp();
  assert.equal(isProven(await other.proofOf()), false);
  const proof = await proofOf();
  assert.equal(checker.isProven('another.token', thumbprint, { ...REQUEST, proof }), false);
  assert.equal(isProven(proof), true, 'what is refused uses nothing up');
});

test('the URL of a proof may have a query, a fragment and capitals in its host', async () => {
  const { proofOf, isProven } = await setUp();
  for (const htu of [
    'https://HOST.example/mcp?a=b',
    'https://host.example:443/mcp#x',
    'HTTPS://host.example/mcp',
  ])
    assert.equal(isProven(await proofOf({ htu })), true, htu);
});

test('a key that is not in the proof’s own header, or comes with its private part, proves nothing', async () => {
  const { proofOf, isProven, privateKey, jwk } = await setUp();
  const other = await setUp();
  assert.equal(isProven(await proofOf({}, { jwk: other.jwk })), false);
  assert.equal(isProven(await proofOf({}, { jwk: await exportJWK(privateKey) })), false);
  assert.equal(isProven(await proofOf({}, { jwk: { ...jwk, x: 'AAAA' } })), false);
});

test('a signature of another algorithm, of none, or changed, proves nothing', async () => {
  const { proofOf, isProven } = await setUp();
  const [head = '', body = '', signature = ''] = (await proofOf()).split('.');
  const none = JSON.parse(Buffer.from(head, 'base64url').toString()) as Record<string, unknown>;
  const asNone = Buffer.from(JSON.stringify({ ...none, alg: 'none' })).toString('base64url');
  const asHmac = Buffer.from(JSON.stringify({ ...none, alg: 'HS256' })).toString('base64url');
  for (const proof of [
    `${asNone}.${body}.`,
    `${asHmac}.${body}.${signature}`,
    `${head}.${body}.`,
    `${head}.${body}.${signature.slice(0, -4)}AAAA`,
    `${head}.${body}.${signature}.x`,
  ])
    assert.equal(isProven(proof), false, proof);
});

test('no text makes the check throw', async () => {
  const { isProven } = await setUp();
  const part = fc.oneof(
    fc.string(),
    fc.json().map((text) => Buffer.from(text).toString('base64url')),
  );
  fc.assert(
    fc.property(fc.array(part, { minLength: 1, maxLength: 4 }), (parts) => {
      assert.equal(isProven(parts.join('.')), false);
    }),
  );
});

test('a token that was asked for with a proof belongs to its key: as a bearer’s it opens nothing', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as);
  const { publicKey, privateKey } = await oauth.generateKeyPair('ES256', { extractable: true });
  const dpop = oauth.DPoP({}, { publicKey, privateKey });
  const { redeem } = await authorize(as, client);
  const response = await redeem(oauth.None(), { DPoP: dpop });
  const tokens = await oauth.processAuthorizationCodeResponse(as, client, response);
  assert.equal(tokens.token_type, 'dpop');
  const audience = { origin: fixture.issuer, path: '/mcp', isControl: true };
  assert.equal(fixture.service.authenticate(tokens.access_token, audience), undefined);
  assert.ok(fixture.service.authenticate(tokens.access_token, 'any'), 'but it is known as ours');
  const refreshed = await oauth.refreshTokenGrantRequest(
    as,
    client,
    oauth.None(),
    tokens.refresh_token ?? '',
    insecure,
  );
  assert.equal(refreshed.status, 400, 'a public client’s refresh token belongs to the key as well');
});

test('a bearer’s token with a proof is refused', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as);
  const { redeem } = await authorize(as, client);
  const tokens = await oauth.processAuthorizationCodeResponse(as, client, await redeem());
  const audience = { origin: fixture.issuer, path: '/mcp', isControl: true };
  const possession = { ...REQUEST, proof: await (await setUp()).proofOf() };
  assert.equal(fixture.service.authenticate(tokens.access_token, audience, possession), undefined);
});
