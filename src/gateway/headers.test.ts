import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { headerRules } from '../proxies/schema.ts';
import {
  compileRules,
  fieldRecord,
  requestHeaders,
  responseHeaders,
  trailersOf,
  type HeaderPlan,
  type RequestFacts,
} from './headers.ts';

const noRules = compileRules(headerRules.parse({}));
const plan: HeaderPlan = { host: undefined, rules: noRules, loopToken: 'ohp-1' };
const stranger = { address: '203.0.113.7', isLoopback: false, isTrusted: false };
const front = { address: '10.0.0.1', isLoopback: false, isTrusted: true };

function facts(rawHeaders: string[], more: Partial<RequestFacts> = {}): RequestFacts {
  const headers: Record<string, string> = {};
  for (let i = 0; i < rawHeaders.length; i += 2) headers[rawHeaders[i]!.toLowerCase()] ??= rawHeaders[i + 1]!;
  return {
    rawHeaders,
    headers,
    peer: stranger,
    clientAddress: (more.peer ?? stranger).address,
    scheme: 'https',
    authority: 'app.example.com',
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    tracestate: undefined,
    passesCredential: true,
    identity: [],
    ...more,
  };
}

function sent(rawHeaders: string[], more: Partial<RequestFacts> = {}, by: HeaderPlan = plan) {
  return fieldRecord(requestHeaders(facts(rawHeaders, more), by));
}

/** Incident 14: names by which upstreams have been told who is calling, from advisories and manuals. */
const identity = [
  'X-Auth-User',
  'X-Auth-Email',
  'X-Auth-Groups',
  'X-Auth-Scopes',
  'X-Forwarded-User',
  'X-Forwarded-Email',
  'X-Forwarded-Groups',
  'X-Forwarded-Preferred-Username',
  'X-Forwarded-Access-Token',
  'Remote-User',
  'Remote-Email',
  'Remote-Groups',
  'Remote-Name',
  'X-Remote-User',
  'X-Real-IP',
  'X-WebAuth-User',
  'X-Authenticated-User',
  'X-Authenticated-Userid',
  'X-Auth-Request-User',
  'X-Auth-Request-Email',
  'Ssl-Client-Verify',
  'Ssl-Client-Cert',
  'X-Ssl-Client-Cert',
  'X-Ssl-Client-S-Dn',
  'X-Client-Cert',
  'X-Client-Cert-Chain',
  'X-Forwarded-Client-Cert',
  'X-Forwarded-Tls-Client-Cert',
  'Client-Cert',
  'X-Amzn-Oidc-Identity',
  'X-Goog-Authenticated-User-Email',
  'Cf-Access-Authenticated-User-Email',
  'Tailscale-User-Login',
  'X-Ms-Client-Principal-Id',
  'X-Original-URL',
  'X-Rewrite-URL',
  'X-Original-Host',
  'Proxy',
  'Proxy-Authorization',
  'Proxy-Connection',
];

test('names that say who someone is never pass, from anyone, in any spelling', () => {
  const spellings = [
    (name: string) => name,
    (name: string) => name.toLowerCase(),
    (name: string) => name.toUpperCase(),
    (name: string) => name.replaceAll('-', '_'),
    (name: string) => name.replaceAll('-', '.'),
    (name: string) => name.replace('-', '_'),
  ];
  for (const name of identity)
    for (const spell of spellings)
      for (const peer of [stranger, front]) {
        const result = requestHeaders(facts([spell(name), 'canary', 'X-Kept', 'yes'], { peer }), plan);
        assert.ok(!result.includes('canary'), spell(name));
        assert.ok(result.includes('X-Kept'));
      }
});

test('property: no spelling with - _ . and case gets an identity name through', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...identity),
      fc.infiniteStream(fc.constantFrom('-', '_', '.')),
      fc.infiniteStream(fc.boolean()),
      (name, separators, cases) => {
        const spelled = name
          .split('')
          .map((character) =>
            character === '-'
              ? separators.next().value
              : cases.next().value
                ? character.toUpperCase()
                : character.toLowerCase(),
          )
          .join('');
        return !requestHeaders(facts([spelled, 'canary']), plan).includes('canary');
      },
    ),
  );
});

test('what frames the message or belongs to the hop is not passed on, nor another spelling of it', () => {
  for (const name of [
    'Connection',
    'Keep-Alive',
    'TE',
    'Trailer',
    'Transfer-Encoding',
    'Upgrade',
    'HTTP2-Settings',
    'Expect',
    'transfer_encoding',
    'Content_Length',
    'Content.Length',
    'keep_alive',
  ])
    assert.ok(!requestHeaders(facts([name, 'canary']), plan).includes('canary'), name);
});

test('fields that Connection names are removed, ours stay', () => {
  const fields = sent([
    'Connection',
    'keep-alive, X-Hop , x-forwarded-for,Host',
    'X-Hop',
    '1',
    'X-Kept',
    '2',
  ]);
  assert.equal(fields['x-hop'], undefined);
  assert.equal(fields['x-kept'], '2');
  assert.equal(fields['x-forwarded-for'], '203.0.113.7');
  assert.equal(fields.host, 'app.example.com');
});

test('TE says trailers and nothing else', () => {
  assert.equal(sent(['TE', 'gzip, trailers;q=0.5, deflate']).te, undefined);
  assert.equal(sent(['TE', 'gzip, Trailers']).te, 'trailers');
  assert.equal(sent(['TE', 'gzip']).te, undefined);
});

test('forwarded fields of a stranger are replaced', () => {
  const fields = sent([
    'X-Forwarded-For',
    '1.1.1.1',
    'X-Forwarded-Proto',
    'http',
    'X-Forwarded-Host',
    'evil.example.net',
    'X-Forwarded-Port',
    '1',
    'X-Forwarded-Prefix',
    '/evil',
    'Forwarded',
    'for=1.1.1.1',
    'CF-Connecting-IP',
    '1.1.1.1',
    'True-Client-IP',
    '1.1.1.1',
    'x_forwarded_for',
    '1.1.1.1',
    'Front-End-Https',
    'on',
  ]);
  assert.deepEqual(
    [fields['x-forwarded-for'], fields['x-forwarded-proto'], fields['x-forwarded-host'], fields.forwarded],
    ['203.0.113.7', 'https', 'app.example.com', 'for=203.0.113.7;host="app.example.com";proto=https'],
  );
  for (const name of [
    'x-forwarded-port',
    'x-forwarded-prefix',
    'cf-connecting-ip',
    'true-client-ip',
    'x_forwarded_for',
    'front-end-https',
  ])
    assert.equal(fields[name], undefined, name);
});

test('forwarded fields of a trusted proxy are continued', () => {
  const fields = sent(
    ['X-Forwarded-For', '198.51.100.1', 'X-Forwarded-Host', 'a.example.com', 'X-Forwarded-Port', '443'],
    {
      peer: front,
      clientAddress: '198.51.100.1',
    },
  );
  assert.equal(fields['x-forwarded-for'], '198.51.100.1, 10.0.0.1');
  assert.equal(fields['x-forwarded-host'], 'a.example.com');
  assert.equal(fields['x-forwarded-port'], '443');
  assert.equal(fields.forwarded, 'for=198.51.100.1, for=10.0.0.1;host="app.example.com";proto=https');
});

test('a chain that told two stories is not continued', () => {
  const fields = sent(['X-Forwarded-For', '1.1.1.1', 'Forwarded', 'for=2.2.2.2'], { peer: front });
  assert.equal(fields['x-forwarded-for'], '10.0.0.1');
  assert.equal(fields.forwarded, 'for=10.0.0.1;host="app.example.com";proto=https');
});

test('an IPv6 address is quoted in Forwarded', () => {
  const peer = { ...stranger, address: '2001:db8::1' };
  assert.equal(sent([], { peer }).forwarded, 'for="[2001:db8::1]";host="app.example.com";proto=https');
});

test('a credential for this gateway is not passed on', () => {
  assert.equal(sent(['Authorization', 'Bearer x'], { passesCredential: false }).authorization, undefined);
  assert.equal(sent(['Authorization', 'Bearer x']).authorization, 'Bearer x');
});

test('CDN-Loop is continued', () => {
  assert.equal(sent(['CDN-Loop', 'other'])['cdn-loop'], 'other, ohp-1');
});

test('repeated fields stay repeated and in order', () => {
  assert.deepEqual(sent(['X-A', '1', 'x-a', '2'])['x-a'], ['1', '2']);
});

test('rules remove, then set, and win over what is written here', () => {
  const rules = compileRules({
    remove: ['X-Gone', 'Cookie', 'X-Forwarded-For'],
    set: { 'X-Real-IP': 'set' },
  });
  const fields = sent(['X-Gone', '1', 'Cookie', 'a=1'], {}, { ...plan, rules });
  assert.deepEqual(
    [fields['x-gone'], fields.cookie, fields['x-forwarded-for'], fields['x-real-ip']],
    [undefined, undefined, undefined, 'set'],
  );
});

test('a rule is for every spelling of its name, in the header and in trailers', () => {
  const rules = compileRules({ remove: ['X-Debug'], set: { 'X-Tenant': 'acme' } });
  const spellings = ['X-Tenant', 'x_tenant', 'X.Tenant', 'X!Tenant', 'x-debug', 'X_Debug', 'X~Debug'];
  const list = requestHeaders(facts(spellings.flatMap((name) => [name, 'of the client'])), {
    ...plan,
    rules,
  });
  assert.ok(!list.includes('of the client'), list.join());
  assert.equal(list[list.indexOf('X-Tenant') + 1], 'acme');
  const trailers = Object.fromEntries(spellings.map((name) => [name.toLowerCase(), 'of the client']));
  assert.deepEqual(trailersOf({ ...trailers, 'x-sum': '1' }, rules), { 'x-sum': '1' });
});

test('a reply keeps repeated fields and loses what belongs to the hop', () => {
  const list = responseHeaders(
    {
      'set-cookie': ['a', 'b'],
      connection: 'close, X-Hop',
      'x-hop': '1',
      'keep-alive': 'timeout=5',
      'proxy-authenticate': 'Basic',
      'transfer-encoding': 'chunked',
      trailer: 'x-sum',
      etag: '"1"',
    },
    noRules,
    false,
  );
  assert.deepEqual(list, ['set-cookie', 'a', 'set-cookie', 'b', 'etag', '"1"']);
});

test('trailers that frame, route or authenticate are left out', () => {
  assert.deepEqual(
    trailersOf(
      {
        'x-sum': '1',
        'content-length': '5',
        host: 'x',
        authorization: 'x',
        'set-cookie': ['x'],
        content_type: 'x',
        'x-auth-user': 'x',
        'x-http-method-override': 'DELETE',
        'transfer-encoding': 'x',
        'grpc-status': '0',
      },
      noRules,
    ),
    { 'x-sum': '1', 'grpc-status': '0' },
  );
  assert.equal(trailersOf({}, noRules), undefined);
});

test('property: what comes out is always pairs of a name and a text, with one host', () => {
  const name = fc.stringMatching(/^[A-Za-z0-9_.-]{1,20}$/);
  fc.assert(
    fc.property(fc.array(fc.tuple(name, fc.string()), { maxLength: 20 }), (fields) => {
      const list = requestHeaders(facts(fields.flat()), plan);
      assert.equal(list.length % 2, 0);
      assert.equal(list.filter((part, i) => i % 2 === 0 && part.toLowerCase() === 'host').length, 1);
      assert.ok(list.every((part) => typeof part === 'string'));
    }),
  );
});
