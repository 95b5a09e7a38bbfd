/** A name that leads to where the metadata services of clouds are is not connected to, however the CA spells it. */
import assert from 'node:assert/strict';
import dns, { type LookupAddress } from 'node:dns';
import { syncBuiltinESMExports } from 'node:module';
import test from 'node:test';
import { systemClock } from '../../core/clock.ts';
import { openTransport, requireFetchable } from './transport.ts';

const { signal } = new AbortController();
type Answer = (error: Error | null, addresses: LookupAddress[]) => void;

test('a name at a link-local address, even at one among others, is not connected to', async (t) => {
  const other = { address: '127.0.0.1', family: 4 };
  for (const [address, isFirst] of [
    ['169.254.169.254', true],
    ['fe80::1', false],
    ['::ffff:169.254.0.1', false],
    ['0.0.0.0', true],
  ] as const) {
    const family = address.includes(':') ? 6 : 4;
    t.mock.method(dns, 'lookup', (_name: string, _options: object, answer: Answer) =>
      answer(null, isFirst ? [{ address, family }, other] : [other, { address, family }]),
    );
    syncBuiltinESMExports();
    const transport = openTransport({ clock: systemClock, extraTrustPem: undefined });
    const request = { method: 'GET', url: 'https://metadata.test/', accept: '*/*', signal } as const;
    await assert.rejects(transport.send(request), { code: 'unsafe_url', message: new RegExp(address) });
    await transport.close();
    t.mock.restoreAll();
    syncBuiltinESMExports();
  }
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
