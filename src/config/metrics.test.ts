import assert from 'node:assert/strict';
import test from 'node:test';
import { metricsSettings } from '../app.settings.ts';
import { loadConfig } from './load.ts';
import { ConfigError } from './problem.ts';

const settingsOf = async (metrics: object) =>
  metricsSettings(await loadConfig({ OHP_CONFIG: 'o.yaml' }, () => JSON.stringify({ metrics })));

test('metrics have no listener of their own unless one is set', async () => {
  assert.equal(await settingsOf({}), undefined);
  const config = await loadConfig({ OHP_METRICS_LISTEN: '127.0.0.1:9464' }, () => '');
  assert.deepEqual(metricsSettings(config), { address: '127.0.0.1', port: 9464, isOpen: true });
});

test('it is open on an address of loopback or of a private network, and asks for a token on any other, unless it is said', async () => {
  for (const [listen, isOpen] of [
    ['127.0.0.1:0', true],
    ['[::1]:9464', true],
    ['10.1.2.3:9464', true],
    ['172.16.0.1:9464', true],
    ['192.168.1.1:9464', true],
    ['100.64.0.1:9464', true],
    ['[fd00::1]:9464', true],
    ['[::ffff:10.0.0.1]:9464', true],
    ['0.0.0.0:9464', false],
    ['[::]:9464', false],
    ['203.0.113.1:9464', false],
    ['[2001:db8::1]:9464', false],
    ['[::ffff:203.0.113.1]:9464', false],
    ['169.254.0.1:9464', false],
  ] as const) {
    assert.equal((await settingsOf({ listen }))?.isOpen, isOpen, listen);
    assert.equal((await settingsOf({ listen, access: 'open' }))?.isOpen, true, listen);
    assert.equal((await settingsOf({ listen, access: 'token' }))?.isOpen, false, listen);
  }
});

test('what is no address with a port is refused', async () => {
  for (const listen of [
    '9464',
    ':9464',
    '127.0.0.1',
    '127.0.0.1:',
    '127.0.0.1:99999',
    '127.0.0.1:x',
    '::1:9464',
    '[127.0.0.1]:9464',
    '[::1%lo]:9464',
    'localhost:9464',
    '1.2.3:9464',
    '127.0.0.1:9464 ',
  ])
    await assert.rejects(settingsOf({ listen }), ConfigError, listen);
  await assert.rejects(settingsOf({ listen: '127.0.0.1:1', access: 'public' }), ConfigError);
});
