/**
 * A private key goes in and comes out by `export_certificate` alone: not in any other answer, log record, error, or file
 * of the data directory, in no encoding. Certificates of somebody else's hostnames can't be seen, read or deleted.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { makeLeaf, type Made } from '../../src/certificates/openssl.fixture.ts';
import { callTool, configFile, generous, grant, type Grant, postMcp, send } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { type Product, startProduct } from '../support/product.ts';
import { startUpstream, type Upstream } from '../support/upstream.ts';

const MINE = 'mine.example.com';
const THEIRS = 'theirs.example.com';
const cli = join(import.meta.dirname, '../../src/cli.ts');

let product: Product;
let upstream: Upstream;
/** Everything that was answered, to whomever, over every surface. */
const answers: string[] = [];
let mine: Made;
let theirs: Made;
let mineId: string;
let theirsId: string;
/** May do everything to certificates, of one hostname. */
let confined: Grant;

before(async () => {
  upstream = await startUpstream();
  product = await startProduct({ env: { OHP_CONFIG: configFile(generous), OHP_LOG_LEVEL: 'debug' } });
  mine = makeLeaf([MINE]);
  // PKCS#1, the other spelling of a key.
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  theirs = makeLeaf([THEIRS], undefined, { keyPem: rsa.export({ type: 'pkcs1', format: 'pem' }).toString() });
  for (const hostname of [MINE, THEIRS])
    await rest('POST', '/v1/proxies', { hostname, target_url: upstream.url });
  mineId = await imported(mine, { 'idempotency-key': 'imported-once' });
  theirsId = await imported(theirs);
  confined = await grant(product, { permissions: ['certificates:write', 'logs:read'], hostnames: [MINE] });
});

after(async () => {
  await product?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
});

const wanted = ({ certificatePem, keyPem }: Made) => ({
  certificate_pem: certificatePem,
  private_key_pem: keyPem,
});

async function rest(method: string, path: string, body?: unknown, headers = {}) {
  const answer = await product.api(method, path, body, headers);
  answers.push(JSON.stringify([answer.body, ...answer.headers]));
  return answer;
}

async function imported(made: Made, headers = {}): Promise<string> {
  const { status, body } = await rest('POST', '/v1/certificates', wanted(made), headers);
  assert.equal(status, 201, JSON.stringify(body));
  return body.id;
}

async function mcp(name: string, args: object, token = product.adminToken) {
  const reply = await callTool(product, token, { name, args });
  answers.push(reply.text);
  return reply;
}

function ohp(...args: string[]): Promise<void> {
  const env = {
    PATH: process.env.PATH,
    NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
    HOME: tmpdir(),
    OHP_URL: `http://localhost:${product.httpPort}`,
    OHP_TOKEN: product.adminToken,
  };
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', cli, ...args],
      { env },
      (_error, stdout, stderr) => {
        answers.push(stdout, stderr);
        resolve();
      },
    );
  });
}

/** A key as bytes in every form in which it might be written down. */
function formsOf(pem: string): [form: string, bytes: Buffer][] {
  const key = createPrivateKey(pem);
  const { d = '', p } = key.export({ format: 'jwk' });
  const secret = Buffer.from(d, 'base64url');
  // PEM is cut into lines of 64; what is inside may stand anywhere, with another line length or none.
  const inner = pem.replace(/-----[^-]+-----|\s/g, '');
  const pkcs8 = key.export({ type: 'pkcs8', format: 'der' });
  const middle = Math.floor(inner.length / 2);
  return [
    ['PEM', Buffer.from(inner.slice(middle, middle + 40))],
    ['PEM with line ends', Buffer.from(pem.trim().split('\n')[1]?.slice(0, 40) ?? '')],
    ['DER', pkcs8.subarray(-40)],
    ['the secret number', secret],
    ...(p === undefined ? [] : [['a prime', Buffer.from(p, 'base64url')] as [string, Buffer]]),
    ...(['hex', 'base64', 'base64url'] as const).map((encoding): [string, Buffer] => [
      `the secret number in ${encoding}`,
      Buffer.from(secret.toString(encoding).slice(0, 40)),
    ]),
    ['the secret number in capital hex', Buffer.from(secret.toString('hex').toUpperCase())],
  ];
}

function found(where: string, bytes: Buffer, keys: Record<string, string>): string[] {
  return Object.entries(keys).flatMap(([name, pem]) =>
    formsOf(pem).flatMap(([form, wantedBytes]) =>
      bytes.includes(wantedBytes) ? [`${where}: ${name} as ${form}`] : [],
    ),
  );
}

test('incident 22: the search finds a key that is there', () => {
  const keys = { mine: mine.keyPem };
  for (const [form, bytes] of formsOf(mine.keyPem)) assert.ok(bytes.length >= 32, form);
  assert.ok(found('pem', Buffer.from(JSON.stringify(mine.keyPem)), keys).length > 0);
  assert.ok(
    found('der', createPrivateKey(mine.keyPem).export({ type: 'pkcs8', format: 'der' }), keys).length > 0,
  );
  assert.ok(
    found('sec1', createPrivateKey(mine.keyPem).export({ type: 'sec1', format: 'der' }), keys).length > 0,
  );
});

test('incident 22: a private key that was imported is in no answer, record, error or file, in no encoding', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'keys-'));
  after(() => rmSync(folder, { recursive: true, force: true }));
  const wrong = makeLeaf(['other.example.com']);
  const { certificatePem, keyPem } = mine;
  const keys: Record<string, string> = { mine: keyPem, theirs: theirs.keyPem, wrong: wrong.keyPem };
  const mistakes: object[] = [
    wanted(mine),
    { certificate_pem: certificatePem, private_key_pem: wrong.keyPem },
    { certificate_pem: keyPem, private_key_pem: certificatePem },
    { certificate_pem: certificatePem + keyPem, private_key_pem: keyPem },
    { certificate_pem: keyPem, private_key_pem: keyPem },
    { certificate_pem: certificatePem, private_key_pem: keyPem.slice(0, -60) },
    { certificate_pem: certificatePem, private_key_pem: `${keyPem}${wrong.keyPem}` },
    { certificate_pem: certificatePem, private_key_pem: [keyPem] },
    { certificate_pem: certificatePem, private_key_pem: { pem: keyPem } },
    { certificate_pem: certificatePem, key: keyPem },
    { certificate_pem: certificatePem, private_key_pem: keyPem, idempotency_key: keyPem },
    { certificate_pem: certificatePem, private_key_pem: keyPem.replaceAll('\n', ' ') },
  ];
  for (const body of mistakes) {
    const { status } = await rest('POST', '/v1/certificates', body);
    assert.ok(status >= 400, JSON.stringify(body).slice(0, 80));
    const reply = await mcp('call_operation', { name: 'import_certificate', arguments: body });
    assert.equal(reply.json.result?.isError ?? reply.json.error !== undefined, true, reply.text);
  }
  await rest('POST', '/v1/certificates', wanted(mine), { 'idempotency-key': 'imported-once' });
  await rest('GET', `/v1/certificates?private_key_pem=${encodeURIComponent(keyPem)}`);
  const path = `/v1/certificates/${encodeURIComponent(keyPem.slice(28, 120))}`;
  answers.push((await send(product, { path, token: product.adminToken })).text);
  const raw = await send(product, {
    method: 'POST',
    path: '/v1/certificates',
    token: product.adminToken,
    headers: { 'content-type': 'application/json' },
    body: `{"private_key_pem": ${JSON.stringify(keyPem)}, broken`,
  });
  const plain = await send(product, {
    method: 'POST',
    path: '/v1/certificates',
    token: product.adminToken,
    headers: { 'content-type': 'application/x-pem-file' },
    body: keyPem,
  });
  const nonsense = await postMcp(product, {
    token: product.adminToken,
    body: `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"private_key_pem":${JSON.stringify(keyPem)}}}}`,
    headers: { 'content-type': 'application/json' },
  });
  answers.push(raw.text, plain.text, nonsense.text);
  for (const [name, pem] of Object.entries({
    'c.pem': certificatePem,
    'k.pem': keyPem,
    'w.pem': wrong.keyPem,
  }))
    writeFileSync(join(folder, name), pem);
  await Promise.all([
    ohp('list', 'certificates', '--json'),
    ohp(
      'import',
      'certificate',
      '--certificate-pem',
      `@${folder}/c.pem`,
      '--private-key-pem',
      `@${folder}/k.pem`,
    ),
    ohp(
      'import',
      'certificate',
      '--certificate-pem',
      `@${folder}/k.pem`,
      '--private-key-pem',
      `@${folder}/w.pem`,
    ),
  ]);
  for (const path of [
    '/v1/certificates',
    '/v1/proxies',
    `/v1/proxies/${MINE}`,
    '/v1/endpoints',
    '/openapi.json',
    '/v1/tokens',
    '/v1/health',
  ])
    await rest('GET', path);
  await mcp('list_certificates', {});
  await mcp('find_operations', { query: 'private key certificate export' });
  assert.equal(
    (await product.get(MINE, '/', {}).catch(() => ({ status: 0 }))).status,
    0,
    'the imported one is served, which the test does not trust',
  );
  await eventually(async () => {
    const { body } = await product.api('GET', '/v1/logs?kind=audit&operation=import_certificate&lines=1000');
    return body.records.length >= mistakes.length ? true : undefined;
  }, 'audit records of the imports');
  await rest('GET', '/v1/logs?kind=all&lines=1000&verbose=true&level=debug');
  await rest('GET', '/v1/logs?lines=1000&verbose=true&kind=audit');
  await mcp('get_logs', { kind: 'all', lines: 1000, verbose: true });
  assert.ok(answers.length > 40);
  const leaks = [
    ...answers.flatMap((answer, i) => found(`answer ${i}`, Buffer.from(answer), keys)),
    ...found('output', Buffer.from(product.output()), keys),
  ];
  assert.deepEqual(leaks, []);
  assert.equal(await product.stop(), 0);
  const written: string[] = [];
  const files: string[] = [];
  for (const entry of readdirSync(product.dataDir, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const bytes = readFileSync(join(entry.parentPath, entry.name));
    files.push(entry.name);
    written.push(...found(entry.name, bytes, keys));
    if (entry.name !== 'master.key') written.push(...unsealed(bytes).map((what) => `${entry.name}: ${what}`));
  }
  assert.ok(
    files.includes('state.sqlite') &&
      files.some((name) => name !== 'lock.sqlite' && name.endsWith('.sqlite') && name !== 'state.sqlite'),
    files.join(),
  );
  assert.deepEqual(written, []);
  product = await product.restart();
});

/** Keys that the system made itself (CA, leaves): known by their form, since nobody knows their content. */
function unsealed(bytes: Buffer): string[] {
  const text = bytes.toString('latin1');
  // Beginning of PKCS#8 and SEC1 of P-256, and of any RSA key in PKCS#8 (RFC 5958 §2).
  const ders = [
    '308187020100301306072a8648ce3d0201',
    '30770201010420',
    '020100300d06092a864886f70d0101010500',
  ];
  return [
    ...(/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(text) ? ['a private key in PEM'] : []),
    ...ders
      .filter((der) => bytes.includes(Buffer.from(der, 'hex')))
      .map((der) => `a private key in DER (${der})`),
    ...(/MIGHAgEAMBMGByqGSM49|MHcCAQEEI/.test(text) ? ['a private key in base64'] : []),
    ...(/"kty":"[A-Z]+"[^}]*"d":/.test(text) ? ['a private key as JWK'] : []),
  ];
}

test('incident 22: no operation but the export has a private key in its output, and none is answered by one that takes it', async () => {
  const { body } = await product.api('GET', '/openapi.json');
  const outputs = Object.entries(body.paths as Record<string, Record<string, { responses: unknown }>>)
    .filter(([path]) => path !== '/v1/certificates/{id}/export')
    .flatMap(([, methods]) => Object.values(methods))
    .map(({ responses }) => JSON.stringify(responses));
  assert.ok(outputs.length > 20);
  for (const output of outputs) assert.doesNotMatch(output, /private|key_pem|key_sealed|chain_pem/i);
});

test('incident 22: an export is for its own permission, over REST and the command line; its key is nowhere else, and who took it is in the audit log', async () => {
  const path = `/v1/certificates/${mineId}/export`;
  const exported = (token: string | undefined) => send(product, { method: 'POST', path, token, body: {} });
  const viewer = await grant(product, { bundle: 'viewer' });
  const operator = await grant(product, { bundle: 'operator' });
  const writer = await grant(product, { permissions: ['certificates:write', 'certificates:read'] });
  const hemmed = await grant(product, { permissions: ['certificates:export'], hostnames: [MINE] });
  for (const token of [viewer, operator, writer, confined, hemmed]) {
    const refused = await exported(token.secret);
    assert.equal(refused.status, 403, refused.text);
    answers.push(refused.text);
  }
  assert.equal((await exported(undefined)).status, 401);
  const exporter = await grant(product, { permissions: ['certificates:export'] });
  assert.equal(
    (await send(product, { path: `/v1/certificates/${mineId}`, token: exporter.secret })).status,
    403,
  );
  const own = await exported(exporter.secret);
  assert.equal(own.status, 200, own.text);
  assert.equal(own.headers['cache-control'], 'no-store');
  const isMine = (pem: string) => createPrivateKey(pem).equals(createPrivateKey(mine.keyPem));
  assert.ok(isMine(own.json.private_key_pem));
  assert.equal(own.json.chain_pem.trim(), mine.certificatePem.trim());
  const missing = await send(product, {
    method: 'POST',
    path: '/v1/certificates/crt_none/export',
    token: exporter.secret,
    body: {},
  });
  assert.equal(missing.status, 404);

  // Every permission there is, and over MCP nothing.
  for (const call of [
    { name: 'export_certificate', args: { id: mineId } },
    { name: 'call_operation', args: { name: 'export_certificate', arguments: { id: mineId } } },
    { name: 'run_command', args: { command: `ohp export certificate ${mineId} --yes` } },
    { name: 'run_command', args: { command: `npx ohp export certificate ${mineId} --yes` } },
    { name: 'run_command', args: { command: `node ${cli} export certificate ${mineId} --yes` } },
    { name: 'run_command', args: { command: `curl -X POST http://localhost:${product.httpPort}${path}` } },
    { name: 'run_command', args: { command: `cat ${product.dataDir}/master.key` } },
  ]) {
    const { text, json } = await mcp(call.name, call.args);
    assert.ok(json.error ?? json.result.isError, text);
    assert.match(text, /Unknown tool|NOT_FOUND|is not allowed/);
  }
  await mcp('find_operations', { query: 'export_certificate' });
  assert.doesNotMatch(answers.at(-1) ?? '', /export_certificate/);

  const folder = mkdtempSync(join(tmpdir(), 'export-'));
  after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'mine.pem');
  await ohp('export', 'certificate', mineId, '--out', file);
  assert.match(answers.splice(-2).join(''), /CONFIRMATION_REQUIRED: Give out the private key/);
  assert.ok(!existsSync(file));
  await ohp('export', 'certificate', mineId, '--out', file, '--yes');
  assert.match(answers.splice(-2).join(''), /^wrote .*mine\.pem\n$/);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  const pem = readFileSync(file, 'utf8');
  assert.ok(pem.startsWith(mine.certificatePem.trim()));
  assert.ok(isMine(pem.slice(pem.indexOf('-----BEGIN PRIVATE KEY'))));
  await ohp('export', 'certificate', mineId, '--out', file, '--yes');
  assert.match(answers.splice(-2).join(''), /INVALID_INPUT: out: .*mine\.pem is there already/);
  await ohp('export', 'certificate', mineId, '--yes');
  assert.equal(answers.splice(-2)[0], pem);
  await ohp('export', 'certificate', 'crt_none', '--out', `${file}.2`, '--yes');
  assert.ok(!existsSync(`${file}.2`));

  const audit = await eventually(async () => {
    const { body } = await product.api(
      'GET',
      '/v1/logs?kind=audit&operation=export_certificate&lines=1000&verbose=true',
    );
    const given = body.records.filter(({ outcome }: { outcome: string }) => outcome === 'OK');
    return given.length >= 3 ? JSON.stringify(body) : undefined;
  }, 'audit records of the exports');
  assert.ok(audit.includes(mineId) && audit.includes(exporter.id) && audit.includes('FORBIDDEN'));
  await rest('GET', '/v1/logs?kind=all&lines=1000&verbose=true&level=debug');
  const keys = { mine: mine.keyPem };
  const leaks = [
    ...answers.flatMap((answer, i) => found(`answer ${i}`, Buffer.from(answer), keys)),
    ...found('output', Buffer.from(product.output()), keys),
    ...readdirSync(product.dataDir, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .flatMap(({ parentPath, name }) => found(name, readFileSync(join(parentPath, name)), keys)),
  ];
  assert.deepEqual(leaks, []);
});

test("incident 22: certificates of another's hostnames do not exist for a confined credential, over REST and MCP", async () => {
  const own = { token: confined.secret };
  const call = async (method: string, path: string, body?: object) => {
    const { status, json } = await send(product, { method, path, ...own, body });
    return { status, json, message: JSON.stringify(json) };
  };
  const listed = await call('GET', '/v1/certificates?limit=200');
  assert.deepEqual(
    listed.json.certificates
      .filter(({ source }: { source: string }) => source === 'imported')
      .map(({ id }: { id: string }) => id),
    [mineId],
  );
  assert.ok(!listed.message.includes(THEIRS) && !listed.message.includes(theirsId));
  const named = await call('GET', `/v1/certificates?hostname=${THEIRS}`);
  assert.deepEqual(named.json.certificates ?? [], []);
  const absent = await call('DELETE', '/v1/certificates/crt_0000000000000000000000aa');
  const foreign = await call('DELETE', `/v1/certificates/${theirsId}`);
  assert.deepEqual([absent.status, foreign.status], [404, 404]);
  const shape = (message: string, id: string) =>
    message.replaceAll(id, 'ID').replace(/"trace_id":"[^"]+"/, '');
  assert.equal(
    shape(foreign.message, theirsId),
    shape(absent.message, 'crt_0000000000000000000000aa'),
    'told apart from one that does not exist',
  );
  for (const query of ['?force=true', '?version=1', '?version=2&force=true'])
    assert.equal((await call('DELETE', `/v1/certificates/${theirsId}${query}`)).status, 404, query);
  const imported = await call('POST', '/v1/certificates', wanted(makeLeaf([THEIRS])));
  assert.equal(imported.status, 403);
  assert.match(imported.message, /mine\.example\.com/);
  const both = await call('POST', '/v1/certificates', wanted(makeLeaf([MINE, THEIRS])));
  assert.equal(both.status, 403);
  const wild = await call('POST', '/v1/certificates', wanted(makeLeaf(['*.example.com'])));
  assert.equal(wild.status, 403);
  const overMcp = await mcp(
    'call_operation',
    { name: 'delete_certificate', arguments: { id: theirsId, force: true } },
    confined.secret,
  );
  assert.match(overMcp.text, /NOT_FOUND|no certificate/);
  const listedOverMcp = await mcp('list_certificates', {}, confined.secret);
  assert.ok(listedOverMcp.text.includes(mineId) && !listedOverMcp.text.includes(theirsId));
  const still = await product.api('GET', `/v1/certificates?hostname=${THEIRS}`);
  assert.ok(
    still.body.certificates.some(({ id }: { id: string }) => id === theirsId),
    'it is still there',
  );
});

test('incident 22: certificates need their own permission: reading does not delete, and other permissions do not read', async () => {
  const reader = await grant(product, { permissions: ['certificates:read'] });
  const other = await grant(product, {
    permissions: ['proxies:write', 'routes:write', 'tokens:write', 'logs:read'],
  });
  const status = async (token: string | undefined, method: string, path: string, body?: object) =>
    (await send(product, { method, path, token, body })).status;
  const leaf = wanted(makeLeaf(['new.example.com']));
  assert.deepEqual(
    [
      await status(reader.secret, 'GET', '/v1/certificates'),
      await status(reader.secret, 'DELETE', `/v1/certificates/${mineId}?force=true`),
      await status(reader.secret, 'POST', '/v1/certificates', leaf),
      await status(other.secret, 'GET', '/v1/certificates'),
      await status(other.secret, 'DELETE', `/v1/certificates/${mineId}?force=true`),
      await status(other.secret, 'POST', '/v1/certificates', leaf),
      await status(undefined, 'GET', '/v1/certificates'),
      await status(undefined, 'DELETE', `/v1/certificates/${mineId}`),
      await status(undefined, 'POST', '/v1/certificates', leaf),
    ],
    [200, 403, 403, 403, 403, 403, 401, 401, 401],
  );
});
