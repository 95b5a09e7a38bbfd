/** What a client that gets no TLS connection is told, on the wire. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import test from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createSecureContext, connect as connectTls, type SecureVersion } from 'node:tls';
import {
  caPem,
  type Fixture,
  leafFor,
  proxyOf,
  raw,
  readUntil,
  startGateway,
  tlsSocket,
} from '../../test/support/gateway.ts';
import { ManualClock, MINUTE } from '../core/clock.ts';
import { silentLog } from '../core/record.ts';
import { keepDefaultContext } from './tls.ts';

/** Of what nobody asks for: it stays in the buffer of the connection. */
const MORE_THAN_IS_READ = 100_000;

/** The code of the error that ends the handshake; undefined when it succeeds. */
async function handshakeError(fixture: Fixture, servername: string, version?: SecureVersion) {
  const socket = connectTls({
    host: '127.0.0.1',
    port: fixture.httpsPort,
    servername,
    ALPNProtocols: ['h2', 'http/1.1'],
    rejectUnauthorized: false,
    ...(version && { minVersion: version, maxVersion: version }),
  });
  try {
    await once(socket, 'secureConnect');
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  } finally {
    socket.destroy();
  }
}

/** Resolves once the gateway has let go of every connection. */
async function allClosed(fixture: Fixture): Promise<void> {
  const probe = connect(fixture.httpPort, '127.0.0.1');
  await once(probe, 'connect');
  while (fixture.gateway.connections().open > 1) await new Promise(setImmediate);
  probe.destroy();
}

test('a name that is not served is told so by the alert of RFC 6066, whatever the version of TLS', async () => {
  await using gateway = await startGateway();
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const)
    for (const name of [
      'unknown.example.net.invalid',
      'deep.app.example.com',
      'not_a_hostname',
      '-.example.com',
    ])
      assert.equal(
        await handshakeError(gateway, name, version),
        'ERR_SSL_TLSV1_UNRECOGNIZED_NAME',
        `${name} ${version}`,
      );
  assert.equal(await handshakeError(gateway, 'app.example.com'), undefined);
  await allClosed(gateway);
});

test('a certificate that can not be opened is an alert of our own fault, and no other certificate takes its place', async () => {
  await using gateway = await startGateway({
    selectCertificate: async (servername) => {
      if (servername === 'broken.example.com') throw new Error('the key does not open');
      return createSecureContext(await leafFor('localhost', '127.0.0.1'));
    },
  });
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const)
    assert.equal(
      await handshakeError(gateway, 'broken.example.com', version),
      'ERR_SSL_TLSV1_ALERT_INTERNAL_ERROR',
    );
  const { level, message, hostname } = gateway.records.find(({ kind }) => kind === 'tls') ?? {};
  assert.deepEqual([level, hostname], ['error', 'broken.example.com']);
  assert.match(message ?? '', /the key does not open/);
});

test('a client that resets its connection while its certificate is looked for hurts nobody', async () => {
  const asked = Promise.withResolvers<void>();
  const gone = Promise.withResolvers<void>();
  await using gateway = await startGateway({
    proxies: [proxyOf('app.example.com', 'http://127.0.0.1:9')],
    selectCertificate: async (servername) => {
      if (servername !== 'slow.example.com') return createSecureContext(await leafFor('app.example.com'));
      asked.resolve();
      await gone.promise;
      return undefined;
    },
  });
  const socket = connect(gateway.httpsPort, '127.0.0.1');
  const secure = connectTls({ socket, servername: 'slow.example.com' });
  secure.on('error', () => {});
  await asked.promise;
  // In one turn: the gateway writes before it has heard of the reset.
  socket.resetAndDestroy();
  gone.resolve();
  await allClosed(gateway);
  const other = await tlsSocket(gateway, 'app.example.com');
  other.destroy();
});

test('plain HTTP on the HTTPS port is answered with what is wrong, with the trace id of its record', async () => {
  await using gateway = await startGateway({ proxies: [proxyOf('app.example.com', 'http://127.0.0.1:9')] });
  const answer = await raw(gateway.httpsPort, 'GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n');
  assert.match(answer, /^HTTP\/1\.1 400 Bad request\r\n/);
  assert.match(answer, /This port speaks HTTPS: begin the address with https:\/\//);
  const { status, trace_id } = await gateway.record(() => true);
  assert.equal(status, 400);
  assert.ok(answer.includes(`x-trace-id: ${trace_id}`));
  await allClosed(gateway);
});

test('a challenge of a CA is answered for a host that asks for client certificates, without one', async () => {
  const challenge = createSecureContext(await leafFor('challenge.example.com'));
  const asking = { mode: 'require', ca_pem: caPem, pass_identity: false } as const;
  await using gateway = await startGateway({
    proxies: [proxyOf('app.example.com', 'http://127.0.0.1:9', { client_auth: asking })],
    tlsChallenges: {
      isAskedByTls: true,
      tls: (name) => (name === 'app.example.com' ? challenge : undefined),
    },
  });
  const answer = await tlsSocket(gateway, 'app.example.com', ['acme-tls/1']);
  assert.equal(answer.alpnProtocol, 'acme-tls/1');
  assert.equal(answer.getPeerCertificate().subject.CN, 'challenge.example.com');
  answer.destroy();
  const other = await tlsSocket(gateway, 'app.example.com', ['http/1.1']);
  assert.notEqual(other.getPeerCertificate().subject.CN, 'challenge.example.com');
  other.end('GET / HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\r\n');
  assert.match(await readUntil(other), /^HTTP\/1\.1 403 /);
});

test('a connection for a challenge of a CA ends with its handshake, whatever the client says on it', {
  timeout: 5000,
}, async () => {
  const challenge = createSecureContext(await leafFor('challenge.example.com'));
  await using gateway = await startGateway({
    proxies: [proxyOf('app.example.com', 'http://127.0.0.1:9')],
    tlsChallenges: { isAskedByTls: true, tls: () => challenge },
  });
  const talks = await tlsSocket(gateway, 'app.example.com', ['acme-tls/1']);
  talks.on('error', () => {}).write(Buffer.alloc(MORE_THAN_IS_READ), () => talks.destroy());
  await allClosed(gateway);
});

test('clients that name no host get another certificate a minute after it is there', async () => {
  const clock = new ManualClock();
  const [before, after] = [createSecureContext(), createSecureContext()];
  let selected = before;
  const server: { _sharedCreds?: unknown } = {};
  const timer = await keepDefaultContext(server, {
    clock,
    log: silentLog,
    selectCertificate: async () => selected,
  });
  assert.equal(server._sharedCreds, before);
  selected = after;
  clock.advance(MINUTE);
  await nextTurn();
  assert.equal(server._sharedCreds, after);
  timer.cancel();
});
