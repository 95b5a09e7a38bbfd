/** Secrets of services, commands and registries, planted as their users do, are in no answer, no question and no file. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { runCommand } from '../../src/admin/run-command.ts';
import { questionOf } from '../../src/interfaces/cli/prompt.ts';
import { configFile, generous } from '../support/callers.ts';
import { startProduct } from '../support/product.ts';

const CANARY = /canary-[a-z]+-4711/;

test('incident 29: a named secret, a secret parameter and the password of a registry are nowhere but where they go', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-canary-'));
  const password_file = join(folder, 'password');
  writeFileSync(password_file, 'canary-registry-4711');
  const commands = {
    templates: {
      show: {
        argv: ['true', '{key}'],
        parameters: { key: { type: 'string', pattern: '.{1,40}', secret: true } },
      },
    },
  };
  const services = {
    images: ['registry.example.com/**'],
    registries: { 'registry.example.com': { username: 'ann', password_file } },
  };
  const settings = configFile({ ...generous, commands, services });
  const product = await startProduct({ env: { OHP_CONFIG: settings, OHP_LOG_LEVEL: 'debug' } });
  try {
    const secret = { value: 'canary-named-4711' };
    const call = { command: 'show', parameters: { key: 'canary-parameter-4711' } };
    const answers = [
      await product.api('PUT', '/v1/secrets/db-password', secret),
      await product.api('PUT', '/v1/secrets/NOT A NAME', secret),
      await product.api('GET', '/v1/secrets'),
      await product.api('POST', '/v1/commands', call),
      await product.api('POST', '/v1/commands', { ...call, more: true }),
      await product.api('GET', '/v1/commands'),
      await product.api('POST', '/v1/image-pulls', { image: 'registry.example.com/app:1' }),
      await product.api('GET', '/v1/logs?limit=100'),
    ];
    assert.deepEqual([answers[0]?.status, answers[3]?.status], [200, 200], JSON.stringify(answers));
    assert.doesNotMatch(JSON.stringify(answers.map(({ body }) => body)), CANARY);
    assert.equal(questionOf(runCommand), undefined, 'the command line asks nothing that could show them');
    await product.stop();
    const files = readdirSync(product.dataDir, { recursive: true, encoding: 'utf8' })
      .map((name) => join(product.dataDir, name))
      .filter((path) => statSync(path).isFile());
    for (const path of files) assert.doesNotMatch(readFileSync(path, 'latin1'), CANARY, path);
  } finally {
    await product[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  }
});
