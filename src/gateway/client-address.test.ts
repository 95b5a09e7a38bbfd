import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { rateKey, TrustedPeers } from './client-address.ts';

const peers = new TrustedPeers(['10.0.0.0/8', '::1', 'fd00::/8', '192.0.2.1']);

test('an IPv4 address is the same in its IPv6 form', () => {
  assert.deepEqual(peers.peer('::ffff:10.1.2.3'), {
    address: '10.1.2.3',
    isLoopback: false,
    isTrusted: true,
  });
  assert.deepEqual(peers.peer('::ffff:127.0.0.1'), {
    address: '127.0.0.1',
    isLoopback: true,
    isTrusted: false,
  });
  assert.deepEqual(peers.peer('::1'), { address: '::1', isLoopback: true, isTrusted: true });
  assert.deepEqual(peers.peer(undefined), { address: 'unknown', isLoopback: false, isTrusted: false });
});

test('a stranger’s forwarded fields are not believed', () => {
  assert.equal(peers.clientAddress(peers.peer('203.0.113.1'), '1.1.1.1', 'for=1.1.1.1'), '203.0.113.1');
});

const trusted = peers.peer('10.0.0.1');
const cases: [string | undefined, string | undefined, string][] = [
  [undefined, undefined, '10.0.0.1'],
  ['203.0.113.1', undefined, '203.0.113.1'],
  ['6.6.6.6, 203.0.113.1', undefined, '203.0.113.1'],
  ['6.6.6.6, 203.0.113.1, 10.9.9.9,192.0.2.1', undefined, '203.0.113.1'],
  ['10.2.2.2, 10.3.3.3', undefined, '10.2.2.2'],
  ['203.0.113.1, nonsense', undefined, '10.0.0.1'],
  ['203.0.113.1, nonsense, 10.3.3.3', undefined, '10.3.3.3'],
  ['127.1', undefined, '10.0.0.1'],
  ['0x7f.0.0.1', undefined, '10.0.0.1'],
  ['010.0.0.1', undefined, '10.0.0.1'],
  ['203.0.113.1:443', undefined, '203.0.113.1'],
  ['[2001:db8::7]:443', undefined, '2001:db8::7'],
  ['2001:DB8::7', undefined, '2001:db8::7'],
  ['', undefined, '10.0.0.1'],
  [undefined, 'for=203.0.113.1;proto=https, for=10.3.3.3', '203.0.113.1'],
  [undefined, 'For="[2001:db8::7]:80"', '2001:db8::7'],
  [undefined, 'for=unknown', '10.0.0.1'],
  [undefined, 'for=_hidden', '10.0.0.1'],
  [undefined, 'by=203.0.113.1', '10.0.0.1'],
  ['203.0.113.1', 'for=203.0.113.1', '203.0.113.1'],
  ['203.0.113.1', 'for=6.6.6.6', '10.0.0.1'],
];

for (const [list, forwarded, expected] of cases)
  test(`behind a trusted proxy, ${list} and ${forwarded} mean ${expected}`, () => {
    assert.equal(peers.clientAddress(trusted, list, forwarded), expected);
  });

test('property: what is found is an address that was there, or the peer', () => {
  fc.assert(
    fc.property(
      fc.option(fc.string(), { nil: undefined }),
      fc.option(fc.string(), { nil: undefined }),
      (list, forwarded) => {
        const found = peers.clientAddress(trusted, list, forwarded);
        return found === trusted.address || `${list}${forwarded}`.toLowerCase().includes(found.slice(0, 1));
      },
    ),
  );
});

test('a setting that is neither address nor range stops the start and is named', () => {
  for (const text of ['10.0.0.0/33', 'localhost', '10.0.0', '*', ''])
    assert.throws(
      () => new TrustedPeers([text]),
      /gateway\.trusted_proxies: .* has to be an IP address or a range/,
    );
});

test('a whole /64 counts as one client', () => {
  assert.equal(rateKey('2001:db8:1:2:3:4:5:6'), rateKey('2001:db8:1:2::9'));
  assert.notEqual(rateKey('2001:db8:1:2::9'), rateKey('2001:db8:1:3::9'));
  assert.equal(rateKey('192.0.2.1'), '192.0.2.1');
});
