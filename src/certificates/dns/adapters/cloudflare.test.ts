import assert from 'node:assert/strict';
import test, { suite, type TestContext } from 'node:test';
import { CLOUDFLARE_TOKEN, startCloudflare } from '../../../../test/support/dns-hosts.ts';
import { systemClock } from '../../../core/clock.ts';
import { AppError } from '../../../core/errors.ts';
import { providerContract } from '../provider.contract.ts';
import { createCloudflare } from './cloudflare.ts';

const ZONE = 'example.test';
/** Of work that nobody cancels; the runner ends a test that hangs. */
const { signal } = new AbortController();
const ONE = { zone: ZONE, name: `_acme-challenge.${ZONE}`, value: 'a-value' };

const providerAt = (url: string, token = CLOUDFLARE_TOKEN) =>
  createCloudflare(
    { provider: 'cloudflare', zones: [ZONE], token: { env: 'TOKEN' }, url },
    { clock: systemClock, fetch, readSecret: async () => token },
  );

async function start(t: TestContext) {
  const host = await startCloudflare(ZONE);
  t.after(() => host[Symbol.asyncDispose]());
  return { host, provider: providerAt(host.url) };
}

providerContract('Cloudflare (a stand-in)', async (t) => {
  const { host } = await start(t);
  return {
    zone: ZONE,
    open: () => providerAt(host.url),
    openUnauthorised: (canary) => providerAt(host.url, canary),
    values: async (name) => host.values(name),
    seed: async (name, value) => host.seed(name, value),
  };
});

suite('Cloudflare', () => {
  test('429 says when to try again, from Retry-After', async (t) => {
    const { host, provider } = await start(t);
    host.next({ status: 429, headers: { 'retry-after': '17' }, body: '{}' });
    await assert.rejects(provider.publish(ONE, signal), (error) => {
      assert.ok(error instanceof AppError);
      assert.equal(error.code, 'RATE_LIMITED');
      assert.deepEqual(error.details, { retry_after_ms: 17_000 });
      assert.match(error.message, /Cloudflare takes no more requests for now; try again in 17 seconds/);
      return true;
    });
  });

  test('a zone that the token does not see is told with what the token needs', async (t) => {
    const { provider } = await start(t);
    await assert.rejects(
      provider.publish({ ...ONE, zone: 'absent.test' }, signal),
      /sees no zone absent.test at Cloudflare; it needs Zone: Read and DNS: Edit/,
    );
  });

  test('a redirect is not followed, so that the token goes nowhere else', async (t) => {
    const { host, provider } = await start(t);
    host.next({ status: 302, headers: { location: `${host.url}/zones` }, body: '' });
    await assert.rejects(
      provider.publish(ONE, signal),
      /answered with a redirect \(302\), which is not followed/,
    );
    assert.equal(host.requests.length, 1);
  });

  const wrong: [string, { status: number; body: string }, RegExp][] = [
    ['a page instead of JSON', { status: 502, body: '<html>bad gateway</html>' }, /answered 502 in a form/],
    [
      'JSON of another shape',
      { status: 200, body: '{"success":true,"result":[{"id":7}]}' },
      /in a form that is not/,
    ],
    ['more than a mebibyte', { status: 200, body: 'x'.repeat(1024 * 1024 + 1) }, /more than 1048576 bytes/],
    [
      'an error with escapes in it',
      {
        status: 400,
        body: '{"success":false,"errors":[{"code":1,"message":"\\u001b[31mred"}],"result":null}',
      },
      /refused \(400, "1 \ufffd\[31mred"\)/,
    ],
  ];
  for (const [what, answer, words] of wrong)
    test(`${what} is an error in words of ours`, async (t) => {
      const { host, provider } = await start(t);
      host.next(answer);
      await assert.rejects(
        provider.publish(ONE, signal),
        (error) => error instanceof AppError && error.code === 'UPSTREAM_FAILED' && words.test(error.message),
      );
    });

  test('a host that is away is UNAVAILABLE', async () => {
    const gone = await startCloudflare(ZONE);
    await gone[Symbol.asyncDispose]();
    await assert.rejects(
      providerAt(gone.url).publish(ONE, signal),
      /Cloudflare can't be reached \(ECONNREFUSED\)/,
    );
  });

  test('a record that went meanwhile is withdrawn all the same', async (t) => {
    const { host, provider } = await start(t);
    await provider.publish(ONE, signal);
    const [first] = await Promise.allSettled([
      provider.withdraw(ONE, signal),
      provider.withdraw(ONE, signal),
    ]);
    assert.equal(first?.status, 'fulfilled');
    assert.deepEqual(host.values(ONE.name), []);
  });
});
