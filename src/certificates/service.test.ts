import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { connect, createServer as createTcpServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import tls from 'node:tls';
import { callbackify } from 'node:util';
import { createSealer } from '../config/secrets.ts';
import { DAY, HOUR, ManualClock, MINUTE } from '../core/clock.ts';
import { type CallContext, createDispatch } from '../core/dispatch.ts';
import { AppError, type ErrorCode } from '../core/errors.ts';
import { createEvents } from '../core/events.ts';
import { type Principal, system } from '../core/principal.ts';
import type { Log, LogRecord } from '../core/record.ts';
import { createIdempotencyStore } from '../store/idempotency.ts';
import { openSqlite } from '../store/sqlite.ts';
import { type Made, makeCa, makeLeaf, openssl } from './openssl.fixture.ts';
import { certificateOperations } from './operations.ts';
import type { Certificate, ListedCertificate } from './schema.ts';
import type { OnDemandPort } from './select.ts';
import { openCertificates } from './service.ts';

const masterKey = Buffer.alloc(32, 1);

interface Setup {
  folder?: string;
  clock?: ManualClock;
  served?: string[];
  key?: Buffer;
  controlHosts?: string[];
  onDemand?: OnDemandPort;
}

function temporary(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'certificates-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

async function start(t: TestContext, setup: Setup = {}) {
  const folder = setup.folder ?? temporary(t);
  const clock = setup.clock ?? new ManualClock(Date.now() + MINUTE);
  const served = new Set(setup.served ?? ['app.example.com', '*.wild.test']);
  const database = await openSqlite(join(folder, 'state.db'), clock);
  const events = createEvents();
  const records: LogRecord[] = [];
  const log: Log = { write: (record) => void records.push(record), enabled: () => true };
  const caFile = join(folder, 'ca.pem');
  const certificates = await openCertificates({
    database,
    sealer: createSealer(setup.key ?? masterKey),
    clock,
    events,
    log,
    caFile,
    controlHosts: setup.controlHosts ?? ['localhost'],
    servedName: (hostname) =>
      [hostname, `*${hostname.slice(hostname.indexOf('.'))}`].find((name) => served.has(name)),
    servedHostnames: () => served,
    onDemand: setup.onDemand,
  }).catch(async (error: unknown) => {
    await database[Symbol.asyncDispose]();
    throw error;
  });
  let stopped: Promise<void> | undefined;
  const stop = () =>
    (stopped ??= certificates[Symbol.asyncDispose]().then(() => database[Symbol.asyncDispose]()));
  t.after(stop);
  const idempotency = createIdempotencyStore(database, clock, createSealer(Buffer.alloc(32)));
  const dispatch = createDispatch({ services: { certificates }, log, clock, idempotency });
  const call = (name: string, principal: Principal, input: object) => {
    const operation = certificateOperations.find((candidate) => candidate.name === name);
    assert.ok(operation, name);
    return dispatch(operation, input, contextOf(principal));
  };
  const importMade = async (made: Made, principal = system, chain: readonly Made[] = []) =>
    (await call('import_certificate', principal, {
      certificate_pem: [made, ...chain].map(({ certificatePem }) => certificatePem).join(''),
      private_key_pem: made.keyPem,
    })) as Certificate;
  const list = async (principal: Principal = system, input: object = {}) =>
    ((await call('list_certificates', principal, input)) as { certificates: ListedCertificate[] })
      .certificates;
  return {
    folder,
    clock,
    served,
    database,
    events,
    records,
    caFile,
    certificates,
    call,
    importMade,
    list,
    stop,
  };
}

type App = Awaited<ReturnType<typeof start>>;

const contextOf = (principal: Principal): CallContext => ({
  principal,
  signal: new AbortController().signal,
  traceId: '0'.repeat(32),
  surface: 'internal',
  clientAddress: undefined,
});

const confinedTo = (...hostnames: string[]): Principal => ({
  ...system,
  id: 'tok_c',
  kind: 'token',
  hostnames,
});

const refused = (code: ErrorCode, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof AppError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return true;
};

/** A TLS server whose every context comes from `select`, as in the gateway. */
async function serve(t: TestContext, { certificates }: App): Promise<number> {
  const SNICallback = callbackify(async (name: string) => {
    const context = await certificates.select(name);
    assert.ok(context, 'not served');
    return context;
  });
  const server: Server = createTcpServer((socket) => {
    socket.on('error', () => socket.destroy());
    const accept = async () => {
      const secureContext = await certificates.select(undefined);
      assert.ok(secureContext);
      const secure = new tls.TLSSocket(socket, { isServer: true, SNICallback, secureContext });
      secure.on('error', () => secure.destroy());
      secure.on('secure', () => secure.end('served'));
    };
    accept().catch((error: Error) => socket.destroy(error));
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  t.after(() => new Promise((resolve) => void server.close(resolve)));
  const address = server.address();
  assert.ok(typeof address === 'object' && address);
  return address.port;
}

/** Resolves with the certificate that the server showed; rejects as the client does when it does not trust it. */
function handshake(port: number, ca: string, servername?: string): Promise<tls.PeerCertificate> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    const secure = tls.connect({
      socket,
      ca,
      ...(servername === undefined ? { host: '127.0.0.1' } : { servername }),
    });
    secure.once('error', reject);
    secure.once('secureConnect', () => {
      const peer = secure.getPeerCertificate();
      secure.once('close', () => resolve(peer)).resume();
    });
  });
}

const ids = (rows: readonly { id: string }[]) => rows.map(({ id }) => id);

test('every served hostname has a certificate that verifies under ca.pem from the first handshake', async (t) => {
  const app = await start(t);
  const port = await serve(t, app);
  const ca = readFileSync(app.caFile, 'utf8');
  for (const name of ['app.example.com', 'localhost', 'a.wild.test'])
    assert.ok(await handshake(port, ca, name), name);
  const peer = await handshake(port, ca, 'app.example.com');
  assert.equal(peer.subjectaltname, 'DNS:app.example.com');
  await assert.rejects(handshake(port, '', 'app.example.com'), /unable to|self-signed/);
});

test('a client that names no host gets the certificate of the first control host, which is good for 127.0.0.1', async (t) => {
  const app = await start(t);
  const peer = await handshake(await serve(t, app), readFileSync(app.caFile, 'utf8'));
  assert.equal(peer.subjectaltname, 'DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1');
});

test('a name that is not served, or is no hostname, gets nothing and makes nothing', async (t) => {
  const app = await start(t);
  for (const name of [
    'other.example.com',
    'example.com',
    'a.b.wild.test',
    'wild.test',
    '',
    '127.0.0.1',
    'a b',
    '\0',
  ])
    assert.equal(await app.certificates.select(name), undefined, name);
  assert.deepEqual(await app.list(), []);
  await assert.rejects(handshake(await serve(t, app), readFileSync(app.caFile, 'utf8'), 'other.example.com'));
});

test('a hundred first handshakes at once issue one certificate, and all names under a wildcard share one', async (t) => {
  const app = await start(t);
  const contexts = await Promise.all(
    Array.from({ length: 100 }, (_, i) =>
      app.certificates.select(i % 2 ? 'app.example.com' : 'APP.Example.com.'),
    ),
  );
  assert.equal(new Set(contexts).size, 1);
  assert.ok(contexts[0]);
  assert.equal((await app.list()).length, 1);
  const wild = await Promise.all(
    Array.from({ length: 100 }, (_, i) => app.certificates.select(`n${i}.wild.test`)),
  );
  assert.equal(new Set(wild).size, 1);
  assert.deepEqual(
    (await app.list(system, { hostname: 'n1.wild.test' })).map(({ names }) => names),
    [['*.wild.test']],
  );
  assert.equal((await app.list()).length, 2);
});

test('the same name gets the same context again until something changes', async (t) => {
  const app = await start(t);
  const first = await app.certificates.select('app.example.com');
  const again = app.certificates.select('app.example.com');
  assert.equal(app.certificates.select('app.example.com'), again, 'not even a new promise');
  assert.equal(await again, first);
});

test('authority and certificates survive a restart', async (t) => {
  const folder = temporary(t);
  const before = await start(t, { folder });
  await before.certificates.ensure(['app.example.com', 'localhost']);
  const { certificatePem, keyPem } = makeLeaf(['imported.test']);
  await before.importMade({ certificatePem, keyPem });
  const listed = await before.list();
  const ca = readFileSync(before.caFile, 'utf8');
  await before.stop();
  const after = await start(t, { folder });
  assert.equal(readFileSync(after.caFile, 'utf8'), ca);
  assert.equal(listed.length, 3);
  assert.deepEqual(await after.list(), listed);
  assert.ok(await handshake(await serve(t, after), ca, 'app.example.com'));
  assert.equal((await after.list()).length, 3, 'none was issued again');
});

test('ca.pem holds the root alone, is readable by all, and is written again when it is lost', async (t) => {
  const folder = temporary(t);
  const before = await start(t, { folder });
  assert.equal(statSync(before.caFile).mode & 0o777, 0o644);
  const text = readFileSync(before.caFile, 'utf8');
  assert.match(
    openssl(text, 'x509', '-noout', '-subject', '-ext', 'basicConstraints'),
    /internal CA[^]*CA:TRUE/,
  );
  await before.stop();
  rmSync(before.caFile);
  const after = await start(t, { folder });
  assert.equal(readFileSync(after.caFile, 'utf8'), text);
});

test('no private key is in the data in the clear, in no answer and in no record', async (t) => {
  const app = await start(t);
  const made = makeLeaf(['imported.test']);
  const answer = await app.importMade(made);
  await app.certificates.ensure(['app.example.com', 'localhost']);
  const shown = JSON.stringify([answer, await app.list(), app.records]);
  await app.stop();
  const bytes = Buffer.concat(readdirSync(app.folder).map((name) => readFileSync(join(app.folder, name))));
  const der = Buffer.from(made.keyPem.replace(/-----.*-----|\n/g, ''), 'base64');
  const [, line = ''] = made.keyPem.split('\n');
  for (const canary of ['PRIVATE KEY', line]) {
    assert.equal(bytes.includes(canary), false);
    assert.equal(shown.includes(canary), false);
  }
  assert.equal(bytes.includes(der.subarray(36, 68)), false, 'nor the bare number');
  assert.ok(bytes.includes('BEGIN CERTIFICATE'), 'the search would have found it');
});

test('a key pasted into the wrong field is in no record either', async (t) => {
  const app = await start(t);
  const made = makeLeaf(['imported.test']);
  const input = { certificate_pem: made.certificatePem + made.keyPem, private_key_pem: made.keyPem };
  await assert.rejects(
    app.call('import_certificate', system, input),
    refused('INVALID_INPUT', /holds a private key/),
  );
  assert.ok(app.records.length > 0);
  assert.doesNotMatch(JSON.stringify(app.records), /BEGIN|MIGH/);
});

test('another master key stops the start and says what to restore', async (t) => {
  const folder = temporary(t);
  await (await start(t, { folder })).stop();
  await assert.rejects(
    start(t, { folder, key: Buffer.alloc(32, 2) }),
    /authority:ath_\w+ was sealed with another master key .*restore master\.key or OHP_MASTER_KEY/,
  );
});

test('an imported certificate is served where it fits, at once, and its chain with it', async (t) => {
  const app = await start(t);
  const port = await serve(t, app);
  const ca = readFileSync(app.caFile, 'utf8');
  assert.match(String((await handshake(port, ca, 'app.example.com')).issuer.CN), /internal CA/);
  const root = makeCa('/CN=Public root');
  const middle = makeCa('/CN=Public middle', root);
  await app.importMade(makeLeaf(['app.example.com'], middle, { keyPem: rsaKey() }), system, [middle]);
  const peer = await handshake(port, root.certificatePem, 'app.example.com');
  assert.equal(peer.issuer.CN, 'Public middle');
  assert.match(String((await handshake(port, ca, 'localhost')).issuer.CN), /internal CA/);
});

const rsaKey = () => openssl('', 'genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048');

test('an exact name is preferred to a wildcard, and then the certificate that is valid longest', async (t) => {
  const app = await start(t, { served: ['a.wild.test', '*.wild.test'] });
  const wild = await app.importMade(makeLeaf(['*.wild.test'], undefined, { days: 300 }));
  const short = await app.importMade(makeLeaf(['a.wild.test'], undefined, { days: 20 }));
  const long = await app.importMade(makeLeaf(['a.wild.test'], undefined, { days: 40 }));
  const used = async () =>
    (await app.list()).filter(({ used_by }) => used_by.length > 0).map(({ id, used_by }) => [id, used_by]);
  assert.deepEqual(await used(), [
    [long.id, ['a.wild.test']],
    [wild.id, ['*.wild.test']],
  ]);
  await app.call('delete_certificate', system, { id: long.id, force: true });
  assert.deepEqual((await used())[0], [short.id, ['a.wild.test']]);
  app.clock.advance(21 * DAY);
  assert.deepEqual(await used(), [[wild.id, ['a.wild.test', '*.wild.test']]]);
});

test('a certificate of one name below a wildcard is in use: told, watched, and not deleted by mistake', async (t) => {
  const app = await start(t, { served: ['*.wild.test'], controlHosts: ['localhost'] });
  await app.certificates.ensure(app.served);
  const older = await app.importMade(makeLeaf(['a.wild.test'], undefined, { days: 5 }));
  const one = await app.importMade(makeLeaf(['a.wild.test', 'a.b.wild.test'], undefined, { days: 20 }));
  const used = async () => Object.fromEntries((await app.list()).map(({ id, used_by }) => [id, used_by]));
  assert.deepEqual((await used())[one.id], ['a.wild.test']);
  assert.deepEqual((await used())[older.id], []);
  assert.equal(await app.certificates.soonestExpiry(), Date.parse(one.not_after));
  await assert.rejects(app.call('delete_certificate', system, { id: one.id }), /is in use by a\.wild\.test/);
  app.served.clear();
  assert.deepEqual((await used())[one.id], []);
});

test('what is left to end because nobody comes for its name raises no alarm, and is in use all the same', async (t) => {
  const left = new Set<string>();
  const onDemand = {
    certificate: async () => undefined,
    seen: () => {},
    isLeft: (hostname: string) => left.has(hostname),
  };
  const app = await start(t, { served: ['*.wild.test'], onDemand });
  const { id } = await app.importMade(makeLeaf(['a.wild.test'], undefined, { days: 5 }));
  const watched = () => [...app.certificates.used()].filter(([entry]) => entry.id === id).length;
  assert.equal(watched(), 1);
  left.add('a.wild.test');
  assert.equal(watched(), 0);
  assert.notEqual(await app.certificates.soonestExpiry(), app.certificates.entry(id)?.notAfter);
  await assert.rejects(app.call('delete_certificate', system, { id }), /is in use by a\.wild\.test/);
});

test('when an imported certificate ends, the internal CA steps in', async (t) => {
  const app = await start(t);
  await app.importMade(makeLeaf(['app.example.com'], undefined, { days: 20 }));
  const imported = await app.certificates.select('app.example.com');
  app.clock.advance(20 * DAY + HOUR);
  const next = await app.certificates.select('app.example.com');
  assert.ok(next && next !== imported);
  const [, internal] = await app.list();
  assert.deepEqual([internal?.source, internal?.used_by], ['internal', ['app.example.com']]);
});

test('internal certificates are renewed thirty days before they end, and those no longer wanted are removed', async (t) => {
  const app = await start(t, { served: ['app.example.com', 'gone.example.com', 'public.example.com'] });
  await app.certificates.ensure(app.served);
  const first = await app.list();
  assert.deepEqual(
    first.map(({ not_after }) => Date.parse(not_after) - app.clock.now() > 89 * DAY),
    [true, true, true],
  );
  app.clock.advance(59 * DAY);
  await app.certificates.renewDue();
  assert.deepEqual(ids(await app.list()), ids(first), 'none is due');
  app.served.delete('gone.example.com');
  await app.importMade(makeLeaf(['public.example.com'], undefined, { days: 300 }));
  const removed: string[] = [];
  app.events.on('certificate.removed', ({ id }) => void removed.push(id));
  app.clock.advance(DAY + HOUR);
  await app.certificates.renewDue();
  const internal = (await app.list()).filter(({ source }) => source === 'internal');
  assert.deepEqual(
    internal.map(({ names }) => names),
    [['app.example.com']],
  );
  assert.ok(Date.parse(internal[0]?.not_after ?? '') > app.clock.now() + 89 * DAY);
  assert.deepEqual(removed.sort(), ids(first).sort());
  assert.equal((await app.certificates.soonestExpiry()) ?? 0, Date.parse(internal[0]?.not_after ?? ''));
});

test('a certificate that is due is served while its successor is made, and one that is over is not', async (t) => {
  const clock = new ManualClock(Date.now());
  const folder = temporary(t);
  const before = await start(t, { folder, clock });
  await before.certificates.ensure(['app.example.com']);
  const [old] = await before.list();
  await before.stop();
  clock.advance(70 * DAY);
  const due = await start(t, { folder, clock });
  const renewed = new Promise((resolve) => void due.events.on('certificate.ready', resolve));
  assert.ok(await due.certificates.select('app.example.com'));
  await renewed;
  const [fresh] = await due.list();
  assert.notEqual(fresh?.id, old?.id);
  await due.stop();
  clock.advance(100 * DAY);
  const over = await start(t, { folder, clock });
  assert.ok(await over.certificates.select('app.example.com'));
  const [newest, ...rest] = await over.list();
  assert.deepEqual(rest, []);
  assert.ok(Date.parse(newest?.not_after ?? '') > clock.now());
});

test('the root is made anew before it ends, while it can still sign', async (t) => {
  const clock = new ManualClock(Date.now());
  const folder = temporary(t);
  const before = await start(t, { folder, clock });
  const ca = readFileSync(before.caFile, 'utf8');
  await before.stop();
  clock.advance((3650 - 89) * DAY);
  const after = await start(t, { folder, clock });
  assert.notEqual(readFileSync(after.caFile, 'utf8'), ca);
  assert.match(
    after.records.map(({ message }) => message).join(),
    /made the internal CA .*have to trust ca\.pem/,
  );
});

test('a proxy that is published gets its certificate ahead of the first handshake', async (t) => {
  const app = await start(t);
  app.served.add('new.example.com');
  const ready = new Promise<{ names: readonly string[] }>(
    (resolve) => void app.events.on('certificate.ready', resolve),
  );
  app.events.emit('proxy.changed', { hostnames: ['new.example.com', 'deleted.example.com'] });
  assert.deepEqual((await ready).names, ['new.example.com']);
});

test('what is no longer served gets no certificate from the next handshake on', async (t) => {
  const app = await start(t);
  assert.ok(await app.certificates.select('app.example.com'));
  app.served.delete('app.example.com');
  app.events.emit('proxy.changed', { hostnames: ['app.example.com'] });
  assert.equal(await app.certificates.select('app.example.com'), undefined);
});

test('a certificate whose key does not open fails the handshake, and the others go on', async (t) => {
  const folder = temporary(t);
  const before = await start(t, { folder });
  const { id } = await before.importMade(makeLeaf(['app.example.com']));
  const other = await before.importMade(makeLeaf(['a.wild.test']));
  await before.database.change({}, async (tx) => {
    const { key_sealed } = await tx
      .selectFrom('certificates')
      .select('key_sealed')
      .where('id', '=', other.id)
      .executeTakeFirstOrThrow();
    await tx.updateTable('certificates').set({ key_sealed }).where('id', '=', id).execute();
  });
  await before.stop();
  const after = await start(t, { folder });
  await assert.rejects(
    after.certificates.select('app.example.com'),
    /changed since it was sealed, or belongs elsewhere/,
  );
  assert.ok(await after.certificates.select('a.wild.test'));
});

test('a row that can not be read is reported and takes no other down', async (t) => {
  const folder = temporary(t);
  const before = await start(t, { folder });
  const { id } = await before.importMade(makeLeaf(['broken.test']));
  const { id: sound } = await before.importMade(makeLeaf(['sound.test']));
  await before.database.change({}, async (tx) => {
    await tx.updateTable('certificates').set({ document: '{}' }).where('id', '=', id).execute();
  });
  await before.stop();
  const after = await start(t, { folder });
  assert.deepEqual(ids(await after.list()), [sound]);
  assert.match(after.records.map(({ message }) => message).join(), new RegExp(`${id} can't be read`));
});

test('importing what is there already is a conflict that names it, and a repeated call gives the first result', async (t) => {
  const app = await start(t);
  const made = makeLeaf(['a.test']);
  const input = {
    certificate_pem: made.certificatePem,
    private_key_pem: made.keyPem,
    idempotency_key: 'key-0001',
  };
  const first = await app.call('import_certificate', system, input);
  assert.deepEqual(await app.call('import_certificate', system, input), first);
  await assert.rejects(app.importMade(made), refused('CONFLICT', new RegExp(`as ${String(first.id)}`)));
  assert.equal((await app.list()).length, 1);
});

test('a certificate in use is deleted only by force, and only in the version that was read', async (t) => {
  const app = await start(t);
  const root = makeCa('/CN=Public root');
  const { id } = await app.importMade(makeLeaf(['app.example.com'], root));
  const port = await serve(t, app);
  const remove = (input: object) => app.call('delete_certificate', system, { id, ...input });
  await assert.rejects(
    remove({}),
    refused('PRECONDITION_FAILED', /in use by app\.example\.com; with force: true/),
  );
  assert.ok(await handshake(port, root.certificatePem, 'app.example.com'), 'served as before');
  await assert.rejects(
    remove({ force: true, version: 2 }),
    refused('PRECONDITION_FAILED', /at version 1, not 2/),
  );
  assert.equal((await remove({ force: true, version: 1 })).id, id);
  assert.ok(!ids(await app.list()).includes(id));
  const internal = await handshake(port, readFileSync(app.caFile, 'utf8'), 'app.example.com');
  assert.match(String(internal.issuer.CN), /internal CA/);
  const idle = await app.importMade(makeLeaf(['idle.test']));
  await app.call('delete_certificate', system, { id: idle.id });
  await assert.rejects(remove({ force: true }), refused('NOT_FOUND', /no certificate/));
});

test('a confined principal sees, imports and deletes only what belongs to its own hostnames', async (t) => {
  const app = await start(t, { served: ['app.dev.test', 'prod.test'] });
  const dev = confinedTo('*.dev.test');
  const mixed = await app.importMade(makeLeaf(['app.dev.test', 'prod.test']));
  const prod = await app.importMade(makeLeaf(['prod.test']));
  const own = await app.importMade(makeLeaf(['x.dev.test']), dev);
  const shown = await app.list(dev);
  assert.deepEqual(
    shown.map(({ id, names, used_by }) => ({ id, names, used_by })).sort((a, b) => (a.id < b.id ? -1 : 1)),
    [
      { id: mixed.id, names: ['app.dev.test'], used_by: ['app.dev.test'] },
      { id: own.id, names: ['x.dev.test'], used_by: [] },
    ].sort((a, b) => (a.id < b.id ? -1 : 1)),
  );
  await assert.rejects(
    app.importMade(makeLeaf(['y.dev.test', 'prod.test']), dev),
    refused('FORBIDDEN', /confined to \*\.dev\.test; prod\.test is outside/),
  );
  const remove = (id: string) => app.call('delete_certificate', dev, { id, force: true });
  await assert.rejects(remove(prod.id), refused('NOT_FOUND', /no certificate/));
  await assert.rejects(
    remove(mixed.id),
    refused('FORBIDDEN', /also covers hostnames outside of \*\.dev\.test/),
  );
  await remove(own.id);
  assert.deepEqual(await app.list(confinedTo()), []);
});

test('a certificate over a parent wildcard is shown to who owns a name under it, but is not theirs to delete', async (t) => {
  const app = await start(t, { served: ['app.example.com'] });
  const { id } = await app.importMade(makeLeaf(['*.example.com', 'example.com']));
  const owner = confinedTo('app.example.com');
  const [seen] = await app.list(owner);
  assert.deepEqual([seen?.names, seen?.used_by], [['*.example.com'], ['app.example.com']]);
  const askFor = (hostname: string) => app.list(owner, { hostname });
  assert.equal((await askFor('app.example.com')).length, 1);
  assert.deepEqual(
    await askFor('example.com'),
    [],
    'names that are not shown are not found out by the filter',
  );
  await assert.rejects(
    app.call('delete_certificate', owner, { id }),
    refused('FORBIDDEN', /outside of app\.example\.com/),
  );
});

test('a list is paged by a cursor, soonest to expire first', async (t) => {
  const app = await start(t);
  const days = [9, 3, 7, 5, 1];
  for (const day of days) await app.importMade(makeLeaf([`d${day}.test`], undefined, { days: day }));
  const seen: string[] = [];
  for (let cursor: string | undefined; ; ) {
    const input = { limit: 2, ...(cursor && { cursor }) };
    const page = (await app.call('list_certificates', system, input)) as {
      certificates: ListedCertificate[];
      next_cursor?: string;
    };
    seen.push(...page.certificates.flatMap(({ names }) => names));
    cursor = page.next_cursor;
    if (!cursor) break;
  }
  assert.deepEqual(seen, ['d1.test', 'd3.test', 'd5.test', 'd7.test', 'd9.test']);
  await assert.rejects(
    app.call('list_certificates', system, { cursor: 'x' }),
    refused('INVALID_INPUT', /cursor/),
  );
});

test('what a stranger wrote into an issuer is shown without control characters', async (t) => {
  const app = await start(t);
  const { issuer } = await app.importMade(
    makeLeaf(['a.test'], undefined, { subject: '/O=Evil\u0007\u202e/CN=x' }),
  );
  assert.doesNotMatch(issuer, /[\p{Cc}\u202e]/u);
  assert.match(issuer, /^O=Evil.*, CN=x$/);
});

test('stopping waits for what is being issued', async (t) => {
  const app = await start(t);
  app.events.emit('proxy.changed', { hostnames: ['app.example.com'] });
  const selecting = app.certificates.select('a.wild.test').then(
    () => 'made',
    () => 'refused',
  );
  await app.stop();
  assert.ok(await selecting);
  assert.deepEqual(
    app.records.filter(({ level }) => level === 'error'),
    [],
  );
});
