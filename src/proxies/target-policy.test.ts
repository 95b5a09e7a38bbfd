import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { addressFault, ownAddresses, targetFault } from './target-policy.ts';

const own = [
  { address: '127.0.0.1', port: 8443 },
  { address: '192.168.1.5', port: 8080 },
];

const forbidden = {
  'link-local': ['169.254.0.1', '169.254.170.2', 'fe80::1', 'fe80::1%eth0', 'febf::1'],
  metadata: [
    '169.254.169.254',
    '100.100.100.200',
    '168.63.129.16',
    'fd00:ec2::254',
    'fd20:ce::254',
    'fd00:c1::a9fe:a9fe',
  ],
  unspecified: ['0.0.0.0', '0.1.2.3', '::', '0:0:0:0:0:0:0:0'],
  'multicast and broadcast': ['224.0.0.1', '239.255.255.250', '255.255.255.255', 'ff02::1', 'ff05::2'],
  reserved: ['240.0.0.1', '192.0.0.192', '64:ff9b:1::a9fe:a9fe', '2001::1', '100::1', 'fec0::1'],
  'IPv4 in IPv6': [
    '::ffff:169.254.169.254',
    '::ffff:a9fe:a9fe',
    '::ffff:0:169.254.169.254',
    '::169.254.169.254',
    '::a9fe:a9fe',
    '64:ff9b::169.254.169.254',
    '64:ff9b::a9fe:a9fe',
    '2002:a9fe:a9fe::1',
    'fd12::5efe:169.254.169.254',
    '::ffff:0.0.0.0',
    '::ffff:224.0.0.1',
    'fd12::200:5efe:169.254.1.1',
  ],
  'what is not an address': ['', 'localhost', 'example.com', '1.2.3.4.5', '::g', '127.0.0.1:80', '[::1]'],
};

for (const [what, addresses] of Object.entries(forbidden))
  test(`${what} may never be a target, after DNS`, () => {
    for (const address of addresses) assert.ok(addressFault(address, 80, own), address);
  });

test('loopback, private, overlay and public addresses may be targets', () => {
  const addresses = [
    '127.0.0.1',
    '127.9.9.9',
    '::1',
    '10.0.0.1',
    '172.16.0.1',
    '192.168.0.1',
    '100.64.0.1',
    '100.100.100.201',
    'fd00::1',
    '93.184.216.34',
    '2606:2800:220:1::1',
    '::ffff:10.0.0.1',
    '64:ff9b::8.8.8.8',
  ];
  for (const address of addresses) assert.equal(addressFault(address, 3000, own), undefined, address);
});

test('our own ports may not be targets on loopback or where we listen, in any form', () => {
  for (const address of [
    '127.0.0.1',
    '127.0.0.2',
    '::1',
    '::ffff:127.0.0.1',
    '::127.0.0.1',
    '64:ff9b::7f00:1',
  ])
    for (const port of [8443, 8080]) assert.ok(addressFault(address, port, own), `${address} ${port}`);
  assert.ok(addressFault('192.168.1.5', 8080, own));
  assert.ok(addressFault('::ffff:192.168.1.5', 8080, own));
  assert.equal(addressFault('192.168.1.5', 8443, own), undefined);
  assert.equal(addressFault('192.168.1.6', 8080, own), undefined);
});

test('a listener on every interface is our own on each of them', () => {
  const interfaces = { eth0: [{ address: '192.168.1.7' }, { address: 'fd00::7' }] } as any;
  for (const bind of ['0.0.0.0', '::']) {
    const expanded = ownAddresses([{ address: bind, port: 8443 }], interfaces);
    for (const address of ['192.168.1.7', 'fd00::7', '127.0.0.1', '::1'])
      assert.ok(addressFault(address, 8443, expanded), address);
    assert.equal(addressFault('192.168.1.8', 8443, expanded), undefined);
  }
  assert.deepEqual(ownAddresses(own, interfaces), own);
});

test('incident row 12: a literal target is judged in any spelling, before it is written', () => {
  const urls = [
    'http://169.254.169.254/latest',
    'http://2852039166/',
    'http://0xa9fea9fe',
    'http://0251.0376.0251.0376',
    'http://169.254.43518',
    'http://0xa9.254.169.254',
    'http://169.254.169.254./',
    'http://[::ffff:169.254.169.254]',
    'http://[::ffff:a9fe:a9fe]:80',
    'http://[fe80::1]',
    'http://[::]',
    'http://0',
    'http://0.0.0.0:3000',
    'https://[ff02::1]',
    'http://①⑥⑨.254.169.254',
    'http://[64:ff9b::a9fe:a9fe]',
    'http://[fd00:ec2::254]',
    'http://localhost:8443',
    'http://LOCALHOST.:8443',
    'http://a.localhost:8080',
    'https://127.1:8443',
    'http://[::1]:8443',
    'http://2130706433:8080',
    'http://localhost:0',
  ];
  for (const url of urls) assert.ok(targetFault(url, own), url);
  assert.ok(targetFault('https://localhost', [{ address: '127.0.0.1', port: 443 }]));
  assert.ok(targetFault('http://localhost', [{ address: '127.0.0.1', port: 80 }]));
});

test('names and usual targets are let through; names are judged when they are resolved', () => {
  for (const url of [
    'http://localhost:3000',
    'http://10.0.0.5:8080/base',
    'https://upstream.example.com',
    'http://[::1]:3000',
  ])
    assert.equal(targetFault(url, own), undefined, url);
});

test('every embedding of a forbidden IPv4 address is forbidden, and of an allowed one allowed', () => {
  fc.assert(
    fc.property(fc.ipV4(), (ip) => {
      const [a, b, c, d] = ip.split('.').map(Number) as [number, number, number, number];
      const words = `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
      const plain = addressFault(ip, 80, []) === undefined;
      for (const form of [`::ffff:${words}`, `64:ff9b::${words}`, `::ffff:0:${words}`, `2002:${words}::1`])
        assert.equal(addressFault(form, 80, []) === undefined, plain, `${form} ${ip}`);
    }),
    { numRuns: 2000 },
  );
});

test('judging never throws', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.ipV6(), fc.webUrl()), (text) => {
      addressFault(text, 80, own);
      targetFault(text, own);
    }),
    { numRuns: 2000 },
  );
});
