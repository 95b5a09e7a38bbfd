/** What every adapter for a provider elsewhere promises, whatever the provider does. */
import assert from 'node:assert/strict';
import test, { suite, type TestContext } from 'node:test';
import { eventually } from '../../../test/support/eventually.ts';
import { approve, CLIENT_ID, CLIENT_SECRET, type Provider } from '../../../test/support/providers.ts';
import { ManualClock } from '../../core/clock.ts';
import { ANSWER_MS, createUpstreamFetch, MAX_ANSWER_BYTES, type UpstreamFetch } from './fetch.ts';
import { type Upstream, UpstreamFault, type UpstreamSettings } from './upstream.ts';

const REDIRECT_URI = 'https://issuer.example/oauth/upstream/there/callback';

export interface UpstreamUnderTest {
  readonly kind: UpstreamSettings['kind'];
  readonly scopes: readonly string[];
  readonly start: () => Promise<Provider>;
  readonly adapt: (
    settings: UpstreamSettings,
    options: { clock: ManualClock; fetch: UpstreamFetch },
  ) => Upstream;
  /** Every path that is asked after the person came back, the token endpoint first. */
  readonly paths: readonly string[];
}

export const settingsFor = (
  provider: Provider,
  { kind, scopes }: Pick<UpstreamUnderTest, 'kind' | 'scopes'>,
): UpstreamSettings => ({
  name: 'there',
  title: 'There',
  kind,
  issuer: provider.issuer,
  clientId: CLIENT_ID,
  clientSecret: CLIENT_SECRET,
  scopes,
  groupsClaim: kind === 'oidc' ? 'groups' : undefined,
  allow: undefined,
  newRole: undefined,
});

export async function openUpstream(t: TestContext, tested: UpstreamUnderTest) {
  const provider = await tested.start();
  const clock = new ManualClock();
  const fetch = createUpstreamFetch(provider.issuer, clock);
  t.after(async () => {
    await provider[Symbol.asyncDispose]();
    await fetch[Symbol.asyncDispose]();
  });
  const upstream = tested.adapt(settingsFor(provider, tested), { clock, fetch });
  const begin = () => upstream.begin({ redirectUri: REDIRECT_URI, isAgain: false });
  const signIn = async () => {
    const { url, proof } = await begin();
    return upstream.finish(await approve(url), proof);
  };
  return { provider, clock, upstream, begin, signIn };
}

/** A fault of this code that says nothing that nobody should know. */
export const fault = (code: string) => (error: unknown) => {
  assert.ok(error instanceof UpstreamFault, String(error));
  assert.equal(error.code, code, error.reason);
  for (const secret of [CLIENT_SECRET, 'gho_', 'eyJ', 'canary'])
    assert.ok(!`${error.message} ${error.reason}`.includes(secret), error.reason);
  return true;
};

export function upstreamContract(adapter: string, tested: UpstreamUnderTest): void {
  suite(`${adapter} as a provider elsewhere`, () => {
    whatItAsksFor(tested);
    whatItBelieves(tested);
    whatItRefuses(tested);
    whatItEndures(tested);
  });
}

function whatItAsksFor(tested: UpstreamUnderTest): void {
  test('the way there has PKCE with S256, a new state each time, the exact redirect URI, and no secret', async (t) => {
    const { begin } = await openUpstream(t, tested);
    const [one, other] = [await begin(), await begin()];
    const { searchParams } = new URL(one.url);
    assert.equal(searchParams.get('response_type'), 'code');
    assert.equal(searchParams.get('client_id'), CLIENT_ID);
    assert.equal(searchParams.get('redirect_uri'), REDIRECT_URI);
    assert.equal(searchParams.get('scope'), tested.scopes.join(' '));
    assert.equal(searchParams.get('code_challenge_method'), 'S256');
    assert.equal(searchParams.get('state'), one.proof.state);
    for (const part of ['state', 'nonce', 'verifier'] as const)
      assert.notEqual(one.proof[part], other.proof[part], part);
    assert.ok(one.proof.state.length >= 43 && one.proof.verifier.length >= 43);
    for (const secret of [CLIENT_SECRET, one.proof.verifier]) assert.ok(!one.url.includes(secret));
  });
}

function whatItBelieves(tested: UpstreamUnderTest): void {
  test('who it was is told with what is vouched for, and what is not fit to be kept is left out', async (t) => {
    const { provider, signIn } = await openUpstream(t, tested);
    provider.someone = {
      subject: '1001',
      label: 'ada',
      name: 'Ada Lovelace',
      email: 'Ada@Example.com',
      isEmailVerified: true,
      groups: ['staff', 'staff/ops', 'two words', 'x'.repeat(200)],
    };
    const identity = await signIn();
    assert.deepEqual(
      { ...identity, groups: [...identity.groups].sort() },
      {
        issuer: provider.issuer,
        subject: '1001',
        label: 'ada',
        name: 'Ada Lovelace',
        email: 'ada@example.com',
        isEmailVerified: true,
        groups: ['staff', 'staff/ops'],
      },
    );
  });

  test('an address counts as verified only when the provider says so, and no other address takes its place', async (t) => {
    const { provider, signIn } = await openUpstream(t, tested);
    const someone = { subject: '1001', label: 'ada' };
    provider.someone = { ...someone, email: 'ada@example.com', isEmailVerified: false };
    assert.deepEqual([(await signIn()).email, (await signIn()).isEmailVerified], ['ada@example.com', false]);
    provider.someone = someone;
    assert.deepEqual([(await signIn()).email, (await signIn()).isEmailVerified], [undefined, false]);
  });
}

function whatItRefuses(tested: UpstreamUnderTest): void {
  const wrong: readonly [what: string, change: (answer: URL) => void][] = [
    ['another state', ({ searchParams }) => searchParams.set('state', 'another')],
    ['no state', ({ searchParams }) => searchParams.delete('state')],
    ['two states', ({ searchParams }) => searchParams.append('state', 'another')],
    ['no code', ({ searchParams }) => searchParams.delete('code')],
    ['another code', ({ searchParams }) => searchParams.set('code', 'canary')],
    [
      'the issuer of somebody else (RFC 9207)',
      ({ searchParams }) => searchParams.set('iss', 'https://evil.example'),
    ],
    ['an unknown error', ({ searchParams }) => searchParams.set('error', '<b>canary</b>')],
  ];
  for (const [what, change] of wrong)
    test(`an answer with ${what} is refused`, async (t) => {
      const { begin, upstream } = await openUpstream(t, tested);
      const { url, proof } = await begin();
      const answer = await approve(url);
      change(answer);
      await assert.rejects(upstream.finish(answer, proof), fault('UPSTREAM_FAILED'));
    });

  test('a code is worth nothing without the verifier that belongs to it, or a second time', async (t) => {
    const { begin, upstream } = await openUpstream(t, tested);
    const [one, other] = [await begin(), await begin()];
    const answer = await approve(one.url);
    const mixed = { ...one.proof, verifier: other.proof.verifier };
    await assert.rejects(upstream.finish(answer, mixed), fault('UPSTREAM_FAILED'));
    const { url, proof } = await begin();
    const again = await approve(url);
    await upstream.finish(again, proof);
    await assert.rejects(upstream.finish(again, proof), fault('UPSTREAM_FAILED'));
  });

  test('who says no there is told so', async (t) => {
    const { begin, upstream } = await openUpstream(t, tested);
    const { proof } = await begin();
    const answer = new URL(
      `${REDIRECT_URI}?error=access_denied&error_description=canary&state=${proof.state}`,
    );
    await assert.rejects(upstream.finish(answer, proof), fault('UNAUTHENTICATED'));
  });
}

function whatItEndures(tested: UpstreamUnderTest): void {
  for (const path of tested.paths) {
    test(`${path}: what is no JSON, another status, a redirect, or too large, is refused`, async (t) => {
      const { provider, signIn } = await openUpstream(t, tested);
      const { instead } = provider;
      const json = { 'content-type': 'application/json' };
      instead.set(path, (_request, response) => void response.writeHead(200, json).end('{"canary'));
      await assert.rejects(signIn(), fault('UPSTREAM_FAILED'));
      instead.set(path, (_request, response) => void response.writeHead(500, json).end('{"a":"canary"}'));
      await assert.rejects(signIn(), fault('UPSTREAM_FAILED'));
      instead.set(
        path,
        (_request, response) => void response.writeHead(307, { location: '/elsewhere' }).end(),
      );
      await assert.rejects(signIn(), fault('UPSTREAM_FAILED'));
      assert.ok(!provider.requests.some(({ url }) => url.pathname === '/elsewhere'));
      instead.set(path, (_request, response) => {
        response.writeHead(200, json).end(`{"a":"${'x'.repeat(MAX_ANSWER_BYTES)}"}`);
      });
      await assert.rejects(signIn(), fault('UPSTREAM_FAILED'));
      instead.delete(path);
      assert.equal((await signIn()).issuer, provider.issuer, 'and the right one works');
    });

    test(`${path}: who does not answer, or breaks off, is not waited for`, async (t) => {
      const { provider, clock, signIn } = await openUpstream(t, tested);
      provider.instead.set(path, (request) => void request.socket.destroy());
      await assert.rejects(signIn(), fault('UNAVAILABLE'));
      for (const begin of ['', '{"access_token":"canary']) {
        const asked = Promise.withResolvers<boolean>();
        provider.instead.set(path, (_request, response) => {
          if (begin !== '') response.writeHead(200, { 'content-type': 'application/json' }).write(begin);
          asked.resolve(true);
        });
        const refused = assert.rejects(signIn(), fault('UNAVAILABLE'));
        await eventually(() => asked.promise, 'the request');
        clock.advance(ANSWER_MS);
        await refused;
      }
    });
  }

  test('a provider that is not there is told as such', async (t) => {
    const { provider, begin, upstream } = await openUpstream(t, tested);
    const { url, proof } = await begin();
    const answer = await approve(url);
    await provider[Symbol.asyncDispose]();
    await assert.rejects(upstream.finish(answer, proof), fault('UNAVAILABLE'));
  });
}
