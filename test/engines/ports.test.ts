/** Ports of services of the running product, with real containers behind: claims, sources, tokens, a crash. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import test, { after, before, suite } from 'node:test';
import { configFile, generous } from '../support/callers.ts';
import { IMAGE, startDocker, type TestEngine, withoutDocker } from '../support/docker.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { type Product, startProduct } from '../support/product.ts';

const page = 'echo "hello from behind" > /tmp/index.html; exec httpd -f -p 8080 -h /tmp';

if (withoutDocker) test('ports of services on a real Docker Engine', { skip: withoutDocker }, () => {});
else
  suite('ports of services on a real Docker Engine', () => {
    let docker: TestEngine;
    let product: Product;
    let first: number;
    let guarded: number;
    before(async () => {
      docker = await startDocker();
      await docker.addImage(IMAGE);
      first = await freePort();
      guarded = await freePort();
      product = await startProduct({
        env: {
          OHP_CONFIG: configFile({
            ...generous,
            services: {
              images: ['docker.io/contract/*'],
              bind_addresses: ['127.0.0.1', '127.0.0.2'],
              min_port: 1024,
              ports: `${first}-${Math.min(first + 50, 65_535)}`,
            },
          }),
          OHP_DOCKER_SOCKET: docker.socket,
        },
      });
    });
    after(async () => {
      await product[Symbol.asyncDispose]();
      await docker[Symbol.asyncDispose]();
    });

    const call = async (method: string, path: string, body?: object, status = 200) => {
      const reply = await product.api(method, `/v1/services${path}`, body);
      assert.equal(reply.status, status, JSON.stringify(reply.body));
      return reply.body;
    };
    const web = (name: string, port: object, more: object = {}) => ({
      name,
      image: IMAGE,
      command: ['sh', '-c', page],
      temporary_paths: ['/tmp'],
      ports: [{ container_port: 8080, ...port }],
      stop_timeout_ms: 200,
      ...more,
    });
    /** Status and body; 0: the connection was cut. */
    async function get(
      port: number,
      { from = '127.0.0.1', at = '127.0.0.1', token = '' } = {},
    ): Promise<[number, string]> {
      const headers = token === '' ? {} : { authorization: `Bearer ${token}` };
      const asking = request({ host: at, port, localAddress: from, agent: false, path: '/', headers });
      asking.end();
      try {
        const [reply] = await once(asking, 'response');
        return [reply.statusCode, (await text(reply)).trim()];
      } catch {
        return [0, ''];
      }
    }
    const answers = (port: number) =>
      eventually(async () => ((await get(port))[0] === 200 ? true : undefined), `an answer at ${port}`);

    test('a port that is given out is the same after a restart and an update, and no other service gets it', async () => {
      const made = await call('POST', '', web('one', {}), 201);
      const [{ host_port }] = made.ports;
      assert.ok(host_port >= first);
      await answers(host_port);
      await call('POST', '/one/restart');
      const updated = await call('PATCH', '/one', { environment: { A: 'b' } });
      assert.equal(updated.ports[0].host_port, host_port);
      assert.equal(updated.container.ports[0].host_port, host_port);
      await answers(host_port);
      const refused = await call('POST', '', web('two', { host_port }), 409);
      assert.match(JSON.stringify(refused), /the service one has port 127\.0\.0\.1:/);
      const own = await call('POST', '', web('two', { host_port: product.httpPort }), 409);
      assert.match(JSON.stringify(own), /is where this system listens itself/);
      await call('GET', '/two', undefined, 404);
    });

    test('a port of the range that something else has behind this system’s back is passed over', async () => {
      const [one] = (await call('GET', '/one')).ports;
      const host_port = one.host_port + 1;
      const { body } = await docker.api('POST', '/containers/create', {
        Image: IMAGE,
        Cmd: ['sleep', '1000'],
        ExposedPorts: { '80/tcp': {} },
        HostConfig: {
          NetworkMode: 'ohp-default',
          PortBindings: { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: String(host_port) }] },
        },
      });
      await docker.api('POST', `/containers/${body.Id}/start`);
      const again = await call('POST', '', web('two', {}), 201);
      assert.notEqual(again.ports[0].host_port, host_port);
      const named = await call('POST', '', web('three', { host_port }), 409);
      assert.match(JSON.stringify(named), /nothing of it is left/);
      await docker.api('DELETE', `/containers/${body.Id}?force=true`);
      await call('DELETE', '/two');
    });

    test('a source that is allowed gets in, another is cut off, and the container is reached by no other way', async () => {
      const port = { host_port: guarded, host_address: '127.0.0.2', allow_sources: ['127.0.0.1'] };
      const made = await call('POST', '', web('door', port), 201);
      const { body } = await docker.api('GET', `/containers/door.1/json`);
      assert.deepEqual(body.NetworkSettings.Ports['8080/tcp'], [
        { HostIp: '127.0.0.1', HostPort: String(made.container.ports[0].host_port) },
      ]);
      await eventually(
        async () => ((await get(guarded, { at: '127.0.0.2' }))[0] === 200 ? true : undefined),
        'the door',
      );
      assert.deepEqual(await get(guarded, { at: '127.0.0.2', from: '127.0.0.3' }), [0, '']);
      await eventually(async () => {
        const { body: logs } = await product.api('GET', '/v1/logs?kind=access&contains=door');
        const words = /connection to door:\d+ refused: its address is not allowed/;
        return words.test(JSON.stringify(logs)) || undefined;
      }, 'the record of the one that is refused');
    });

    let token: string;
    test('with require_token each request needs an API token with the permission', async () => {
      const grant = async (permission: string, hostnames?: string[]) => {
        const { body } = await product.api('POST', '/v1/tokens', {
          name: permission,
          permissions: [permission],
          ...(hostnames && { hostnames }),
        });
        return body.secret as string;
      };
      token = await grant('services:read');
      const port = { host_port: guarded, require_token: 'services:read' };
      await call('PATCH', '/door', { ports: [{ container_port: 8080, ...port }] });
      assert.deepEqual(await get(guarded, { at: '127.0.0.2' }), [0, ''], 'the one before is closed');
      await eventually(
        async () => ((await get(guarded, { token }))[0] === 200 ? true : undefined),
        'the door with a token',
      );
      assert.deepEqual(await get(guarded, { token, from: '127.0.0.3' }), [200, 'hello from behind']);
      assert.equal((await get(guarded))[0], 401);
      assert.equal((await get(guarded, { token: `${token.slice(0, -1)}x` }))[0], 401);
      assert.equal((await get(guarded, { token: await grant('logs:read') }))[0], 403);
      const confined = await grant('services:read', ['door.example.com']);
      assert.equal((await get(guarded, { token: confined }))[0], 403);
    });

    test('a restart of this process opens it again; a kill -9 in a creation leaves no claim; stopping closes it', async () => {
      const slowPort = await freePort();
      const slow = web(
        'slow',
        { host_port: slowPort, allow_sources: ['127.0.0.1'] },
        { health_check: { command: ['sh', '-c', 'exit 1'], interval_ms: 100_000 } },
      );
      const cut = product.api('POST', '/v1/services', slow).catch(() => undefined);
      await eventually(
        async () =>
          (await docker.api('GET', '/containers/slow.1/json')).body.State?.Running === true || undefined,
        'the container of slow',
      );
      await product.kill();
      await cut;
      assert.deepEqual(await get(guarded, { token }), [0, '']);
      product = await product.restart();
      await eventually(
        async () => ((await get(guarded, { token }))[0] === 200 ? true : undefined),
        'the door after the restart',
      );
      assert.equal((await get(guarded))[0], 401);
      await eventually(
        async () => ((await product.api('GET', '/v1/services/slow')).status === 404 ? true : undefined),
        'no record of slow',
      );
      await call('POST', '', web('after', { host_port: slowPort }), 201);
      await call('POST', '/door/stop', {});
      await assert.rejects(once(connect(guarded, '127.0.0.1'), 'connect'), /ECONNREFUSED/);
    });
  });
