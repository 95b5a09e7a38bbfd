/** Commands of the settings on the running product: who holds one of them, by a token or by OAuth, runs that one and nothing else. */
import assert from 'node:assert/strict';
import test, { after } from 'node:test';
import { callTool, configFile, grant, outcomeOf, postMcp, send } from '../support/callers.ts';
import { startOnFixedPorts } from '../support/oauth.ts';

const PERMISSION = 'commands:run:say';
const parameters = { word: { type: 'string', pattern: '[a-z]+' } };
const templates = {
  say: { argv: ['echo', '{word}'], parameters },
  other: { argv: ['echo', 'other'] },
};
const product = await startOnFixedPorts({ env: { OHP_CONFIG: configFile({ commands: { templates } }) } });
after(() => product[Symbol.asyncDispose]());

/** By a client of an administrator that acts for itself. */
async function byOAuth(): Promise<string> {
  const body = { name: 'deploy', permissions: [PERMISSION] };
  const made = await send(product, { method: 'POST', path: '/v1/clients', token: product.adminToken, body });
  assert.equal(made.status, 201, made.text);
  const { id, secret } = made.json;
  const reply = await send(product, {
    method: 'POST',
    path: '/oauth/token',
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`,
    },
    body: new URLSearchParams({
      grant_type: 'client_credentials',
      scope: `${PERMISSION} commands:run`,
      resource: `http://localhost:${product.httpPort}/mcp`,
    }).toString(),
  });
  assert.equal(reply.status, 200, reply.text);
  assert.equal(reply.json.scope, PERMISSION);
  return reply.json.access_token;
}

for (const [how, tokenOf] of Object.entries({
  'a token': async () => (await grant(product, { permissions: [PERMISSION] })).secret,
  OAuth: byOAuth,
}))
  test(`by ${how} one command of the settings is granted, listed and run, and no other`, async () => {
    const token = await tokenOf();
    const run = (args: object) => callTool(product, token, { name: 'run_command', args });
    const said = await run({ command: 'say', parameters: { word: 'hello' } });
    assert.equal(said.json.result.structuredContent.stdout, 'hello\n', said.text);
    for (const command of ['other', 'uptime', 'say; id'])
      assert.equal(outcomeOf(await run({ command })), 'FORBIDDEN', command);
    const list = await postMcp(product, { token, body: { jsonrpc: '2.0', id: 1, method: 'tools/list' } });
    const names = list.json.result.tools.map(({ name }: { name: string }) => name);
    assert.ok(names.includes('run_command'), names.join());
    assert.ok(!names.includes('list_proxies'), names.join());
    const stranger = (await grant(product, { permissions: ['logs:read'] })).secret;
    const refused = await callTool(product, stranger, { name: 'run_command', args: { command: 'say' } });
    assert.equal(refused.status, 403);
  });
