import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttp, type RequestListener } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { type AddressInfo, createServer as createNet, type Server, type Socket } from 'node:net';
import test, { type TestContext } from 'node:test';
import { newKeys, toPkcs8, writeRoot } from '../certificates/x509.ts';
import { DAY, ManualClock, SECOND, systemClock } from '../core/clock.ts';
import { type Listener, listenersProbe } from './listener-probe.ts';

const options = { clock: systemClock, host: 'localhost' };

async function certificate() {
  const keys = await newKeys();
  const now = Date.now();
  const root = { commonName: 'localhost', ...keys };
  return {
    key: toPkcs8(keys.privateKey),
    cert: writeRoot(root, { notBefore: now - DAY, notAfter: now + DAY }),
  };
}

async function listen(t: TestContext, server: Server, host = '127.0.0.1'): Promise<AddressInfo> {
  server.listen(0, host);
  await once(server, 'listening');
  t.after(() => server.close());
  return server.address() as AddressInfo;
}

const healthy: RequestListener = ({ url, headers }, response) => {
  response.writeHead(url === '/healthz' && headers.host === 'localhost' ? 200 : 500).end();
};
const http = (at: Listener['at']): Listener => ({ name: 'http', isTls: false, at });
const https = (at: Listener['at']): Listener => ({ name: 'https', isTls: true, at });

test('ok when each listener answers a request, over TLS where there is TLS', async (t) => {
  const plain = await listen(t, createHttp(healthy));
  const secure = await listen(t, createHttps(await certificate(), healthy));
  assert.deepEqual(await listenersProbe(() => [http(plain), https(secure)], options)(), {
    status: 'ok',
    message: `http 127.0.0.1:${plain.port}, https 127.0.0.1:${secure.port}`,
  });
});

test('an address that stands for every interface is reached on this machine', async (t) => {
  const at = await listen(t, createHttp(healthy), '0.0.0.0');
  assert.equal((await listenersProbe(() => [http(at)], options)()).status, 'ok');
});

test('degraded, with what is wrong, when one of them does not: closed, turned away, no TLS, another answer', async (t) => {
  const good = await listen(t, createHttp(healthy));
  const gone = createHttp(healthy);
  const closed = await listen(t, gone);
  await new Promise((resolve) => gone.close(resolve));
  const cases: [Listener, RegExp][] = [
    [https(undefined), /^http [\d.:]+, https: not listening$/],
    [https(closed), /https 127\.0\.0\.1:\d+: .*ECONNREFUSED/],
    [
      https(
        await listen(
          t,
          createNet((socket) => socket.destroy()),
        ),
      ),
      /https .*: (.*disconnected|.*without|.*ECONNRESET)/,
    ],
    [https(good), /https .*: /],
    [https(await listen(t, createHttps(healthy))), /https .*: .*/],
    [
      http(
        await listen(
          t,
          createHttp((_request, response) => response.writeHead(503).end()),
        ),
      ),
      /does not answer as it should/,
    ],
  ];
  for (const [listener, expected] of cases) {
    const { status, message } = await listenersProbe(() => [http(good), listener], options)();
    assert.equal(status, 'degraded', message);
    assert.match(message, expected);
  }
});

test('down when none of them answers', async () => {
  assert.equal((await listenersProbe(() => [http(undefined), https(undefined)], options)()).status, 'down');
  assert.deepEqual(await listenersProbe(() => [], options)(), { status: 'down', message: 'nothing listens' });
});

test('a listener that accepts and says nothing is named when the time is up, and its connection ends', async (t) => {
  const clock = new ManualClock();
  const accepted = Promise.withResolvers<Socket>();
  const silent = createNet((socket) => accepted.resolve(socket.resume()));
  const at = await listen(t, silent);
  const finding = listenersProbe(() => [http(at)], { ...options, clock })();
  const ended = once(await accepted.promise, 'close');
  clock.advance(1.5 * SECOND);
  assert.match((await finding).message, /^http .*: no answer within 1500 ms$/);
  await ended;
});
