/** What a setting names is not asked where clouds keep credentials, by number or by name, at the moment of connecting. */
import assert from 'node:assert/strict';
import dns, { type LookupAddress } from 'node:dns';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { syncBuiltinESMExports } from 'node:module';
import type { AddressInfo } from 'node:net';
import test, { type TestContext } from 'node:test';
import { forbiddenAddress } from './core/addresses.ts';
import { isServiceUrl } from './core/dial.ts';
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
    '::169.254.169.254',
    '::ffff:0:169.254.169.254',
    '64:ff9b::a9fe:a9fe',
    '64:ff9b::100.100.100.200',
    '2002:a9fe:a9fe::1',
    'fe80::1%eth0',
    'nothing',
  ])
    assert.notEqual(forbiddenAddress(address), undefined, address);
  for (const address of [
    '127.0.0.1',
    '10.0.0.7',
    '192.168.1.1',
    '::1',
    'fd00::7',
    '::ffff:10.0.0.7',
    '64:ff9b::8.8.8.8',
    '2002:808:808::1',
    '8.8.8.8',
  ])
    assert.equal(forbiddenAddress(address), undefined, address);
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
    'http://[64:ff9b::169.254.169.254]/',
    'http://[2002:a9fe:a9fe::]/',
  ])
    assert.equal(isServiceUrl(url), false, url);
});

/** An answer of the name service for each question, in turn; the last one again. */
function answers(t: TestContext, ...lists: string[][]): void {
  t.mock.method(dns, 'lookup', (_name: string, _options: object, answer: Answer) => {
    const addresses = lists.length > 1 ? lists.shift() : lists[0];
    answer(
      null,
      (addresses ?? []).map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    );
  });
  syncBuiltinESMExports();
  t.after(() => {
    t.mock.restoreAll();
    syncBuiltinESMExports();
  });
}

async function service(t: TestContext) {
  const served = { requests: 0, port: 0 };
  const server = createServer((_request, response) => {
    served.requests++;
    response.writeHead(302, { location: 'http://169.254.169.254/' }).end();
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close().closeAllConnections());
  served.port = (server.address() as AddressInfo).port;
  return served;
}

test('a service at loopback is asked; one whose name leads to metadata addresses only, or whose URL has one, is not connected to, and who asks reads why', async (t) => {
  const served = await service(t);
  await using outbound = createOutbound();
  const { status } = await outbound(`http://127.0.0.1:${served.port}/`);
  assert.equal(status, 302, 'and no redirect is followed');
  answers(t, ['169.254.169.254'], ['64:ff9b::a9fe:a9fe', 'fd00:ec2::254'], []);
  for (const message of [
    /^service\.test is not fetched from: 169\.254\.169\.254 is the metadata service/,
    /64:ff9b::a9fe:a9fe is the metadata service of a cloud, fd00:ec2::254 is/,
    /^service\.test has no address$/,
  ])
    await assert.rejects(outbound(`http://service.test:${served.port}/`), {
      name: 'AddressRefused',
      message,
    });
  await assert.rejects(outbound('http://169.254.169.254/'), /not fetched from/);
  assert.equal(served.requests, 1);
});

test('of a name that has a link-local address too, as names of the own network have, the others are connected to', async (t) => {
  const served = await service(t);
  await using outbound = createOutbound();
  answers(t, ['fe80::1', '127.0.0.1']);
  assert.equal((await outbound(`http://printer.local:${served.port}/`)).status, 302);
});

test('a Request is refused: what it holds would be lost', async () => {
  await using outbound = createOutbound();
  const request = new Request('http://127.0.0.1/', { method: 'POST', body: 'x' });
  await assert.rejects(outbound(request), /a Request is not taken/);
});
