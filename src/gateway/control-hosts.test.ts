import assert from 'node:assert/strict';
import test from 'node:test';
import { authorityOf } from '../routes/normalise.ts';
import { ControlHosts } from './control-hosts.ts';
import { settingsWith } from '../../test/support/gateway.ts';

test('a control host is one that is set, or a loopback address from there', () => {
  const hosts = new ControlHosts(settingsWith({ controlHosts: ['Localhost', 'admin.example.com'] }));
  assert.ok(hosts.isControl('localhost', false) && hosts.isControl('admin.example.com', false));
  assert.ok(hosts.isControl('127.0.0.1', true) && hosts.isControl('::1', true));
  assert.ok(!hosts.isControl('127.0.0.1', false) && !hosts.isControl('a.admin.example.com', true));
});

test('absolute URLs have the port only where it is needed, and the public URL where it is the host’s own', () => {
  assert.equal(authorityOf('a.example.com', 443, 'https'), 'a.example.com');
  assert.equal(authorityOf('a.example.com', 443, 'http'), 'a.example.com:443');
  assert.equal(authorityOf('::1', 8443, 'https'), '[::1]:8443');
  const hosts = new ControlHosts(settingsWith({ publicUrl: 'https://admin.example.com:9443/' }));
  assert.equal(
    hosts.baseUrl('http', 'admin.example.com', 'admin.example.com'),
    'https://admin.example.com:9443',
  );
  assert.equal(hosts.baseUrl('https', 'localhost', 'localhost:8443'), 'https://localhost:8443');
});
