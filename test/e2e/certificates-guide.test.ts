/** docs/guides/certificates.md: its settings are taken, and its commands do what it says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadConfig } from '../../src/config/load.ts';
import { asAdministrator, Guide, runShell } from '../support/guide.ts';
import { startProduct } from '../support/product.ts';

const guide = new Guide('certificates');

test('every block of settings is taken as it stands', async () => {
  const blocks = guide.blocks('yaml');
  assert.ok(blocks.length > 0);
  for (const block of blocks) {
    const files: Record<string, string> = { 'ohp.yaml': block };
    await loadConfig({ OHP_CONFIG: 'ohp.yaml' }, (path) => files[path] ?? 'aGVsbG8td29ybGQtYWdhaW4');
  }
});

test('each variable that a command sets is one that a start knows', async () => {
  const names = guide.blocks('bash').flatMap((block) => block.match(/\bOHP_[A-Z_]+(?==)/g) ?? []);
  assert.ok(names.includes('OHP_ACME_DIRECTORY'));
  const unknown = await loadConfig(
    Object.fromEntries([...names, 'OHP_X'].map((name) => [name, ''])),
    () => '',
  ).then(
    () => assert.fail('OHP_X is accepted'),
    (cause: Error) => cause.message,
  );
  for (const name of names) assert.ok(!unknown.includes(`${name}: unknown`), unknown);
});

test('explain certificate says why none is ordered on loopback, and looks at nothing', async () => {
  await using product = await startProduct();
  await product.api('POST', '/v1/proxies', { hostname: 'app.example.com', target_url: 'http://127.0.0.1:9' });
  const { code, out, err } = await runShell(guide.block('bash', 'npx ohp explain certificate'), {
    env: asAdministrator(product),
  });
  assert.equal(code, 0, err);
  assert.match(out, /app\.example\.com/);
  assert.match(out, /where no CA reaches them/);
});
