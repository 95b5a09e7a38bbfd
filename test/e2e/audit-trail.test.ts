/** The audit trail of the running product: `kill -9` under load loses no record, and who changes its files is found out. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after, before } from 'node:test';
import { callTool, configFile, generous, send } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { asAdministrator, Guide, runShell } from '../support/guide.ts';
import { type Product, startProduct } from '../support/product.ts';

const CALLS = 200;
const WORKERS = 8;
const ROUNDS = 2;

const folderOf = ({ dataDir }: Product) => join(dataDir, 'audit');
const filesOf = (product: Product) =>
  readdirSync(folderOf(product))
    .filter((name) => name.endsWith('.ndjson'))
    .sort()
    .map((name) => join(folderOf(product), name));

function recordsOf(product: Product) {
  const lines = filesOf(product).flatMap((path) => readFileSync(path, 'utf8').split('\n'));
  return lines.filter((line) => line.startsWith('{') && line.endsWith('}')).map((line) => JSON.parse(line));
}

async function verify(product: Product, query = '') {
  const { status, body } = await product.api('GET', `/v1/audit-verification${query}`);
  assert.equal(status, 200, JSON.stringify(body));
  return body;
}

test('kill -9 under load: every call that was answered is in the trail, with its result, and the trail is whole', async (t) => {
  let product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
  t.after(() => product[Symbol.asyncDispose]());
  for (let round = 0; round < ROUNDS; round++) {
    const answered = new Map<string, string>();
    const killed = Promise.withResolvers<void>();
    const work = async (worker: number) => {
      for (let i = 0; answered.size < CALLS; i++) {
        const hostname = `r${round}-w${worker}-${i}.example.com`;
        const isRead = i % 2 === 0;
        const call = isRead
          ? { method: 'GET', path: `/v1/proxies/${hostname}` }
          : { method: 'POST', path: '/v1/proxies', body: { hostname, target_url: 'http://127.0.0.1:9' } };
        const reply = await send(product, { ...call, token: product.adminToken }).catch(() => undefined);
        if (reply === undefined) return;
        answered.set(hostname, isRead ? 'get_proxy NOT_FOUND' : 'create_proxy OK');
        assert.equal(reply.status, isRead ? 404 : 201, reply.text);
        if (answered.size === CALLS) killed.resolve(product.kill());
      }
    };
    await Promise.all(Array.from({ length: WORKERS }, (_, worker) => work(worker)));
    await killed.promise;
    const told = new Map(
      recordsOf(product)
        .filter(({ outcome }) => outcome !== undefined)
        .map(({ hostname, operation, outcome }) => [hostname, `${operation} ${outcome}`]),
    );
    for (const [hostname, what] of answered) assert.equal(told.get(hostname), what, hostname);
    product = await product.restart();
    const verdict = await verify(product);
    assert.deepEqual(
      [verdict.intact, verdict.gaps, verdict.lost_records],
      [true, [], 0],
      JSON.stringify(verdict),
    );
    const records = recordsOf(product);
    const ended = new Set(records.flatMap(({ of }) => of ?? []));
    const open = records.filter(({ event, seq }) => event === 'begun' && !ended.has(seq));
    assert.deepEqual(open, [], 'what had begun has an end, be it that nobody knows it');
    t.diagnostic(
      `${answered.size} answers, ${records.filter(({ event }) => event === 'interrupted').length} interrupted`,
    );
  }
});

/** For what leaves it well, and last for what damages its trail. */
let product: Product;
before(async () => {
  product = await startProduct();
});
after(() => product[Symbol.asyncDispose]());

test('a record says who, what, by which surface and client, how it was confirmed, and what came of it', async () => {
  const hostname = 'app.example.com';
  await product.api('POST', '/v1/proxies', {
    hostname,
    target_url: 'http://127.0.0.1:9',
    request_headers: { set: { 'X-Api-Key': 'a-secret-of-the-target' } },
  });
  await callTool(product, product.adminToken, { name: 'delete_proxy', args: { hostname }, era: 'modern' });
  const [begun, created] = recordsOf(product).filter(({ operation }) => operation === 'create_proxy');
  assert.deepEqual(
    [begun.event, created.event, created.of, created.outcome],
    ['begun', 'ended', begun.seq, 'OK'],
  );
  assert.match(created.principal, /^tok_/);
  assert.equal(created.detail.surface, 'rest');
  assert.match(created.detail.proxy, /^prx_/);
  assert.equal(begun.trace_id, created.trace_id);
  assert.match(begun.detail.arguments, /"request_headers":"\[redacted\]"/);
  const [, removed] = recordsOf(product).filter(({ operation }) => operation === 'delete_proxy');
  assert.equal(removed.detail.surface, 'mcp');
  assert.equal(removed.detail.confirmation, 'not asked');
  assert.ok(removed.detail.client);
  assert.doesNotMatch(JSON.stringify(recordsOf(product)), /a-secret-of-the-target/);
});

test('the commands of the guide verify, keep a head and export, and the check of an export finds what was changed in it', async (t) => {
  const cwd = mkdtempSync(join(tmpdir(), 'audit-guide-'));
  t.after(() => rmSync(cwd, { recursive: true }));
  await product.api('POST', '/v1/proxies', { hostname: 'app.example.com', target_url: 'http://127.0.0.1:9' });
  const guide = new Guide('audit');
  const run = (block: string) => runShell(block, { env: asAdministrator(product), cwd });
  const told = async (holds: string, says: RegExp) => {
    const ran = await run(guide.block('bash', holds));
    assert.equal(ran.code, 0, ran.err);
    assert.match(ran.out + ran.err, says);
  };
  await told('HEAD=', /intact: true/);
  await told('--out audit.ndjson', /wrote .*audit\.ndjson/);
  await told('createHash', /^\d+ records, the last has the hash [0-9a-f]{64}\n$/);
  const exported = join(cwd, 'audit.ndjson');
  const whole = readFileSync(exported, 'utf8');
  const { seq, hash } = JSON.parse(whole.trimEnd().split('\n').at(-1) ?? '');
  // Neither a server nor a key: an auditor has neither.
  const audit = (more: string, env = {}) =>
    runShell(`HEAD=${seq}.${hash}\n${guide.block('bash', 'audit-files').replace(/^.* data$/m, '')}${more}`, {
      cwd,
      env,
    });
  const good = await audit('');
  assert.equal(good.code, 0, good.err);
  assert.match(good.out, /^intact: +true$/m);
  assert.match(good.err, /without the master key/);
  writeFileSync(exported, whole.replace('create_proxy', 'delete_proxy'));
  assert.match((await run(guide.block('bash', 'createHash'))).err, /record \d+ was changed/);
  const bad = await audit('');
  assert.equal(bad.code, 5, bad.err);
  assert.match(bad.err, /PRECONDITION_FAILED: .*audit\.ndjson, byte \d+: was changed since it was written/);
  writeFileSync(exported, whole.slice(0, whole.lastIndexOf('\n', whole.length - 2) + 1));
  assert.match(
    (await audit('')).err,
    new RegExp(`record ${seq}, of which you have the hash, is not among those`),
  );
});

test('a data folder in use is verified without asking its server, with its key, and what was changed there is found', async (t) => {
  const product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
  t.after(() => product[Symbol.asyncDispose]());
  const line = new Guide('audit').block('bash', 'audit-files').split('\n')[0] ?? '';
  const look = () => runShell(line.replace(/data$/, product.dataDir), { cwd: '/' });
  const isBusy = { is: true };
  const busy = (async () => {
    while (isBusy.is) await product.api('GET', '/v1/proxies');
  })();
  for (let round = 0; round < 3; round++) {
    const { code, out, err } = await look();
    assert.equal(code, 0, err);
    assert.match(out, /^intact: +true$[^]*^macs_checked: +true$/m);
  }
  isBusy.is = false;
  await busy;
  const [path = ''] = filesOf(product);
  writeFileSync(path, readFileSync(path, 'latin1').replace('"outcome":"OK"', '"outcome":"NO"'), 'latin1');
  const { code, err } = await look();
  assert.equal(code, 5, err);
  assert.match(err, /ndjson, byte \d+: was changed since it was written/);
});

test('an end that was cut off, and a trail that was replaced by none, are found at the next start and told', async () => {
  await product.api('POST', '/v1/proxies', { hostname: 'app.example.com', target_url: 'http://127.0.0.1:9' });
  const { intact, head } = await verify(product);
  assert.equal(intact, true);
  await product.stop();
  const [path = ''] = filesOf(product);
  const bytes = readFileSync(path);
  truncateSync(path, bytes.lastIndexOf('\n', bytes.length - 2) + 1);
  product = await product.restart();
  assert.match((await verify(product)).fault.message, /records that were on the disk are gone/);
  const { body } = await product.api('GET', '/v1/health');
  assert.equal(body.components.find((one: any) => one.name === 'audit_trail').status, 'degraded');
  await product.stop();
  rmSync(folderOf(product), { recursive: true });
  product = await product.restart();
  assert.match(
    (await verify(product)).fault.message,
    /record \d+, which the store knows of, is not in the trail/,
  );
  const kept = await verify(product, `?known_head=${head}`);
  assert.equal(kept.intact, false);
  await eventually(async () => {
    const { body: logs } = await product.api('GET', '/v1/logs?kind=all&contains=audit.broken');
    return logs.records.find(({ level }: { level: string }) => level === 'error');
  }, 'the alert');
});
