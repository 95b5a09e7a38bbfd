/** Every URL that a start prints answers: a person copies the first one and has to be connected. */
import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { LookupFunction } from 'node:net';
import { networkInterfaces } from 'node:os';
import test from 'node:test';
import { configFile } from '../support/callers.ts';
import { type Product, startProduct } from '../support/product.ts';

/** Names lead where the operator's DNS would lead them: to the process. `localhost` leads where it always does. */
const leadingTo =
  (address: string): LookupFunction =>
  (hostname, _options, done) =>
    done(null, [{ address: hostname === 'localhost' ? '127.0.0.1' : address, family: 4 }]);

function statusOf(url: string, { ca }: Product, bind: string): Promise<number | undefined> {
  const request = url.startsWith('https:') ? httpsRequest : httpRequest;
  return new Promise((resolve, reject) => {
    request(url, { method: 'POST', ca, lookup: leadingTo(bind), agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode);
    })
      .on('error', reject)
      .end();
  });
}

const cases: [what: string, settings: object, urls: number, bind?: string][] = [
  ['with no settings', {}, 2],
  ['with a control host of its own', { control: { hosts: ['admin.example.com'] } }, 2],
  ['bound to another address of loopback', { bind: '127.0.0.2' }, 1, '127.0.0.2'],
  [
    'bound to it with a control host of its own',
    { bind: '127.0.0.2', control: { hosts: ['admin.example.com'] } },
    2,
    '127.0.0.2',
  ],
  ['bound to every interface', { bind: '0.0.0.0' }, 2],
];
for (const [what, settings, count, bind = '127.0.0.1'] of cases)
  test(`each MCP URL that is printed ${what} asks for a credential, and the listeners are found well`, async () => {
    await using product = await startProduct({ env: { OHP_CONFIG: configFile(settings) } });
    const printed = [...product.output().matchAll(/https?:\/\/[^\s"]+\/mcp/g)].map(([url]) => url);
    assert.equal(new Set(printed).size, count, product.output());
    for (const url of new Set(printed)) assert.equal(await statusOf(url, product, bind), 401, url);
    if (count === 1)
      assert.match(product.output(), /localhost does not lead to 127\.0\.0\.2: set control\.hosts/);
    const [base = ''] = printed;
    const health = await fetch(base.replace('/mcp', '/v1/health'), {
      headers: { authorization: `Bearer ${product.adminToken}` },
    });
    const { components } = (await health.json()) as {
      components: { name: string; status: string; message: string }[];
    };
    const listeners = components.find(({ name }) => name === 'listeners');
    assert.equal(listeners?.status, 'ok', listeners?.message);
  });

test('bound to an address of the network alone, nothing is told about plain HTTP, which would answer nobody', async (t) => {
  const address = Object.values(networkInterfaces())
    .flat()
    .find((one) => one && !one.internal && one.family === 'IPv4')?.address;
  if (address === undefined) return t.skip('this machine has loopback only');
  const settings = { bind: address, control: { hosts: ['admin.example.com'] } };
  await using product = await startProduct({ env: { OHP_CONFIG: configFile(settings) } });
  assert.doesNotMatch(product.output(), /http:\/\//);
  const [url = ''] = /https:\/\/[^\s"]+\/mcp/.exec(product.output()) ?? [];
  assert.equal(await statusOf(url, product, address), 401);
  assert.match(product.output(), /curl --cacert \S+ https:\/\/admin\.example\.com:\d+\/mcp/);
});
