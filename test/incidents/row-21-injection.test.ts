/**
 * Text of a caller that ends in a shell, in a configuration file or in a query (mcp-remote CVE-2025-6514, NPM
 * CVE-2024-46256). Every payload here tries to make one file, by every way in; the file must never be there.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after, afterEach } from 'node:test';
import { callTool, configFile, generous, grant, outcomeOf, send } from '../support/callers.ts';
import { startProduct } from '../support/product.ts';
import { startUpstream } from '../support/upstream.ts';

const folder = mkdtempSync(join(tmpdir(), 'ohp-canary-'));
const canary = join(folder, 'canary');
const product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
const upstream = await startUpstream();
after(async () => {
  await Promise.all([product[Symbol.asyncDispose](), upstream[Symbol.asyncDispose]()]);
  rmSync(folder, { recursive: true, force: true });
});
afterEach(() => {
  assert.ok(!existsSync(canary), 'the canary file was made');
  assert.deepEqual(readdirSync(folder), []);
  assert.equal(product.child.exitCode, null);
});

const { adminToken: token } = product;
const rest = (method: string, path: string, body?: object, as = token) =>
  send(product, { method, path, token: as, body });
const touch = `touch ${canary}`;

/** What a shell would act on. */
const shellTricks = [
  `; ${touch}`,
  `;${touch};`,
  `&& ${touch}`,
  `|| ${touch}`,
  `| tee ${canary}`,
  `& ${touch} &`,
  `> ${canary}`,
  `>> ${canary}`,
  `2>${canary}`,
  `>| ${canary}`,
  `<> ${canary}`,
  `< /dev/null > ${canary}`,
  `$(${touch})`,
  `\`${touch}\``,
  `"$(${touch})"`,
  `"\`${touch}\`"`,
  `\${x:-$(${touch})}`,
  `$((1)) ; ${touch}`,
  `<(${touch})`,
  `{touch,${canary}}`,
  `\${IFS};touch\${IFS}${canary}`,
  `\n${touch}`,
  `\r\n${touch}`,
  `\u2028${touch}`,
  `\u0000${touch}`,
  `\u0085${touch}`,
  `$'\\n'${touch}`,
  `\uff1b${touch}`,
  `' ; ${touch} ; '`,
  `" ; ${touch} ; "`,
  `\\; ${touch}`,
  `%0a${touch}`,
  `!!;${touch}`,
  `# ${touch}`,
];
/** Quoted, escaped or look-alikes: a shell would not act on these either. */
const literal = [`\uff1b${touch}`, `" ; ${touch} ; "`, `\\; ${touch}`, `%0a${touch}`];
/** Programs and options that write, run or read what the caller names. */
const otherPrograms = [
  touch,
  `/bin/${touch}`,
  `/usr/bin/env ${touch}`,
  `env ${touch}`,
  `sh -c '${touch}'`,
  `bash -c '${touch}'`,
  `/bin/sh -c '${touch}'`,
  `./sh -c '${touch}'`,
  `../../bin/${touch}`,
  `LD_PRELOAD=/tmp/x uptime`,
  `PATH=. uptime`,
  `X=1 ${touch}`,
  `nohup ${touch}`,
  `setsid ${touch}`,
  `sudo ${touch}`,
  `timeout 1 ${touch}`,
  `xargs ${touch}`,
  `busybox ${touch}`,
  `find ${folder} -exec touch ${canary} \\;`,
  `awk 'BEGIN{system("${touch}")}'`,
  `python3 -c "import os; os.system('${touch}')"`,
  `perl -e 'system("${touch}")'`,
  `node -e 'require("fs").writeFileSync("${canary}","")'`,
  `tar cf ${canary} /etc/hostname`,
  `cp /etc/hostname ${canary}`,
  `tee ${canary}`,
  `dd of=${canary}`,
  `curl -o ${canary} file:///etc/hostname`,
  `openssl rand -out ${canary} 1`,
  `openssl genrsa -out ${canary}`,
  `openssl s_client -connect localhost:1 -keylogfile ${canary}`,
  `openssl s_client -connect localhost:1 -msgfile ${canary}`,
  `openssl s_client -connect localhost:1 -sess_out ${canary}`,
  `openssl s_client -engine ${canary}`,
  `openssl s_client -connect localhost:1 -CAfile /etc/shadow`,
  `openssl s_client -connect 169.254.169.254:80`,
  `ss -D ${canary}`,
  `ss -tD${canary}`,
  `ss --diag=${canary}`,
  `ss -F ${canary}`,
  `ss -K`,
  `dig -f ${canary}`,
  `dig -k ${canary} x.example.com`,
  `dig @169.254.169.254 x.example.com`,
  `date -f /etc/passwd`,
  `date -r ${canary}`,
  `date -s 2000-01-01`,
  `date --set=2000-01-01`,
  `ps -e -o args`,
  `ps aux`,
  `ps eww`,
  `df /etc/shadow`,
  `df --output=source ${canary}`,
  `uptime --help=${canary}`,
  `uname -a -- ${canary}`,
  `docker run -v /:/host alpine ${touch}`,
  `docker exec x ${touch}`,
  `docker ps --format "{{.Names}}"`,
  `docker -H tcp://localhost:1 ps`,
  `docker --config ${folder} ps`,
  `docker ps --filter name=x`,
  `docker cp x:/etc/passwd ${canary}`,
  `-c '${touch}'`,
  `--version`,
  `''`,
  `""`,
];

async function everyWay(command: string, as: string | undefined): Promise<string[]> {
  const args = { command };
  return Promise.all([
    rest('POST', '/v1/commands', args, as).then(outcomeOf),
    callTool(product, as, { name: 'run_command', args }).then(outcomeOf),
    callTool(product, as, { name: 'run_command', args, era: 'modern' }).then(outcomeOf),
    callTool(product, as, { name: 'call_operation', args: { name: 'run_command', arguments: args } }).then(
      outcomeOf,
    ),
  ]);
}

for (const [what, commands] of Object.entries({
  'what a shell would act on': [
    'uptime',
    'df -h',
    'dig x.example.com',
    'openssl s_client -connect localhost:1',
  ].flatMap((start) => shellTricks.map((trick) => `${start} ${trick}`)),
  'what a shell would act on, as the program': shellTricks,
  'a program or an option that is not allowed': otherPrograms,
}))
  test(`incident 21: run_command refuses ${what}, over REST and MCP alike`, async () => {
    // The whole corpus by REST; every fourth by all four ways, which share one parser.
    for (const [i, command] of commands.entries()) {
      const outcomes =
        i % 4 === 0
          ? await everyWay(command, token)
          : [outcomeOf(await rest('POST', '/v1/commands', { command }))];
      for (const outcome of outcomes)
        assert.ok(['INVALID_INPUT', 'FORBIDDEN'].includes(outcome), `${JSON.stringify(command)}: ${outcome}`);
    }
  });

test('incident 21: what is not text is no command', async () => {
  for (const command of [
    null,
    1,
    true,
    [],
    ['uptime'],
    ['sh', '-c', touch],
    { toString: 'uptime' },
    '',
    ' ',
    'x'.repeat(3000),
  ])
    for (const args of [
      { command },
      { command: 'uptime', args: ['-c', touch] },
      { command: 'uptime', shell: true },
    ])
      assert.equal((await rest('POST', '/v1/commands', args)).status, 400, JSON.stringify(args));
  assert.equal(
    outcomeOf(await rest('POST', '/v1/commands', { command: 'uname -s' })),
    'OK',
    'and an honest one runs',
  );
});

test('incident 21: who may not run commands learns nothing of how they are read', async () => {
  const operator = (await grant(product, { bundle: 'operator' })).secret;
  for (const command of ['uptime', touch, `uptime ${shellTricks[0] ?? ''}`])
    assert.deepEqual(
      await everyWay(command, operator),
      Array.from({ length: 4 }, () => 'FORBIDDEN'),
    );
});

test('incident 21: where any program may run there is still no shell: every trick in quotes arrives as it was typed', async () => {
  const settings = { ...generous, commands: { mode: 'any' } };
  await using any = await startProduct({ env: { OHP_CONFIG: configFile(settings) } });
  const run = (command: string) =>
    send(any, { method: 'POST', path: '/v1/commands', token: any.adminToken, body: { command } });
  for (const trick of shellTricks.filter((one) => !/['\p{Cc}\u2028]/u.test(one))) {
    const quoted = await run(`echo '${trick}'`);
    assert.equal(quoted.json.stdout, `${trick}\n`, quoted.text);
    // In none of these is there a character that a shell acts on, so they are words like any other.
    const { status, json } = await run(`echo x ${trick}`);
    if (literal.includes(trick)) assert.match(json.stdout, /^x .*touch/);
    else assert.equal(status, 400, trick);
  }
  for (const program of ['/bin/sh', './x', '../bin/sh', 'a/b', 'X=1', '-c', '~/x', '$SHELL', 'sh;'])
    assert.equal((await run(`${program} -c '${touch}'`)).status, 400, program);
  const environment = (await run('env')).json.stdout as string;
  const names = [...environment.matchAll(/^(\w+)=/gm)].map(([, name]) => name);
  assert.deepEqual(new Set(names), new Set(['HOME', 'LANG', 'PATH']));
});

const target_url = upstream.url;
const badHostnames = [
  ...shellTricks.map((trick) => `a.example.com${trick}`),
  `$(${touch}).example.com`,
  'a.example.com"; include /etc/passwd; "',
  'a.example.com { return 200; }',
  'a.example.com\nserver_name b.example.com',
  'a.example.com/../../x',
  '../../etc/passwd',
  '/etc/passwd',
  'a..example.com',
  '.example.com',
  '*',
  '*.*.example.com',
  'a.*.example.com',
  '*a.example.com',
  '-oProxyCommand=x',
  'a_b.example.com',
  'a.example.com:443',
  'https://a.example.com',
  'user@a.example.com',
  "a' or 1=1 --.example.com",
  '127.0.0.1',
  '[::1]',
  '0x7f.1',
  '__proto__',
  '',
];

test('incident 21: a hostname is a hostname, wherever one is taken', async () => {
  for (const hostname of badHostnames) {
    const replies = await Promise.all([
      rest('POST', '/v1/proxies', { hostname, target_url }),
      rest('POST', '/v1/routes', { hostname, path: '/x', target_url }),
      rest('POST', '/v1/tokens', { name: 'x', bundle: 'viewer', hostnames: [hostname] }),
      rest('GET', `/v1/certificates?hostname=${encodeURIComponent(hostname)}`),
      rest('GET', `/v1/routes?hostname=${encodeURIComponent(hostname)}`),
      callTool(product, token, { name: 'create_proxy', args: { hostname, target_url } }),
    ]);
    for (const reply of replies)
      assert.equal(outcomeOf(reply), 'INVALID_INPUT', `${hostname}: ${reply.text}`);
  }
  assert.deepEqual((await rest('GET', '/v1/proxies')).json.proxies, []);
});

const badTargets = [
  'file:///etc/passwd',
  'javascript:alert(1)',
  'data:text/plain,x',
  'gopher://localhost:1/x',
  'ftp://localhost/',
  'unix:/var/run/docker.sock',
  'http+unix://%2Fvar%2Frun%2Fdocker.sock/',
  'exec:touch',
  `|${touch}`,
  touch,
  '/etc/passwd',
  '//localhost',
  'localhost:3000',
  'http://',
  'http:///x y',
  'http://localhost:3000 -o x',
  'http://localhost:99999',
  'http://user:password@localhost/',
  'http://localhost/?a=b',
  'http://localhost/#x',
  'http://local\nhost:3000',
  'http://localhost:3000/\r\nX-Injected: 1',
  'http://localhost:3000/a\tb',
  ' http://localhost:3000',
  'http://localhost:3000 ',
  '\u0000http://localhost:3000',
  'http://localhost\\@evil.example.com',
];

test('incident 21: a target is a plain http or https URL, as it is written', async () => {
  for (const target of badTargets) {
    const replies = await Promise.all([
      rest('POST', '/v1/proxies', { hostname: 'target.example.com', target_url: target }),
      rest('POST', '/v1/routes', { hostname: null, path: '/x', target_url: target }),
    ]);
    for (const reply of replies)
      assert.equal(outcomeOf(reply), 'INVALID_INPUT', `${JSON.stringify(target)}: ${reply.text}`);
  }
});

test('incident 21: a header rule is one field: nothing in it begins another, ends the head or frames the body', async () => {
  const names = ['X A', 'X:A', 'X-A\r\nX-B', 'X-A\n', '', ' X-A', 'X-\u00e4', 'X-A\u0000', ...framing];
  const values = [
    'a\r\nX-Injected: 1',
    'a\nX-Injected: 1',
    'a\rb',
    'a\u0000b',
    '\u00e9',
    '\u2028',
    'a\u007f',
    'x'.repeat(5000),
  ];
  const rules = [
    ...names.flatMap((name) => [{ set: { [name]: 'v' } }, { remove: [name] }]),
    ...values.map((value) => ({ set: { 'X-Rule': value } })),
    { set: { 'X-Rule': 1 } },
    { set: ['X-Rule'] },
    { add: { 'X-Rule': 'v' } },
  ];
  for (const rule of rules)
    for (const side of ['request_headers', 'response_headers']) {
      const reply = await rest('POST', '/v1/proxies', {
        hostname: 'rule.example.com',
        target_url,
        [side]: rule,
      });
      assert.equal(outcomeOf(reply), 'INVALID_INPUT', `${JSON.stringify(rule)}: ${reply.text}`);
    }
});

const framing = [
  'Host',
  'host',
  'Transfer-Encoding',
  'Content-Length',
  'Connection',
  'Upgrade',
  'TE',
  'Trailer',
  'Expect',
];

test('incident 21: text that may hold anything is only ever text: it comes back as it was and starts nothing', async () => {
  const path = `/$(touch)/';--`;
  const made = await rest('POST', '/v1/routes', {
    hostname: null,
    path: '/a',
    target_url,
    idempotency_key: `k;${touch}`,
  });
  assert.equal(made.status, 201, made.text);
  assert.equal((await rest('DELETE', `/v1/routes/${made.json.id}`)).status, 200);
  for (const id of [`x;${touch}`, `$(${touch})`, "' or 1=1 --", '%2e%2e', '%00', '*', 'rte_%25'])
    for (const noun of ['routes', 'tokens', 'certificates']) {
      const { status } = await rest('DELETE', `/v1/${noun}/${encodeURIComponent(id)}`);
      assert.ok([400, 404].includes(status), `${noun} ${id}: ${status}`);
    }
  for (const component of [`mcp;${touch}`, '*', '__proto__', 'audit'])
    assert.equal(
      (await rest('PUT', `/v1/log-levels/${encodeURIComponent(component)}`, { level: 'info' })).status,
      400,
    );
  const tested = await rest(
    'GET',
    `/v1/route-test?url=${encodeURIComponent(`https://x.example.com${path}`)}`,
  );
  assert.equal(tested.status, 200, tested.text);
});

test('incident 21: a filter of the log is a value and never a part of the question', async () => {
  const hostname = 'logged.example.com';
  assert.equal((await rest('POST', '/v1/proxies', { hostname, target_url })).status, 201);
  await product.get(hostname, '/found');
  const stranger = (await grant(product, { bundle: 'viewer', hostnames: ['elsewhere.example.com'] })).secret;
  const ask = (name: string, value: string, as = token) =>
    rest('GET', `/v1/logs?lines=50&verbose=true&${name}=${encodeURIComponent(value)}`, undefined, as);
  const tricks = [
    "' or 1=1 --",
    "' or '1'='1",
    '" or ""="',
    "x'; drop table records; --",
    "' union select id, hash, document, 1, 1, 1 from tokens --",
    "'; attach database '/etc/passwd' as x; --",
    `'; select writefile('${canary}', 'x'); --`,
    "') or hostname is not null --",
    '%',
    '_____',
    '%found%',
    '*',
    '[a-z]',
  ];
  for (const trick of tricks)
    for (const name of ['contains', 'principal', 'path_prefix', 'trace_id', 'operation', 'client_address']) {
      const reply = await ask(name, trick);
      assert.ok([200, 400].includes(reply.status), `${name}=${trick}: ${reply.text}`);
      // What is found holds the very text: nothing in it means anything else.
      const records: object[] = reply.json.records ?? [];
      const literally = JSON.stringify(trick).slice(1, -1).replaceAll('\\"', '"');
      for (const record of records) {
        const text = JSON.stringify(record).replaceAll(/\\+"/g, '"');
        assert.ok(text.includes(literally), `${name}=${trick}: ${text}`);
      }
      const theirs = await ask(name, trick, stranger);
      assert.ok(
        theirs.status === 400 || theirs.json.records.length === 0,
        `${name}=${trick}: ${theirs.text}`,
      );
    }
  for (const name of ['hostname', 'level', 'kind', 'since', 'until', 'status_min', 'cursor'])
    assert.equal((await ask(name, "' or 1=1 --")).status, 400, name);
  for (const key of [
    ['logs', "' or 1=1", 1],
    ['logs', null, 1],
    ['proxies', "' or 1=1 --"],
    ['logs', 1, 1, 1],
  ]) {
    const cursor = Buffer.from(JSON.stringify(key)).toString('base64url');
    assert.equal((await ask('cursor', cursor)).status, 400, JSON.stringify(key));
  }
  const found = await ask('path_prefix', '/found');
  assert.equal(found.json.records.length, 1, 'and the log is whole');
});

test('incident 21: a filter with a zero byte is refused, or matches only itself: it does not end at the zero byte', async () => {
  const reply = await rest(
    'GET',
    `/v1/logs?lines=50&verbose=true&contains=${encodeURIComponent('/found\u0000nowhere')}&kind=access`,
  );
  assert.ok(reply.status === 400 || reply.json.records.length === 0, reply.text);
});

test('incident 21: a filter of a list is text: wildcards of the query language match themselves only', async () => {
  for (const filter of ['%', '_', 'logged%', "' or 1=1 --", '\\', 'l_gged'])
    assert.deepEqual(
      (await rest('GET', `/v1/proxies?filter=${encodeURIComponent(filter)}`)).json.proxies,
      [],
      filter,
    );
  const forged = Buffer.from(JSON.stringify(['proxies', "' or 1=1 --"])).toString('base64url');
  assert.equal(
    (await rest('GET', `/v1/proxies?cursor=${forged}`)).status,
    200,
    'a place in an order, and no more',
  );
});
