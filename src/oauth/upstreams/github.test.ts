import assert from 'node:assert/strict';
import test from 'node:test';
import { startGitHub } from '../../../test/support/providers.ts';
import { GitHubUpstream } from './github.ts';
import { fault, openUpstream, upstreamContract, type UpstreamUnderTest } from './upstream.contract.ts';

const tested: UpstreamUnderTest = {
  kind: 'github',
  scopes: ['user:email', 'read:org'],
  start: startGitHub,
  adapt: (settings, options) => new GitHubUpstream(settings, options),
  paths: ['/login/oauth/access_token', '/api/v3/user', '/api/v3/user/emails', '/api/v3/user/teams'],
};

upstreamContract('GitHub', tested);

test('the number of the account is the identity: a login that somebody else takes over is somebody else', async (t) => {
  const { provider, signIn } = await openUpstream(t, tested);
  provider.someone = { subject: '1', label: 'octocat' };
  const first = await signIn();
  provider.someone = { subject: '2', label: 'octocat' };
  assert.notEqual((await signIn()).subject, first.subject);
});

test('groups are asked for only with the scope that brings them', async (t) => {
  const { provider, signIn } = await openUpstream(t, { ...tested, scopes: ['user:email'] });
  provider.someone = { subject: '1', label: 'octocat', groups: ['acme'] };
  assert.deepEqual((await signIn()).groups, []);
  assert.ok(!provider.requests.some(({ url }) => /orgs|teams/.test(url.pathname)));
});

test('the API of github.com, of its data residency and of an Enterprise server is where it is', async () => {
  const asked: string[] = [];
  const json = { headers: { 'content-type': 'application/json' } };
  for (const issuer of ['https://github.com', 'https://acme.ghe.com', 'https://git.example.com']) {
    const upstream = new GitHubUpstream(
      {
        name: 'g',
        title: 'G',
        kind: 'github',
        issuer,
        clientId: 'c',
        clientSecret: 's',
        scopes: ['user:email'],
        groupsClaim: undefined,
        allow: undefined,
        newRole: undefined,
      },
      {
        fetch: async (url) => {
          asked.push(url);
          return Response.json({ access_token: 't', token_type: 'bearer' }, json);
        },
      },
    );
    const { url, proof } = await upstream.begin({ redirectUri: 'https://x.example/cb', isAgain: true });
    assert.ok(url.startsWith(`${issuer}/login/oauth/authorize?`));
    const answer = new URL(`https://x.example/cb?code=c&state=${proof.state}`);
    await assert.rejects(upstream.finish(answer, proof), fault('UPSTREAM_FAILED'));
  }
  assert.deepEqual(
    asked.filter((url) => url.endsWith('/user')),
    ['https://api.github.com/user', 'https://api.acme.ghe.com/user', 'https://git.example.com/api/v3/user'],
  );
});
