import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createSocket } from 'node:dgram';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { suite, type TestContext } from 'node:test';
import { type Bind, startBind, withoutBind } from '../../../test/support/bind.ts';
import { SECOND, systemClock } from '../../core/clock.ts';
import { AppError } from '../../core/errors.ts';
import { judgeCaa } from './caa.ts';
import { challengeRecordSchema, createDns, type Dns, type DnsOptions } from './providers.ts';
import type { DnsProviderSettings } from './schema.ts';

const SECRET = randomBytes(32).toString('base64');
const KEY = { name: 'acme', algorithm: 'hmac-sha256', secret: SECRET };
/** Of work that nobody cancels; the runner ends a test that hangs. */
const { signal } = new AbortController();

const NAME_SERVERS = '@ NS ns1\n@ NS ns2\nns1 A 127.0.0.2\nns2 A 127.0.0.3\n';
const ZONES = {
  'example.test': `${NAME_SERVERS}
    _acme-challenge.delegated CNAME hop.example.test.
    hop CNAME delegated.challenges.test.
    _acme-challenge.loop CNAME loop2
    loop2 CNAME _acme-challenge.loop
    _acme-challenge.weird CNAME we\\032ird
    _acme-challenge.option CNAME -rf
    _acme-challenge.outside CNAME x.nowhere.test.
    www A 127.0.0.1
    www AAAA 2001:db8::1
    alias CNAME www
    private A 10.1.2.3
    private AAAA fd00::1
    v4only A 93.184.215.14
    dangling CNAME absent.example.test.
    mapped AAAA ::ffff:10.0.0.1
    dark CNAME name.broken.test.
  `,
  'challenges.test': '@ NS ns1.example.test.\n',
  'nowhere.test': '@ NS ns1.example.test.\n',
  'sub.example.test': '@ NS ns1.example.test.\n',
  'homeless.test': '@ NS ns.absent.example.test.\n',
  'caa.test': `@ NS ns1.example.test.
    @ CAA 0 issue "ca.test; validationmethods=dns-01"
    @ CAA 0 iodef "mailto:security@caa.test"
    open CAA 0 issue ";"
    deep.name A 127.0.0.1
    alias CNAME open
  `,
  'broken.test': undefined,
};

interface World {
  bind: Bind;
  dns: Dns;
  folder: string;
  at: (port: number, changes?: Partial<DnsOptions>) => Dns;
}

const rfc2136 = (bind: Bind, zones: string[]): DnsProviderSettings => ({
  provider: 'rfc2136',
  zones,
  use: 'last',
  server: bind.addresses[0],
  port: bind.port,
  key_name: 'acme',
  algorithm: 'hmac-sha256',
  secret: { env: 'ACME_KEY' },
});

async function start(t: TestContext, addresses = ['127.0.0.2', '127.0.0.3']): Promise<World> {
  const bind = await startBind({ zones: ZONES, addresses, keys: [KEY], policy: 'grant acme zonesub TXT;' });
  const folder = mkdtempSync(join(tmpdir(), 'dns-'));
  t.after(async () => {
    await bind[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });
  const at = (port: number, changes: Partial<DnsOptions> = {}): Dns =>
    createDns({
      providers: [rfc2136(bind, ['example.test', 'challenges.test'])],
      resolvers: [`${addresses[0]}:${port}`],
      propagationTimeoutMs: 60 * SECOND,
      scratchDir: folder,
      network: { clock: systemClock, randomBytes },
      fetch,
      environment: { ACME_KEY: SECRET },
      authorityPort: bind.port,
      ...changes,
    });
  return { bind, folder, at, dns: at(bind.port) };
}

const codeIs = (code: string, words: RegExp) => (error: unknown) => {
  assert.ok(error instanceof AppError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, words);
  return true;
};
const located = (dns: Dns, host: string, value = 'v') =>
  dns.locate({ name: `_acme-challenge.${host}`, value }, signal);

suite('where a record of DNS-01 belongs', { skip: withoutBind }, () => {
  test('in the nearest zone with a SOA record', async (t) => {
    const { dns } = await start(t);
    const at = { provider_zone: 'example.test', value: 'v' };
    assert.deepEqual(await located(dns, 'a.b.example.test'), {
      asked: '_acme-challenge.a.b.example.test',
      name: '_acme-challenge.a.b.example.test',
      zone: 'example.test',
      ...at,
    });
    assert.equal((await located(dns, 'x.sub.example.test')).zone, 'sub.example.test');
  });

  test('in the zone that CNAME records delegate it to, over several', async (t) => {
    const { dns, bind } = await start(t);
    const record = await located(dns, 'delegated.example.test');
    assert.deepEqual(record, {
      asked: '_acme-challenge.delegated.example.test',
      name: 'delegated.challenges.test',
      zone: 'challenges.test',
      provider_zone: 'challenges.test',
      value: 'v',
    });
    await dns.publish(record, signal);
    const read = await bind.dig('_acme-challenge.delegated.example.test', 'TXT');
    assert.deepEqual(read, ['hop.example.test.', 'delegated.challenges.test.']);
    assert.deepEqual(await bind.dig('delegated.challenges.test', 'TXT'), ['"v"']);
    await dns.withdraw(challengeRecordSchema.parse(JSON.parse(JSON.stringify(record))), signal);
    assert.deepEqual(await bind.dig('delegated.challenges.test', 'TXT'), []);
  });

  test('nowhere, where CNAME records go in circles', async (t) => {
    const { dns } = await start(t);
    await assert.rejects(located(dns, 'loop.example.test'), codeIs('PRECONDITION_FAILED', /go in circles/));
  });

  test('nowhere, where CNAME records lead to a name that is no hostname, which a program would get', async (t) => {
    const { dns } = await start(t);
    for (const host of ['weird', 'option'])
      await assert.rejects(
        located(dns, `${host}.example.test`),
        codeIs('PRECONDITION_FAILED', /is an alias of .*, which is no name for a record/),
      );
    await assert.rejects(located(dns, 'www.example.test', 'a value"'), /value/);
  });

  test('nowhere, where no provider has the zone, and it is said which zone and why', async (t) => {
    const { dns } = await start(t);
    await assert.rejects(
      located(dns, 'outside.example.test'),
      codeIs(
        'PRECONDITION_FAILED',
        /no DNS provider is set for x.nowhere.test, which it is an alias of by CNAME/,
      ),
    );
    await assert.rejects(
      located(dns, 'nowhere.test'),
      codeIs('PRECONDITION_FAILED', /_acme-challenge.nowhere.test: /),
    );
  });

  test('a DNS that answers SERVFAIL is no permission to guess', async (t) => {
    const { at, bind } = await start(t);
    const dns = at(bind.port, { providers: [rfc2136(bind, ['broken.test'])] });
    await assert.rejects(
      located(dns, 'broken.test'),
      codeIs('UNAVAILABLE', /CNAME record of .* answered SERVFAIL/),
    );
  });

  test('a provider that was taken out of the settings is told as that', async (t) => {
    const { dns, at, bind } = await start(t);
    const record = await located(dns, 'www.example.test');
    const without = at(bind.port, { providers: [] });
    await assert.rejects(
      without.withdraw(record, signal),
      codeIs('PRECONDITION_FAILED', /no DNS provider is set for the zone example.test any more/),
    );
  });

  test('a missing secret is told by the name of its variable', async (t) => {
    const { at, bind, dns } = await start(t);
    const record = await located(dns, 'www.example.test');
    await assert.rejects(
      at(bind.port, { environment: {} }).publish(record, signal),
      codeIs('PRECONDITION_FAILED', /the environment variable ACME_KEY is not set/),
    );
  });
});

suite('waiting until every name server has it', { skip: withoutBind }, () => {
  /** Two servers that have the zone each for itself, as a secondary that lags. */
  async function startLagging(t: TestContext) {
    const primary = await start(t, ['127.0.0.2']);
    const lagging = await startBind({
      zones: ZONES,
      addresses: ['127.0.0.3'],
      port: primary.bind.port,
      keys: [KEY],
      policy: 'grant acme zonesub TXT;',
    });
    t.after(() => lagging[Symbol.asyncDispose]());
    const catchUp = primary.at(primary.bind.port, {
      providers: [{ ...rfc2136(primary.bind, ['example.test']), server: '127.0.0.3' } as DnsProviderSettings],
    });
    return { ...primary, catchUp };
  }

  test('is over at once when all have it, and tells each by name and address', async (t) => {
    const { dns } = await start(t);
    const record = await located(dns, 'www.example.test');
    await dns.publish(record, signal);
    assert.deepEqual(await dns.waitUntilVisible(record, { signal }), [
      { server: 'ns1.example.test', address: '127.0.0.2', state: 'has', detail: 'it has the record' },
      { server: 'ns2.example.test', address: '127.0.0.3', state: 'has', detail: 'it has the record' },
    ]);
  });

  test('goes on while one lags, and ends when that one has caught up', async (t) => {
    const { dns, catchUp } = await startLagging(t);
    const record = await located(dns, 'www.example.test');
    await dns.publish(record, signal);
    const rounds: string[][] = [];
    let caught: Promise<void> | undefined;
    await dns.waitUntilVisible(record, {
      signal,
      onRound(views) {
        rounds.push(views.map(({ state }) => state));
        caught ??= catchUp.publish(record, signal);
      },
    });
    await caught;
    assert.deepEqual(rounds[0], ['has', 'lacks']);
    assert.deepEqual(rounds.at(-1), ['has', 'has']);
  });

  test('at the deadline the servers without it are named, with what they said', async (t) => {
    const { at, bind } = await startLagging(t);
    const dns = at(bind.port, { propagationTimeoutMs: SECOND });
    const record = await located(dns, 'www.example.test', 'mine');
    await dns.publish(record, signal);
    await assert.rejects(dns.waitUntilVisible(record, { signal }), (error) => {
      codeIs(
        'TIMEOUT',
        /^after 1 seconds 1 of 2 addresses of name servers of example.test answer with the TXT record _acme-challenge.www.example.test. Without it: ns2.example.test \(127.0.0.3\): it has no such name$/,
      )(error);
      const { servers } = (error as AppError).details as { servers: { state: string }[] };
      assert.deepEqual(
        servers.map(({ state }) => state),
        ['has', 'lacks'],
      );
      return true;
    });
  });

  test('a server that is down, one without an address and one that does not answer for the zone lack it', async (t) => {
    const { bind, at, dns } = await start(t, ['127.0.0.2']);
    const impatient = at(bind.port, { propagationTimeoutMs: SECOND });
    const record = await located(dns, 'www.example.test');
    await dns.publish(record, signal);
    await assert.rejects(
      impatient.waitUntilVisible(record, { signal }),
      codeIs('TIMEOUT', /Without it: ns2.example.test \(127.0.0.3\): it can't be reached \(ECONNREFUSED\)$/),
    );
    const homeless = { ...record, zone: 'homeless.test', name: 'x.homeless.test' };
    await assert.rejects(
      impatient.waitUntilVisible(homeless, { signal }),
      codeIs('TIMEOUT', /ns.absent.example.test \(no address\): it has no address$/),
    );
    const lame = { ...record, name: 'name.broken.test' };
    await assert.rejects(
      impatient.waitUntilVisible(lame, { signal }),
      codeIs('TIMEOUT', /ns1.example.test \(127.0.0.2\): it answered SERVFAIL/),
    );
  });

  test('ends when it is cancelled', async (t) => {
    const { dns } = await start(t);
    const record = await located(dns, 'www.example.test');
    const cancel = new AbortController();
    const waiting = dns.waitUntilVisible(record, { signal: cancel.signal, onRound: () => cancel.abort() });
    await assert.rejects(waiting, codeIs('CANCELLED', /cancelled/));
  });
});

suite('what a pre-flight reads', { skip: withoutBind }, () => {
  test('addresses, with aliases and with what is special about them', async (t) => {
    const { dns } = await start(t);
    assert.deepEqual(await dns.readAddresses('alias.example.test', signal), {
      hostname: 'alias.example.test',
      aliases: ['www.example.test'],
      ipv4: {
        state: 'found',
        addresses: [{ address: '127.0.0.1', special: 'this machine only (loopback)' }],
      },
      ipv6: {
        state: 'found',
        addresses: [{ address: '2001:db8::1', special: 'reserved, for documentation or the like' }],
      },
    });
    const { ipv4, ipv6 } = await dns.readAddresses('private.example.test', signal);
    assert.deepEqual(
      [...ipv4.addresses, ...ipv6.addresses].map(({ special }) => special),
      ['a private network (RFC 1918)', 'a private network (unique local, RFC 4193)'],
    );
    const open = await dns.readAddresses('v4only.example.test', signal);
    assert.deepEqual(open.ipv4, {
      state: 'found',
      addresses: [{ address: '93.184.215.14', special: undefined }],
    });
    assert.deepEqual(open.ipv6, { state: 'none', addresses: [] });
    const mapped = await dns.readAddresses('mapped.example.test', signal);
    assert.equal(mapped.ipv6.addresses[0]?.special, 'a private network (RFC 1918)');
  });

  test('no such name, an alias to no such name or into the dark, SERVFAIL and REFUSED are told apart', async (t) => {
    const { dns } = await start(t);
    assert.equal((await dns.readAddresses('absent.example.test', signal)).ipv4.state, 'no_name');
    const dangling = await dns.readAddresses('dangling.example.test', signal);
    assert.deepEqual([dangling.ipv4.state, dangling.aliases], ['no_name', ['absent.example.test']]);
    const broken = await dns.readAddresses('broken.test', signal);
    assert.deepEqual([broken.ipv4.state, broken.ipv4.reason], ['error', '127.0.0.2 answered SERVFAIL']);
    const foreign = await dns.readAddresses('not.ours.invalid', signal);
    assert.match(foreign.ipv4.reason ?? '', /answered REFUSED/);
    const dark = await dns.readAddresses('dark.example.test', signal);
    assert.equal(dark.ipv4.state, 'error');
  });

  test('a resolver that is silent is a timeout, one that is away unreachable, and the next one is asked', async (t) => {
    const { at, bind } = await start(t);
    const silent = createSocket('udp4').bind(0, '127.0.0.2');
    await once(silent, 'listening');
    t.after(() => silent.close());
    const timedOut = await at(silent.address().port).readAddresses('www.example.test', signal);
    assert.equal(timedOut.ipv4.state, 'timeout');
    const closed = `127.0.0.4:${bind.port}`; // Nobody listens there.
    const away = await at(bind.port, { resolvers: [closed] }).readAddresses('www.example.test', signal);
    assert.equal(away.ipv4.state, 'unreachable');
    const next = await at(bind.port, { resolvers: [closed, `127.0.0.2:${bind.port}`] }).readAddresses(
      'www.example.test',
      signal,
    );
    assert.equal(next.ipv4.state, 'found');
  });

  test('CAA records are found at the name or the nearest one above, through aliases', async (t) => {
    const { dns, bind } = await start(t);
    const set = await dns.readCaa('*.deep.name.caa.test', signal);
    assert.deepEqual(set, {
      kind: 'found',
      owner: 'caa.test',
      records: [
        { type: 'CAA', flags: 0, tag: 'issue', value: 'ca.test; validationmethods=dns-01' },
        { type: 'CAA', flags: 0, tag: 'iodef', value: 'mailto:security@caa.test' },
      ].sort((a) => (set.kind === 'found' && set.records[0]?.tag === a.tag ? -1 : 1)),
    });
    const dug = await bind.dig('caa.test', 'CAA');
    assert.deepEqual(dug.sort(), [
      '0 iodef "mailto:security@caa.test"',
      '0 issue "ca.test; validationmethods=dns-01"',
    ]);
    const alias = await dns.readCaa('alias.caa.test', signal);
    assert.ok(alias.kind === 'found' && alias.owner === 'alias.caa.test');
    const question = { identities: ['ca.test'], method: 'http-01', accountUri: undefined };
    assert.deepEqual(judgeCaa(set, { ...question, name: '*.deep.name.caa.test' }), {
      verdict: 'forbidden',
      reason: 'it allows this CA by other challenges than http-01 (validationmethods)',
      record: 'caa.test CAA 0 issue "ca.test; validationmethods=dns-01"',
      owner: 'caa.test',
      reportTo: ['mailto:security@caa.test'],
    });
  });

  test('CAA records that can not be read are no permission', async (t) => {
    const { dns } = await start(t);
    const broken = await dns.readCaa('name.broken.test', signal);
    assert.deepEqual(broken, {
      kind: 'error',
      at: 'name.broken.test',
      reason: '127.0.0.2 answered SERVFAIL',
    });
    // The climb ends at the top, for which this server does not answer: that is no "none" either.
    assert.deepEqual(await dns.readCaa('www.example.test', signal), {
      kind: 'error',
      at: 'test',
      reason: '127.0.0.2 answered REFUSED',
    });
  });
});
