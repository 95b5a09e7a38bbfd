import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSecureContext } from 'node:tls';
import { DAY, ManualClock } from '../core/clock.ts';
import { silentLog } from '../core/record.ts';
import { Catalog, type Entry } from './catalog.ts';
import { Selector } from './select.ts';
import { newKeys, writeRoot } from './x509.ts';

const NOW = Date.UTC(2026, 0, 1);

test('of a host that checks clients the context stays with the vault alone, which bounds what those hold', async () => {
  const validity = { notBefore: NOW - DAY, notAfter: NOW + DAY };
  const clients = { ca_pem: writeRoot({ commonName: 'Clients', ...(await newKeys()) }, validity) };
  const entry: Entry = {
    ...validity,
    id: 'crt_1',
    source: 'acme',
    names: ['app.example.com'],
    createdAt: NOW,
    fingerprint: '',
  };
  const catalog = new Catalog();
  catalog.put(entry);
  const opened: unknown[] = [];
  const selector = new Selector({
    catalog,
    clock: new ManualClock(NOW),
    log: silentLog,
    fallback: 'app.example.com',
    servedAs: (hostname) => hostname,
    internal: async () => entry,
    open: async (_entry, trust) => {
      opened.push(trust);
      return createSecureContext();
    },
    onDemand: undefined,
  });
  for (let i = 0; i < 3; i++) await selector.select('app.example.com');
  assert.deepEqual(opened, [undefined]);
  for (let i = 0; i < 3; i++) await selector.select('app.example.com', clients);
  const [, trust, ...others] = opened;
  assert.ok(trust);
  assert.equal(others.length, 2);
  assert.ok(
    others.every((other) => other === trust),
    'the CAs were read once',
  );
});
