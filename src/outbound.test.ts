/** What a setting names is not asked where clouds keep credentials, by number or by name, at the moment of connecting. */
import assert from 'node:assert/strict';
import dns, { type LookupAddress } from 'node:dns';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { syncBuiltinESMExports } from 'node:module';
import type { AddressInfo } from 'node:net';
import test from 'node:test';
import { isDialable, isServiceUrl } from './core/dial.ts';
import { createOutbound } from './outbound.ts';

type Answer = (error: Error | null, addresses: LookupAddress[]) => void;

test('addresses that are link-local, of the metadata services of clouds, or nobody’s, are told in any spelling; private ones and loopback are fine', () => {
  for (const address of [
    '169.254.169.254',
    '169.254.0.1',
    '100.100.100.200',
    '168.63.129.16',
    '0.0.0.0',
    '224.0.0.1',
    '255.255.255.255',
    '::',
    'fe80::1',
    'ff02::1',
    'fd00:ec2::254',
    'fd20:ce::254',
    '::ffff:169.254.169.254',
    '::ffff:a9fe:a9fe',
    'nothing',
  ])
    assert.equal(isDialable(address), false, address);
  for (const address of [
    '127.0.0.1',
    '10.0.0.7',
    '192.168.1.1',
    '::1',
    'fd00::7',
    '::ffff:10.0.0.7',
    '8.8.8.8',
  ])
    assert.equal(isDialable(address), true, address);
});

test('a setting names services by http and https, without a user and at no such address', () => {
  for (const url of ['http://127.0.0.1:5000/may', 'https://hooks.company.io/x?y=1', 'http://[fd00::7]/'])
    assert.equal(isServiceUrl(url), true, url);
  for (const url of [
    'ftp://company.io/',
    'https://a:b@company.io/',
    'https://company.io/#x',
    'no url',
    'http://169.254.169.254/',
    'http://2852039166/',
    'http://[fe80::1]/',
    'http://[::ffff:169.254.169.254]/',
  ])
    assert.equal(isServiceUrl(url), false, url);
});

test('a service at loopback is asked; one whose name leads to a metadata address, among others too, or whose URL has it, is not connected to', async (t) => {
  let requests = 0;
  const server = createServer((_request, response) => {
    requests++;
    response.writeHead(302, { location: 'http://169.254.169.254/' }).end();
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close().closeAllConnections());
  const { port } = server.address() as AddressInfo;
  await using outbound = createOutbound();
  assert.equal((await outbound(`http://127.0.0.1:${port}/`)).status, 302, 'and no redirect is followed');
  const local = { address: '127.0.0.1', family: 4 };
  const answers: LookupAddress[][] = [
    [{ address: '169.254.169.254', family: 4 }, local],
    [local, { address: 'fd00:ec2::254', family: 6 }],
  ];
  t.mock.method(dns, 'lookup', (_name: string, _options: object, answer: Answer) =>
    answer(null, answers.shift() ?? [local]),
  );
  syncBuiltinESMExports();
  t.after(() => {
    t.mock.restoreAll();
    syncBuiltinESMExports();
  });
  for (const address of [/169\.254\.169\.254/, /fd00:ec2::254/])
    await assert.rejects(outbound(`http://service.test:${port}/`), ({ cause }: Error) =>
      address.test(String(cause)),
    );
  await assert.rejects(outbound('http://169.254.169.254/'), /not fetched from/);
  assert.equal(requests, 1);
  assert.equal((await outbound(`http://service.test:${port}/`)).status, 302);
});
