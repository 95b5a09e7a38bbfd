/** The engine of an installation by TLS: its PEM files are those of the moment, for each connection. Real engines: test/engines/. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { caPem, leafFor } from '../../test/support/gateway.ts';
import { systemClock } from '../core/clock.ts';
import { silentLog } from '../core/record.ts';
import { refusedAs } from './engine.contract.ts';
import { openEngine } from './open-engine.ts';
import { policySchema } from './policy.ts';

test('the certificate of an engine is held against its address, and a PEM file that was not there or not right is read again for the next call', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-engine-'));
  const server = createServer(
    { ...(await leafFor('127.0.0.1')), ca: caPem, requestCert: true },
    (_request, response) => response.setHeader('content-type', 'application/json').end('[]'),
  ).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
    rmSync(folder, { recursive: true });
  });
  const file = (name: string) => join(folder, name);
  const docker = {
    socket: '/nowhere',
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    ca_file: file('ca.pem'),
    cert_file: file('client.pem'),
    key_file: file('client.key'),
  };
  const engine = openEngine(
    { docker, policy: policySchema.parse({}) },
    { clock: systemClock, log: silentLog },
  );
  const client = await leafFor('client.example.com');
  writeFileSync(docker.ca_file, caPem);
  writeFileSync(docker.cert_file, client.cert);
  const missing = refusedAs('UNAVAILABLE', /docker: key_file can't be read: ENOENT/);
  await assert.rejects(engine.list({ all: true }), missing);
  writeFileSync(docker.key_file, client.key);
  assert.deepEqual(await engine.list({ all: true }), []);
  writeFileSync(docker.key_file, (await leafFor('other.example.com')).key);
  await assert.rejects(engine.list({ all: true }), refusedAs('UNAVAILABLE'), 'of another certificate');
  const renewed = await leafFor('client.example.com');
  writeFileSync(docker.cert_file, renewed.cert);
  writeFileSync(docker.key_file, renewed.key);
  assert.deepEqual(await engine.list({ all: true }), []);
});
