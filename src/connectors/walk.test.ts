import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import test from 'node:test';
import { systemClock } from '../core/clock.ts';
import { system } from '../core/principal.ts';
import { profiles } from './profiles.ts';
import type { Subject } from './step.ts';
import { walkAs } from './walk.ts';
import { Wire } from './wire.ts';

const vscode = profiles.find(({ id }) => id === 'vscode') ?? assert.fail();

/** A resource and its authorization server in one, in the clear; `change` answers what it does not want as it is. */
async function startServer(change: (request: string, response: ServerResponse) => boolean = () => false) {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const line = `${request.method} ${request.url?.split('?')[0]}`;
    const base = `http://${String(request.headers.host)}`;
    asked.push(line);
    if (change(line, response)) return;
    const json = (status: number, body: object, headers = {}) =>
      void response
        .writeHead(status, { 'content-type': 'application/json', ...headers })
        .end(JSON.stringify(body));
    const metadata = `${base}/.well-known/oauth-protected-resource`;
    if (line === 'POST /mcp' && request.headers.authorization !== 'Bearer access')
      return json(401, {}, { 'www-authenticate': `Bearer resource_metadata="${metadata}"` });
    if (line.includes('oauth-protected-resource'))
      return json(200, { resource: `${base}/mcp`, authorization_servers: [base] });
    if (/oauth-authorization-server|openid/.test(line))
      return json(200, {
        issuer: base,
        authorization_endpoint: `${base}/authorize`,
        token_endpoint: `${base}/token`,
        registration_endpoint: `${base}/register`,
        response_types_supported: ['code'],
        code_challenge_methods_supported: ['S256'],
        authorization_response_iss_parameter_supported: true,
      });
    if (line === 'POST /register')
      return json(201, {
        client_id: 'x',
        redirect_uris: vscode.registers.redirect_uris,
        registration_client_uri: `${base}/register/x`,
        registration_access_token: 'manage',
      });
    if (line === 'GET /authorize') return json(303, {}, { location: '/login' });
    if (line === 'POST /token')
      return json(200, { access_token: 'access', refresh_token: 'again' }, { 'cache-control': 'no-store' });
    return json(200, { jsonrpc: '2.0', id: 1, result: {} });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    asked,
    port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

function subjectAt(port: number, signal = new AbortController().signal): Subject & { ended: string[] } {
  const typed = `http://localhost:${port}/mcp`;
  const ended: string[] = [];
  return {
    ended,
    typed,
    url: new URL(typed),
    route: {
      outcome: 'forward',
      reason: 'a test',
      hostname: 'localhost',
      path: '/mcp',
      mcp_answers: false,
      redirect_to: null,
      proxy: null,
      route: null,
      auth: { kind: 'none' },
      target_url: null,
    },
    proxy: 'enabled',
    isSticky: false,
    principal: system,
    wire: new Wire({
      clock: systemClock,
      signal,
      listeners: () => ({ http: { address: '0.0.0.0', port }, https: undefined }),
      isOwn: (hostname) => hostname === 'localhost',
      authority: () => '',
    }),
    publicUrl: undefined,
    isPerson: true,
    signInAt: () => ({ code: async () => 'code', end: async () => void ended.push('sign-in') }),
    mayRegister: () => true,
    signal,
    report: (message) => void ended.push(message),
  };
}

const outcome = async (subject: Subject) => {
  const { findings } = await walkAs(vscode, subject);
  const last = findings.at(-1) ?? assert.fail();
  return { findings, last };
};

test('a whole walk ends with initialize, and takes the client and the sign-in away again', async () => {
  await using server = await startServer();
  const subject = subjectAt(server.port);
  using _wire = subject.wire;
  const { findings, last } = await outcome(subject);
  assert.deepEqual([last.step, last.status], ['initialize', 'ok'], JSON.stringify(findings));
  assert.deepEqual(subject.ended, ['sign-in']);
  assert.equal(server.asked.at(-1), 'DELETE /register/x');
});

test('a server that keeps sessions behind replicas that are asked in turn is warned of, with what to do', async () => {
  const withSession = (line: string, response: ServerResponse) => {
    if (line === 'POST /mcp') response.setHeader('mcp-session-id', 'one');
    return false;
  };
  const target = 'service://tools:8080/';
  const replicas = [1, 2].map((n) => ({ target, url: `http://10.0.0.${n}:8080` }));
  const found = async (
    more: Partial<Subject>,
    leads_to: Subject['route']['leads_to'],
    change = withSession,
  ) => {
    await using server = await startServer(change);
    const subject = subjectAt(server.port);
    using _wire = subject.wire;
    return (await outcome({ ...subject, ...more, route: { ...subject.route, leads_to } })).last;
  };
  const { step, status, found: told, remedy } = await found({}, replicas);
  assert.deepEqual([step, status], ['initialize', 'warning']);
  assert.match(
    told,
    /^answered for .*, with a session \(Mcp-Session-Id\), which one of 2 replicas of service:\/\/tools:8080\/ keeps/,
  );
  assert.match(remedy ?? '', /sticky/);
  assert.equal((await found({ isSticky: true }, replicas)).status, 'ok');
  assert.equal((await found({}, replicas.slice(1))).status, 'ok', 'one replica');
  assert.equal((await found({}, undefined)).status, 'ok', 'no service');
  assert.equal((await found({}, replicas, () => false)).status, 'ok', 'a server without sessions');
});

test('what a walk made is taken away also when nobody waits for it any more', async () => {
  const controller = new AbortController();
  await using server = await startServer((line) => {
    if (line === 'GET /authorize') controller.abort(new Error('gone'));
    return false;
  });
  const subject = subjectAt(server.port, controller.signal);
  using _wire = subject.wire;
  await assert.rejects(walkAs(vscode, subject), /gone/);
  assert.equal(server.asked.at(-1), 'DELETE /register/x');
});

test('what can not be taken away is told in the log, and ends nothing', async () => {
  await using server = await startServer((line, response) => {
    if (line.startsWith('DELETE')) response.destroy();
    return line.startsWith('DELETE');
  });
  const subject = subjectAt(server.port);
  using _wire = subject.wire;
  assert.equal((await outcome(subject)).last.status, 'ok');
  assert.match(subject.ended.at(-1) ?? '', /could not be taken away/);
});

const answered = (wanted: string, status: number, body: object, headers: Record<string, string> = {}) =>
  startServer((line, response) => {
    if (line !== wanted) return false;
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
    return true;
  });

test('tokens without one to refresh with, or that may be stored, are warned of', async () => {
  await using server = await answered('POST /token', 200, { access_token: 'access' });
  const subject = subjectAt(server.port);
  using _wire = subject.wire;
  const { findings } = await outcome(subject);
  const at = (step: string) => findings.find((finding) => finding.step === step);
  assert.match(at('token')?.found ?? '', /none of them to refresh with, without Cache-Control: no-store/);
  assert.deepEqual(at('refresh')?.status, 'warning');
});

for (const [what, line, status, body, step, found] of [
  [
    'a token endpoint that refuses',
    'POST /token',
    400,
    { error: 'invalid_grant' },
    'token',
    /400 "invalid_grant"/,
  ],
  ['a sign-in that is refused at once', 'GET /authorize', 400, {}, 'authorize', /refused before anybody/],
  [
    'a registration that is refused',
    'POST /register',
    400,
    { error: 'invalid_redirect_uri' },
    'registration',
    /400/,
  ],
] as const)
  test(`the walk ends at ${what}`, async () => {
    await using server = await answered(line, status, body);
    const subject = subjectAt(server.port);
    using _wire = subject.wire;
    const { last } = await outcome(subject);
    assert.deepEqual([last.step, last.status], [step, 'failed']);
    assert.match(last.found, found);
  });

test('a connection that breaks is a finding of its step', async () => {
  await using server = await startServer((line, response) => {
    if (line.includes('oauth-authorization-server')) response.destroy();
    return line.includes('oauth-authorization-server');
  });
  const subject = subjectAt(server.port);
  using _wire = subject.wire;
  const { last } = await outcome(subject);
  assert.deepEqual([last.step, last.status], ['issuer', 'failed']);
  assert.match(last.found, /^no answer: /);
});

test('no host but the own ones is asked, and the same question is asked once', async () => {
  await using server = await startServer();
  const { wire } = subjectAt(server.port);
  using _wire = wire;
  await assert.rejects(wire.ask('http://127.0.0.2:1/'), /is not served by this process/);
  await assert.rejects(wire.ask('ftp://localhost/'), /is not served by this process/);
  await assert.rejects(wire.handshake(new URL('https://elsewhere.example')), /is not served by this process/);
  const url = `http://localhost:${server.port}/.well-known/oauth-protected-resource`;
  await Promise.all([wire.ask(url), wire.ask(url)]);
  assert.equal(server.asked.length, 1);
});
