import assert from 'node:assert/strict';
import test from 'node:test';
import { AddressUses } from './address-use.ts';

test('connections of an address are counted together, and forgotten with the last of them', () => {
  const uses = new AddressUses();
  uses.connected('203.0.113.7');
  const use = uses.of('203.0.113.7');
  uses.connected('203.0.113.7');
  uses.connected('203.0.113.8');
  use.requests++;
  assert.deepEqual(uses.of('203.0.113.7'), { connections: 2, requests: 1 });
  assert.deepEqual(uses.of('203.0.113.8'), { connections: 1, requests: 0 });
  for (const address of ['203.0.113.7', '203.0.113.8', '203.0.113.7']) uses.disconnected(address);
  assert.equal(uses.size, 0);
});

test('a network of IPv6 that one client has for itself counts as one client', () => {
  const uses = new AddressUses();
  for (let i = 1; i <= 100; i++) uses.connected(`2001:db8:1:2::${i.toString(16)}`);
  assert.equal(uses.of('2001:db8:1:2:ffff::9').connections, 100);
  assert.equal(uses.of('2001:db8:1:3::1').connections, 0);
  assert.equal(uses.size, 1);
});
