/** A name that leads to where the metadata services of clouds are is not connected to, however the CA spells it. */
import assert from 'node:assert/strict';
import dns, { type LookupAddress } from 'node:dns';
import { syncBuiltinESMExports } from 'node:module';
import test, { type TestContext } from 'node:test';
import { systemClock } from '../../core/clock.ts';
import { openTransport, requireFetchable } from './transport.ts';

const { signal } = new AbortController();
type Answer = (error: Error | null, addresses: LookupAddress[]) => void;

/** What comes of asking a CA whose name has these addresses. */
async function askAt(t: TestContext, addresses: readonly string[]): Promise<unknown> {
  const found = addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
  t.mock.method(dns, 'lookup', (_name: string, _options: object, answer: Answer) => answer(null, found));
  syncBuiltinESMExports();
  const transport = openTransport({ clock: systemClock, extraTrustPem: undefined });
  const request = { method: 'GET', url: 'https://metadata.test:1/', accept: '*/*', signal } as const;
  try {
    return await transport.send(request);
  } finally {
    await transport.close();
    t.mock.restoreAll();
    syncBuiltinESMExports();
  }
}

const METADATA = ['169.254.169.254', 'fe80::1', '::ffff:a9fe:1', '0.0.0.0', '64:ff9b::a9fe:a9fe'];

test('a name at link-local addresses only is not connected to, and the refusal says where it leads', async (t) => {
  for (const address of METADATA)
    await assert.rejects(askAt(t, [address]), { code: 'unsafe_url', message: new RegExp(address) });
  await assert.rejects(askAt(t, METADATA), { code: 'unsafe_url' });
});

test('a name that has other addresses too is connected to at those, and at no link-local one', async (t) => {
  for (const address of METADATA)
    for (const addresses of [
      [address, '127.0.0.1'],
      ['127.0.0.1', address],
    ])
      await assert.rejects(askAt(t, addresses), {
        code: 'unreachable',
        message: /connect ECONNREFUSED 127\.0\.0\.1:1$/,
      });
});

test('a server that is not there is a fault of the network', async () => {
  const transport = openTransport({ clock: systemClock, extraTrustPem: undefined });
  const request = { method: 'GET', url: 'https://127.0.0.1:1/dir', accept: '*/*', signal } as const;
  await assert.rejects(transport.send(request), { code: 'unreachable', consequence: 'network' });
  await transport.close();
});

test('addresses of private networks are fetched from: private CAs are there', () => {
  for (const url of [
    'https://10.0.0.7/dir',
    'https://[fd00::7]/dir',
    'https://192.168.1.1:9000/',
    'https://localhost/',
  ])
    assert.equal(requireFetchable(url).href, url);
});

test('what is not fetched says why', () => {
  for (const [url, message] of [
    ['http://ca.test/', /not https/],
    ['file:///etc/passwd', /not https/],
    ['dir', /not a URL/],
    [`https://ca.test/${'x'.repeat(3_000)}`, /at most 2048/],
    ['https://a:b@ca.test/', /user or password/],
    ['https://169.254.1.1/', /not fetched from/],
    ['https://2852039166/', /not fetched from/],
    ['https://0xa9.254.169.254/', /not fetched from/],
  ] as const)
    assert.throws(() => requireFetchable(url), { code: 'unsafe_url', message }, url);
});
