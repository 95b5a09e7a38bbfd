import assert from 'node:assert/strict';
import test, { suite } from 'node:test';
import { parse } from 'yaml';
import { z } from 'zod';
import { Guide } from '../../../test/support/guide.ts';
import { dnsSettingsShape, parseServer } from './schema.ts';

const settings = z.strictObject(dnsSettingsShape);
const providers = (...dns: unknown[]) => settings.safeParse({ dns });
const webhook = { zones: ['example.com'], provider: 'webhook', url: 'https://dns.example.com/acme' };

suite('settings of the DNS', () => {
  test('every YAML block of the guide is accepted, and every kind of provider is in it', () => {
    const blocks = new Guide('dns-providers').blocks('yaml');
    const kinds = blocks.flatMap((block) => {
      const parsed = settings.safeParse(parse(block));
      assert.ok(parsed.success, `${block}\n${parsed.error?.message}`);
      return parsed.data.dns.map(({ provider }) => provider);
    });
    assert.deepEqual([...new Set(kinds)].sort(), ['cloudflare', 'exec', 'rfc2136', 'route53', 'webhook']);
  });

  test('nothing has to be set', () => {
    assert.deepEqual(settings.parse({}), { dns: [], dns_propagation_timeout_ms: 300_000 });
  });

  test('zones and names of keys come out in canonical form', () => {
    const parsed = settings.parse({
      dns: [
        {
          provider: 'rfc2136',
          zones: ['Example.COM.', 'bücher.example'],
          key_name: 'Acme.',
          secret: { file: '/run/secrets/tsig' },
        },
      ],
    });
    assert.deepEqual(parsed.dns[0], {
      provider: 'rfc2136',
      zones: ['example.com', 'xn--bcher-kva.example'],
      key_name: 'acme',
      secret: { file: '/run/secrets/tsig' },
      port: 53,
      algorithm: 'hmac-sha256',
      use: 'last',
    });
  });

  const refused: [string, unknown, RegExp][] = [
    [
      'a secret in the settings',
      { ...webhook, secret: 'hunter2' },
      /secrets do not stand in the settings themselves/,
    ],
    ['a secret in two places', { ...webhook, secret: { file: '/a', env: 'B' } }, /has to be { file/],
    ['a relative path', { ...webhook, secret: { file: 'token' } }, /has to be { file|absolute path/],
    ['HTTP to another machine', { ...webhook, url: 'http://dns.example.com' }, /has to be an https:\/\/ URL/],
    ['HTTP to what looks like loopback', { ...webhook, url: 'http://127.0.0.1.example.com' }, /https:\/\//],
    ['a password in a URL', { ...webhook, url: 'https://u:p@dns.example.com' }, /without a user name/],
    ['another scheme', { ...webhook, url: 'file:///etc/passwd' }, /https:\/\//],
    ['an unknown provider', { ...webhook, provider: 'godaddy' }, /provider|discriminator/i],
    ['an unknown key', { ...webhook, tokn: 'x' }, /tokn/],
    ['no zone', { ...webhook, zones: [] }, />=1|at least/],
    ['a wildcard as zone', { ...webhook, zones: ['*.example.com'] }, /has to be a zone such as/],
    ['a program by name', { zones: ['a.example'], provider: 'exec', command: ['nsupdate'] }, /absolute path/],
    ['a command as text', { zones: ['a.example'], provider: 'exec', command: '/bin/sh -c x' }, /tuple|array/],
    [
      'a weak algorithm',
      {
        zones: ['a.example'],
        provider: 'rfc2136',
        key_name: 'k',
        algorithm: 'hmac-md5',
        secret: { env: 'K' },
      },
      /hmac-sha256/,
    ],
  ];
  for (const [what, provider, words] of refused)
    test(`${what} is refused`, () => {
      const parsed = providers(provider);
      assert.ok(!parsed.success);
      assert.match(JSON.stringify(parsed.error.issues).replaceAll('\\"', '"'), words);
      assert.doesNotMatch(z.prettifyError(parsed.error), /hunter2/);
    });

  test('HTTP on this machine is accepted', () => {
    for (const host of ['127.0.0.1:8053', '[::1]:8053', 'localhost:8053', '127.1'])
      assert.ok(providers({ ...webhook, url: `http://${host}/` }).success, host);
  });

  test('a zone has one provider', () => {
    const parsed = providers(webhook, { ...webhook, zones: ['other.example', 'EXAMPLE.com'] });
    assert.match(parsed.error?.message ?? '', /example.com is a zone of two providers/);
  });

  test('resolvers are addresses with a port or without', () => {
    const read: [string, { address: string; port: number } | undefined][] = [
      ['192.0.2.1', { address: '192.0.2.1', port: 53 }],
      ['192.0.2.1:5353', { address: '192.0.2.1', port: 5353 }],
      ['2001:db8::1', { address: '2001:db8::1', port: 53 }],
      ['[2001:db8::1]', { address: '2001:db8::1', port: 53 }],
      ['[2001:db8::1]:5353', { address: '2001:db8::1', port: 5353 }],
      ...[
        '',
        'dns.example',
        '192.0.2.1:0',
        '192.0.2.1:65536',
        '192.0.2.300',
        '[192.0.2.1]:53',
        '192.0.2.1:',
      ].map((text): [string, undefined] => [text, undefined]),
    ];
    for (const [text, server] of read) assert.deepEqual(parseServer(text), server, text);
    assert.ok(!settings.safeParse({ dns_resolvers: ['dns.example'] }).success);
  });
});
