import assert from 'node:assert/strict';
import test from 'node:test';
import { engineMachine } from './docker.ts';
import { loadConfig } from './load.ts';
import { ConfigError } from './problem.ts';
import { Guide } from '../../test/support/guide.ts';

const problemsOf = async (env: Record<string, string>, text = ''): Promise<readonly string[]> => {
  try {
    await loadConfig(env, () => text);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.problems;
  }
  assert.fail('was accepted');
};
const withFile = (text: string) => loadConfig({ OHP_CONFIG: 'ohp.yaml' }, () => text);

test('with no configuration every setting has its documented default', async () => {
  const config = await loadConfig({}, () => assert.fail('no file is read'));
  assert.deepEqual(
    [
      config.data_dir,
      config.bind,
      config.http_port,
      config.https_port,
      config.control.hosts,
      config.mcp.access,
    ],
    ['./data', '127.0.0.1', 8080, 8443, ['localhost'], 'authenticated'],
  );
});

test('a variable wins over the file', async () => {
  const config = await loadConfig(
    { OHP_CONFIG: 'ohp.yaml', OHP_HTTP_PORT: '9001', OHP_LOG_LEVEL: 'debug' },
    () => 'http_port: 9000\nlog:\n  retention_days: 3\n',
  );
  assert.deepEqual([config.http_port, config.log.level, config.log.retention_days], [9001, 'debug', 3]);
});

test('a rule of alerts that makes no sense is refused with its line', async () => {
  const rules = (lines: string) => problemsOf({ OHP_CONFIG: 'o.yaml' }, `alerts:\n  rules:\n${lines}`);
  const [clear] = await rules(
    '  - name: a\n    when: latency\n    above_ms: 100\n  - name: b\n    when: latency\n    above_ms: 100\n    clear_ms: 200\n',
  );
  assert.equal(
    clear,
    'alerts.rules.1.clear_ms (o.yaml:9): found 200; has to be at most 100, where it begins',
  );
  const [unknown] = await rules('  - name: a\n    when: disk\n    below_bytes: 100\n    above_ms: 3\n');
  assert.match(
    unknown ?? '',
    /^alerts\.rules\.0\.above_ms \(o\.yaml:6\): unknown setting; known here are when, name, level, /,
  );
  const [kind] = await rules('  - name: a\n    when: loud\n');
  assert.match(kind ?? '', /^alerts\.rules\.0\.when \(o\.yaml:4\): found "loud"/);
});

test('the password of a mail server is read from its file, and shown by no error', async () => {
  const smtp =
    'alerts:\n  smtp:\n    host: mail.example.com\n    from: a@example.com\n    to: [b@example.com]\n    username: u\n';
  const readFile = (path: string) =>
    path === 'o.yaml' ? `${smtp}    password_file: secret\n` : ' the-password\n';
  const { alerts } = await loadConfig({ OHP_CONFIG: 'o.yaml' }, readFile);
  assert.deepEqual([alerts.smtp?.password, alerts.smtp?.tls], ['the-password', 'starttls']);
  const [told] = await problemsOf({ OHP_CONFIG: 'o.yaml' }, `${smtp}    password: [the-password]\n`);
  assert.match(told ?? '', /^alerts\.smtp\.password \(o\.yaml:7\): found a value that is not shown/);
});

test('a bad value is reported with its key, line, what was found and what is allowed', async () => {
  assert.deepEqual(await problemsOf({ OHP_CONFIG: 'ohp.yaml' }, 'bind: 127.0.0.1\nmcp:\n  access: open\n'), [
    'mcp.access (ohp.yaml:3): found "open"; Invalid option: expected one of "authenticated"|"public"',
  ]);
  assert.match(
    (await problemsOf({ OHP_HTTP_PORT: 'eighty' }))[0] ?? '',
    /^http_port \(environment variable OHP_HTTP_PORT\): found "eighty"; .*number/,
  );
  assert.match((await problemsOf({ OHP_HTTPS_PORT: '70000' }))[0] ?? '', /found 70000; .*65535/);
});

test('an unknown setting is refused with the list of known ones, and a mistyped boolean is not taken for true or false', async () => {
  assert.match(
    (await problemsOf({ OHP_CONFIG: 'o.yaml' }, 'mcp:\n  acces: public\n'))[0] ?? '',
    /^mcp\.acces \(o\.yaml:2\): unknown setting; known here are access, hosts/,
  );
  assert.match(
    (await problemsOf({ OHP_CONFIG: 'o.yaml' }, 'mcp:\n  read_only: ture\n'))[0] ?? '',
    /found "ture"; .*boolean/,
  );
  assert.match(
    (await problemsOf({ OHP_HTTP_PROT: '1' }))[0] ?? '',
    /OHP_HTTP_PROT: unknown; known are .*OHP_HTTP_PORT/,
  );
});

test('a secret is never shown in an error', async () => {
  const [problem = ''] = await problemsOf({ OHP_ADMIN_TOKEN: 'short-secret' });
  assert.match(problem, /admin_token/);
  assert.doesNotMatch(problem, /short-secret/);
  assert.doesNotMatch((await problemsOf({ OHP_MASTER_KEY: 'my-bad-key' })).join(), /my-bad-key/);
  const inline = 'dns:\n- zones: [a.example]\n  provider: cloudflare\n  token: my-api-token\n';
  const told = (await problemsOf({ OHP_CONFIG: 'o.yaml' }, inline)).join();
  assert.match(told, /^dns\.0\.token \(o\.yaml:4\): found a value that is not shown; has to be { file/);
});

test('a file that is not YAML, not a mapping or not there is an error with its place', async () => {
  assert.match((await problemsOf({ OHP_CONFIG: 'o.yaml' }, '- a\n'))[0] ?? '', /has to be a mapping/);
  await assert.rejects(
    () =>
      loadConfig({ OHP_CONFIG: 'gone.yaml' }, () => {
        throw new Error('no such file');
      }),
    /gone\.yaml can't be read: no such file/,
  );
});

test('an empty file means the defaults', async () => {
  assert.equal((await withFile('# nothing yet\n')).http_port, 8080);
});

const refinements: [key: string, text: string, problem: RegExp][] = [
  [
    'an address to listen on',
    'bind: example.com\n',
    /^bind \(o\.yaml:1\): found "example\.com"; has to be an IP address/,
  ],
  [
    'a range',
    'gateway:\n  trusted_proxies: [10.0.0.0/8,\n    10.1.2.3/40]\n',
    /^gateway\.trusted_proxies\.1 \(o\.yaml:3\): .*IP address or a range/,
  ],
  [
    'a pattern',
    'commands:\n  allow:\n  - program: df\n    arguments:\n    - "a)|(b"\n',
    /^commands\.allow\.0\.arguments\.0 \(o\.yaml:5\): .*regular expression/,
  ],
  [
    'a program',
    'commands:\n  allow:\n  - program: df\n  - program: -rf\n',
    /^commands\.allow\.1\.program \(o\.yaml:4\): .*without a path/,
  ],
  [
    'a hostname in a list',
    'mcp:\n  hosts:\n  - app.example.com\n\n  - http://x\n',
    /^mcp\.hosts\.1 \(o\.yaml:5\): .*a hostname such as/,
  ],
  [
    'any origin',
    'mcp:\n  allowed_origins:\n  - "*"\n',
    /^mcp\.allowed_origins\.0 \(o\.yaml:3\): found "\*"; .*any page/,
  ],
  [
    'the origin of nothing',
    'mcp:\n  allowed_origins: ["https://a.example", "null"]\n',
    /^mcp\.allowed_origins\.1 \(o\.yaml:2\): found "null"; .*any page/,
  ],
  [
    'an origin with a slash',
    'mcp:\n  allowed_origins: ["https://a.example/"]\n',
    /^mcp\.allowed_origins\.0 \(o\.yaml:2\): .*as browsers send it: https:\/\/a\.example$/,
  ],
  [
    'a public URL with a password',
    'control:\n  public_url: https://u:p@x.example.com\n',
    /^control\.public_url \(o\.yaml:2\): .*without a user name or password$/,
  ],
  [
    'a public URL with a path',
    'control:\n  public_url: https://x.example.com/path\n',
    /^control\.public_url \(o\.yaml:2\): .*without a path.*: https:\/\/x\.example\.com$/,
  ],
  [
    'a provider of the DNS that there is not',
    'dns:\n- zones: [example.com]\n  provider: godaddy\n',
    /^dns\.0\.provider \(o\.yaml:3\): found "godaddy"; has to be one of rfc2136, cloudflare, route53, webhook, exec$/,
  ],
  [
    'an unknown key of a provider',
    'dns:\n- zones: [example.com]\n  provider: webhook\n  url: https://a.example\n  key_name: x\n',
    /^dns\.0\.key_name \(o\.yaml:5\): unknown setting; known here are provider, zones, use, url, secret$/,
  ],
  [
    'a resolver',
    'dns_resolvers:\n- 192.0.2.1\n- dns.example.com\n',
    /^dns_resolvers\.1 \(o\.yaml:3\): found "dns\.example\.com"; has to be an address/,
  ],
  [
    'an unknown key in a list',
    'commands:\n  allow:\n  - program: df\n  - program: ps\n    argument: [x]\n',
    /^commands\.allow\.1\.argument \(o\.yaml:5\): unknown setting; known here are program, arguments, rest/,
  ],
];
for (const [what, text, problem] of refinements)
  test(`what only its user can judge is judged when it is read, to the line: ${what}`, async () => {
    const problems = await problemsOf({ OHP_CONFIG: 'o.yaml' }, text);
    assert.equal(problems.length, 1, problems.join('\n'));
    assert.match(problems[0] ?? '', problem);
  });

test('addresses and ranges of both families, and every address to listen on, are taken', async () => {
  const ranges = ['10.0.0.1', '10.0.0.0/8', '2001:db8::1', '2001:db8::/32', '0.0.0.0/0', '::/0'];
  for (const bind of ['127.0.0.1', '0.0.0.0', '::', '::1', '2001:db8::1'])
    assert.equal((await withFile(`bind: "${bind}"\n`)).bind, bind);
  const config = await withFile(JSON.stringify({ gateway: { trusted_proxies: ranges } }));
  assert.deepEqual(config.gateway.trusted_proxies, ranges);
});

test('origins and public URLs are taken as browsers and people write them, and in no other way', async () => {
  const good = ['https://app.example.com', 'http://localhost:6274', 'https://[2001:db8::1]:8443'];
  const others = ['chrome-extension://abcdefghijklmnop', 'capacitor://localhost', 'vscode-file://vscode-app'];
  const config = await withFile(JSON.stringify({ mcp: { allowed_origins: [...good, ...others] } }));
  assert.deepEqual(config.mcp.allowed_origins, [...good, ...others]);
  const refusedOrigins = [
    '',
    'app.example.com',
    'HTTPS://app.example.com',
    'https://App.example.com',
    'https://app.example.com:443',
    'https://app.example.com/x',
    'https://*.example.com',
    'https://app.example.com?',
    'https://u@app.example.com',
    'chrome-extension://abc/',
    'file://',
    ' https://app.example.com',
  ];
  for (const origin of refusedOrigins) {
    const text = JSON.stringify({ mcp: { allowed_origins: [origin] } });
    assert.match(
      (await problemsOf({ OHP_CONFIG: 'o.yaml' }, text))[0] ?? '',
      /^mcp\.allowed_origins\.0 /,
      origin,
    );
  }
  for (const url of ['https://x.example.com', 'https://x.example.com/', 'http://x.example.com:8080'])
    assert.equal((await withFile(JSON.stringify({ control: { public_url: url } }))).control.public_url, url);
  for (const url of [
    'x.example.com',
    'ftp://x.example.com',
    'https://',
    'https://x.example.com/?',
    'https://x/#a',
  ])
    assert.match((await problemsOf({ OHP_PUBLIC_URL: url }))[0] ?? '', /^control\.public_url /, url);
});

test('aliases that multiply are refused in one line, not unfolded', async () => {
  const levels = Array.from(
    { length: 9 },
    (_, i) => `a${i + 1}: &a${i + 1} [${Array(9).fill(`*a${i}`).join()}]`,
  );
  const problems = await problemsOf({ OHP_CONFIG: 'o.yaml' }, `a0: &a0 [x]\n${levels.join('\n')}\n`);
  assert.deepEqual(problems.length, 1);
  assert.match(problems[0] ?? '', /^o\.yaml: Excessive alias count/);
});

const faults: [title: string, text: string, problem: RegExp][] = [
  [
    'a mapping that is not indented as one',
    'bind: a\nlog:\n level: info\n  stderr: true\n',
    /^o\.yaml:3:9: Nested mappings/,
  ],
  ['a list that is not closed', 'bind: [1\n', /^o\.yaml:2:1: .*end with a \]$/],
  ['a tab', 'log:\n\tlevel: info\n', /^o\.yaml:2:1: Tabs are not allowed/],
  ['a key that is there twice', 'bind: a\nbind: b\nlog: 1\nlog: 2\n', /^o\.yaml:2:1: .*unique$/],
  ['a second document', 'bind: a\n---\nbind: b\n', /^o\.yaml:2:1: a second document begins here; .* one/],
  ['a tag that nobody knows', 'bind: !!port 80\n', /^o\.yaml:1:7: Unresolved tag/],
  ['an alias of nothing', 'bind: *nothing\n', /^o\.yaml: Unresolved alias .*: nothing$/],
];
for (const [title, text, problem] of faults)
  test(`a fault of the YAML itself is told once, with line and column: ${title}`, async () => {
    const problems = await problemsOf({ OHP_CONFIG: 'o.yaml' }, text);
    assert.equal(problems.length, 1, problems.join('\n'));
    assert.match(problems[0] ?? '', problem);
  });

test('what is unknown inside a list of objects is answered with what is known there', async () => {
  const text = 'commands:\n  allow:\n    - program: uptime\n      argument: []\n';
  assert.match(
    (await problemsOf({ OHP_CONFIG: 'o.yaml' }, text))[0] ?? '',
    /^commands\.allow\.0\.argument \(o\.yaml:\d\): unknown setting; known here are program, arguments, rest$/,
  );
});

const upstream = (lines: string): string =>
  `oauth:\n  upstreams:\n  - name: there\n    title: There\n    client_id: c\n    client_secret: canary-secret\n${lines}`;
const OIDC = '    kind: oidc\n    issuer: https://issuer.example\n';
const wrongUpstreams: [what: string, text: string, problem: RegExp][] = [
  [
    'no issuer',
    '    kind: oidc\n',
    /^oauth\.upstreams\.0\.issuer \(o\.yaml:3\): found nothing; has to be an https URL/,
  ],
  [
    'an issuer in the clear',
    '    kind: oidc\n    issuer: http://issuer.example\n',
    /^oauth\.upstreams\.0\.issuer \(o\.yaml:8\): .*has to be https: plain HTTP is for this machine only/,
  ],
  [
    'an issuer with a query',
    '    kind: oidc\n    issuer: https://i.example/?a\n',
    /issuer .*without a user name, password, query/,
  ],
  ['an unknown kind', '    kind: saml\n', /kind \(o\.yaml:7\): found "saml"; .*"oidc"\|"github"/],
  [
    'a role that is never given so',
    `${OIDC}    role: admin\n`,
    /role \(o\.yaml:9\): found "admin"; .*"none"\|"viewer"\|"operator"/,
  ],
  [
    'an allow that lets nobody in',
    `${OIDC}    allow: {}\n`,
    /allow \(o\.yaml:9\): found a mapping; lets nobody in: set everyone/,
  ],
  [
    'accounts for nobody in particular',
    `${OIDC}    create_users: true\n`,
    /create_users \(o\.yaml:9\): .*needs allow/,
  ],
  [
    'groups from nowhere',
    `${OIDC}    allow: { groups: [a] }\n`,
    /allow\.groups \(o\.yaml:9\): .*needs groups_claim/,
  ],
  [
    'groups of GitHub without the scope',
    '    kind: github\n    allow: { groups: [a] }\n',
    /needs scopes: \[user:email, read:org\]/,
  ],
  [
    'a claim at GitHub',
    '    kind: github\n    groups_claim: groups\n',
    /groups_claim \(o\.yaml:8\): .*is for oidc/,
  ],
  [
    'a path of GitHub',
    '    kind: github\n    issuer: https://git.example/x\n',
    /issuer .*without a path: https:\/\/git\.example$/,
  ],
  [
    'scopes without openid',
    `${OIDC}    scopes: [email]\n`,
    /scopes \(o\.yaml:9\): found a list; have to include openid/,
  ],
  [
    'two secrets',
    `${OIDC}    client_secret_file: x\n`,
    /client_id .*exactly one of client_secret_file and client_secret/,
  ],
  [
    'an unknown key',
    `${OIDC}    secret: x\n`,
    /oauth\.upstreams\.0\.secret \(o\.yaml:9\): unknown setting; known here are name, title/,
  ],
  [
    'a name that is there twice',
    `${OIDC}  - { name: there, title: T, kind: github, client_id: c, client_secret: x }\n`,
    /^oauth\.upstreams\.1\.name \(o\.yaml:9\): found "there"; is that of another entry$/,
  ],
  [
    'an issuer that is there twice',
    `${OIDC}  - { name: b, title: T, kind: oidc, issuer: "https://issuer.example/", client_id: c, client_secret: x }\n`,
    /^oauth\.upstreams\.1\.issuer .*one entry for each issuer$/,
  ],
  [
    'a group that is never kept',
    `${OIDC}    groups_claim: groups\n    allow: { groups: [Domain Admins] }\n`,
    /allow\.groups\.0 \(o\.yaml:10\): found "Domain Admins"; has to be of letters/,
  ],
];
for (const [what, lines, problem] of wrongUpstreams)
  test(`a provider elsewhere with ${what} stops the start, to the line, and its secret is not shown`, async () => {
    const problems = await problemsOf({ OHP_CONFIG: 'o.yaml' }, upstream(lines));
    assert.equal(problems.length, 1, problems.join('\n'));
    assert.match(problems[0] ?? '', problem);
    assert.doesNotMatch(problems.join('\n'), /canary/);
  });

test('a client secret is never shown, whatever is wrong with what it stands in', async () => {
  for (const text of [
    'oauth:\n  upstreams:\n    client_secret: canary-secret\n',
    'oauth:\n  upstreams:\n  - client_secret: [canary-secret]\n',
    'oauth:\n  upstreams:\n  - client_secret: "canary secret"\n',
    'oauth: [{ client_secret: canary-secret }]\n',
    'oauth:\n  client_secret: canary-secret\n',
    upstream(`${OIDC}    client_secret_file: x\n`),
  ])
    assert.doesNotMatch((await problemsOf({ OHP_CONFIG: 'o.yaml' }, text)).join('\n'), /canary/, text);
});

test('a client secret comes from its own file; one that is not there or holds more is told with its place', async () => {
  const text = upstream(OIDC).replace('client_secret: canary-secret', 'client_secret_file: ./there.secret');
  const load = (secret: () => string) =>
    loadConfig({ OHP_CONFIG: 'o.yaml' }, (path) => (path === './there.secret' ? secret() : text));
  assert.equal((await load(() => 'canary-secret\n')).oauth.upstreams[0]?.client_secret, 'canary-secret');
  const place = /oauth\.upstreams\.0\.client_secret_file \(o\.yaml:6\): found "\.\/there\.secret"; /;
  for (const secret of ['', 'canary secret', 'canary\nsecret', 'x'.repeat(501)])
    await assert.rejects(
      load(() => secret),
      (error: Error) => place.test(error.message) && !error.message.includes('canary'),
    );
  await assert.rejects(
    load(() => {
      throw new Error('no such file');
    }),
    /can't be read: no such file/,
  );
});

test('a whsec_ secret of the webhook that is no base64 of 24 to 64 bytes is refused, and neither it nor the URL is shown', async () => {
  const alerts = (secret: string, url = 'https://alerts.example.com/canary') =>
    `alerts:\n  webhook_url: ${url}\n  webhook_secret: ${JSON.stringify(secret)}\n`;
  const good = `whsec_${Buffer.alloc(24, 1).toString('base64')}`;
  assert.equal((await withFile(alerts(good))).alerts.webhook_secret, good);
  assert.ok(await withFile(alerts('any-text-that-is-long-enough')));
  for (const secret of [
    'whsec_!!!!!!!!!!!!!!!!',
    `whsec_${'A'.repeat(28)}`,
    `whsec_${'A'.repeat(88)}`,
    `${good}!`,
  ]) {
    const [problem = ''] = await problemsOf({ OHP_CONFIG: 'o.yaml' }, alerts(secret));
    assert.match(
      problem,
      /^alerts\.webhook_secret \(o\.yaml:3\): found a value that is not shown; .*24 to 64 bytes/,
    );
    const file = alerts(secret).replace(/webhook_secret:.*/, 'webhook_secret_file: ./secret');
    await assert.rejects(
      loadConfig({ OHP_CONFIG: 'o.yaml' }, (path) => (path === './secret' ? secret : file)),
      (error: Error) => /24 to 64 bytes/.test(error.message) && !error.message.includes(secret),
    );
  }
  const [problem = ''] = await problemsOf({ OHP_CONFIG: 'o.yaml' }, alerts(good, 'ftp://canary@example.com'));
  assert.match(problem, /^alerts\.webhook_url .*found a value that is not shown/);
});

test('an engine is on another machine when its host is no loopback address and no broker is asked', () => {
  const machineOf = (host?: string, socket?: string) =>
    engineMachine({ docker: { host }, broker: { socket } });
  assert.equal(machineOf(), undefined);
  for (const here of ['localhost:2376', '127.0.0.1:2376', '127.1.2.3:2376', '[::1]:2376'])
    assert.equal(machineOf(here), undefined, here);
  assert.equal(machineOf('engine.example.internal:2376'), 'engine.example.internal');
  assert.equal(machineOf('[2001:db8::1]:2376'), '2001:db8::1');
  assert.equal(machineOf('engine.example.internal:2376', '/run/broker.sock'), undefined);
});

const otlp = (lines: string) => `telemetry:\n  otlp:\n${lines.replace(/^/gm, '    ')}\n`;

test('the variables of OpenTelemetry count where an endpoint is set, and say nothing otherwise', async () => {
  const env = {
    OTEL_EXPORTER_OTLP_HEADERS: 'api-key=a%20b,x=y',
    OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
    OTEL_SERVICE_NAME: 'edge',
    OTEL_RESOURCE_ATTRIBUTES: 'service.namespace=tests,a=b%2Cc',
    OTEL_SOMETHING_ELSE: 'x',
  };
  const silent = await loadConfig(env, () => '');
  assert.equal(silent.telemetry.otlp.endpoint, undefined);
  assert.equal(silent.telemetry.otlp.service_name, 'oauth-https-proxy');
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318' };
  assert.match(
    (await problemsOf({ ...env, ...endpoint }))[0] ?? '',
    /^telemetry\.otlp\.protocol \(environment variable OTEL_EXPORTER_OTLP_PROTOCOL\): found "grpc"/,
  );
  const set = await loadConfig(
    { ...env, ...endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf' },
    () => '',
  );
  const { service_name, headers, resource_attributes } = set.telemetry.otlp;
  assert.deepEqual([service_name, headers], ['edge', 'api-key=a%20b,x=y']);
  assert.deepEqual(resource_attributes, { 'service.namespace': 'tests', a: 'b,c' });
  const byFile = { OHP_CONFIG: 'o.yaml', OTEL_SERVICE_NAME: 'edge' };
  const settings = await loadConfig(byFile, () => otlp('endpoint: https://otlp.example.com'));
  assert.equal(settings.telemetry.otlp.service_name, 'edge');
});

test('a collector is asked by https, or on the own network, and never at an address that nobody asks', async () => {
  for (const good of [
    'https://otlp.example.com:4318/otlp',
    'http://127.0.0.1:4318',
    'http://[::1]:4318',
    'http://10.1.2.3:4318',
    'http://collector:4318',
  ])
    assert.equal((await withFile(otlp(`endpoint: "${good}"`))).telemetry.otlp.endpoint, good);
  for (const bad of [
    'http://203.0.113.7:4318',
    'https://user:canary@otlp.example.com',
    'https://169.254.169.254',
    'https://otlp.example.com/?key=x',
    'grpc://otlp.example.com',
    'otlp.example.com:4318',
  ])
    assert.match(
      (await problemsOf({ OHP_CONFIG: 'o.yaml' }, otlp(`endpoint: "${bad}"`)))[0] ?? '',
      /^telemetry\.otlp\.endpoint .*has to be an https URL/,
      bad,
    );
});

test('headers of the collector are read from their file, and never shown', async () => {
  const files = (headers: string) => (path: string) =>
    path === './headers' ? headers : otlp('endpoint: https://otlp.example.com\nheaders_file: ./headers');
  const read = await loadConfig({ OHP_CONFIG: 'o.yaml' }, files('api-key=a%20b\nx=y\n'));
  assert.equal(read.telemetry.otlp.headers, 'api-key=a%20b\nx=y\n');
  for (const bad of ['', 'canary', '=canary', 'a b=canary', 'x=%canary', 'host=canary', 'x=%0acanary']) {
    const [problem = ''] = await loadConfig({ OHP_CONFIG: 'o.yaml' }, files(bad)).then(
      () => assert.fail(bad),
      (error: unknown) => (error instanceof ConfigError ? error.problems : assert.fail(String(error))),
    );
    assert.match(problem, /^telemetry\.otlp\.headers_file .*has to be name=value/);
    assert.ok(!problem.includes('canary'), problem);
    const written = otlp(`endpoint: https://otlp.example.com\nheaders: ${JSON.stringify(bad)}`);
    const [shown = ''] = await problemsOf({ OHP_CONFIG: 'o.yaml' }, written);
    assert.match(shown, /^telemetry\.otlp\.headers .*a value that is not shown/);
  }
});

test('the settings that the guide of traces shows are taken as they stand', async () => {
  const [yaml = ''] = new Guide('traces').blocks('yaml');
  const { otlp: set } = (
    await loadConfig({ OHP_CONFIG: 'o.yaml' }, (path) => (path === 'o.yaml' ? yaml : 'api-key=x\n'))
  ).telemetry;
  assert.equal(set.endpoint, 'https://otlp.example.com:4318');
  assert.deepEqual(set.resource_attributes, { 'deployment.environment.name': 'production' });
  const shell = new Guide('traces').block('sh', 'OTEL_');
  const variables = Object.fromEntries(
    [...shell.matchAll(/(OTEL_\w+)=(\S+)/g)].map(([, name, value]) => [name, value]),
  );
  const config = await loadConfig(variables, () => assert.fail('no file is read'));
  assert.equal(config.telemetry.otlp.endpoint, 'http://localhost:4318');
});
