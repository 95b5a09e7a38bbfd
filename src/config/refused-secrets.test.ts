/** What a start that is refused prints is read by whoever reads the journal: no credential of the settings is in it. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { loadConfig } from './load.ts';
import { ConfigError } from './problem.ts';

const told = async (text: string): Promise<string> => {
  try {
    await loadConfig({ OHP_CONFIG: 'o.yaml' }, () => text);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.message;
  }
  return assert.fail('was accepted');
};

/** Setting → a line of it that is refused, with a canary where people put passwords and keys. */
const refused = {
  'control.public_url': 'control: {public_url: "https://user:canary@proxy.example.com/"}',
  'oauth.upstreams.0.issuer':
    'oauth: {upstreams: [{name: a, title: A, kind: oidc, issuer: "https://canary@idp.example.com", client_id: x, client_secret: s, allow: {everyone: true}}]}',
  'acme.directory': 'acme: {directory: "https://user:canary/with@more@ca.example.com/dir"}',
  'acme.on_demand.ask': 'acme: {on_demand: {ask: "ftp://127.0.0.1:5000/?key=canary"}}',
  'dns.0.url':
    'dns: [{provider: webhook, zones: [example.org], url: "http://dns.example.com/?canary", secret: {env: X}}]',
  'dns.0.server':
    'dns: [{provider: rfc2136, zones: [example.org], server: "user:canary@ns.example.com", key_name: k, secret: {env: X}}]',
  'alerts.webhook_url':
    'alerts: {webhook_url: "http://user:canary@127.0.0.1/?token=canary", webhook_secret: a-secret-of-the-receiver}',
  'alerts.smtp.host':
    'alerts: {smtp: {host: "user:canary@mail.example.com", from: a@example.com, to: [b@example.com]}}',
  'telemetry.otlp.endpoint': 'telemetry: {otlp: {endpoint: "https://otlp.example.com/?api-key=canary"}}',
  'services.registries':
    'services: {registries: {"https://user:canary@registry.example.com": {username: u, password_file: /x}}}',
};

for (const [setting, text] of Object.entries(refused))
  test(`incident 29: ${setting} that is refused is shown without what stands in it as a credential`, async () => {
    const message = await told(text);
    assert.ok(message.includes(setting), message);
    assert.doesNotMatch(message, /canary/);
  });

/** What makes the URL none, or where else a credential stands in what should be one. */
const malformed = {
  'a space in a password': 'control: {public_url: "https://user:of canary@proxy.example.com/"}',
  'a line break in a password': 'acme: {directory: "https://user:of\\ncanary@ca.example.com/dir"}',
  'a slash in a password':
    'alerts: {smtp: {host: "user:/canary@mail.example.com", from: a@example.com, to: [b@example.com]}}',
  'one slash before a user': 'acme: {directory: "https:/user:canary@ca.example.com/dir"}',
  'a fragment': 'acme: {directory: "http://ca.example.com/dir#token=canary"}',
  'a key that is no setting':
    'services: {"https://user:canary@registry.example.com": {username: u, password_file: /x}}',
};

for (const [what, text] of Object.entries(malformed))
  test(`incident 29: ${what}, in a setting that is refused, shows no credential`, async () => {
    const message = await told(text);
    assert.match(message, /\[redacted\]/);
    assert.doesNotMatch(message, /canary/);
  });

test('what is wrong is shown still: host, path, and an address of mail', async () => {
  assert.match(await told(refused['acme.directory']), /found "https:\/\/\[redacted\]@ca\.example\.com\/dir"/);
  assert.match(
    await told(refused['acme.on_demand.ask']),
    /found "ftp:\/\/127\.0\.0\.1:5000\/\?\[redacted\]"/,
  );
  const mail = 'alerts: {smtp: {host: mail.example.com, from: a@example..com, to: [b@example.com]}}';
  assert.match(await told(mail), /found "a@example\.\.com"/);
});

test('incident 29: a file that can not be read as YAML is told by its line, not by what stands there', async () => {
  for (const text of [
    'alerts:\n  webhook_secret: canary\n bad: [',
    'a: "canary',
    'a: canary\na: canary\n',
    'canary',
    '? {canary: [}',
  ])
    assert.doesNotMatch(await told(text), /canary/, text);
});
