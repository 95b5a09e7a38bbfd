/** Targets that name services, on a real Docker Engine: visitors get to the container wherever it is, and to no other. */
import assert from 'node:assert/strict';
import test, { after, before, suite } from 'node:test';
import { configFile, generous } from '../support/callers.ts';
import { IMAGE, startDocker, type TestEngine, withoutDocker } from '../support/docker.ts';
import { eventually } from '../support/eventually.ts';
import { startUpstream, type Upstream } from '../support/gateway.ts';
import { type Product, startProduct } from '../support/product.ts';

const HOST = 'blog.example.com';
const serving =
  'mkdir -p /tmp/www; echo "$GREETING" > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www';

if (withoutDocker)
  test('targets that name services, on a real Docker Engine', { skip: withoutDocker }, () => {});
else
  suite('targets that name services, on a real Docker Engine', () => {
    let docker: TestEngine;
    let product: Product;
    let elsewhere: Upstream;
    before(async () => {
      docker = await startDocker();
      await docker.addImage(IMAGE);
      elsewhere = await startUpstream((request, response) => void response.end(`elsewhere ${request.url}`));
      product = await startProduct({
        env: {
          OHP_CONFIG: configFile({
            ...generous,
            services: {
              images: ['docker.io/contract/*'],
              labels: 'propose',
              apply_labels: [{ hostnames: ['*.apps.example.com'], keep_ms: 8000 }],
            },
          }),
          OHP_DOCKER_SOCKET: docker.socket,
        },
      });
    });
    after(async () => {
      await product[Symbol.asyncDispose]();
      await docker[Symbol.asyncDispose]();
      await elsewhere[Symbol.asyncDispose]();
    });

    const call = async (method: string, path: string, body?: object, status = 200) => {
      const reply = await product.api(method, `/v1${path}`, body);
      assert.equal(reply.status, status, JSON.stringify(reply.body));
      return reply.body;
    };
    const visit = (path = '/') => product.get(HOST, path);
    const page = async () => (await visit()).body.trim();
    const soon = (text: string) =>
      eventually(async () => ((await page()) === text ? true : undefined), `the page ${text}`);
    const create = (name: string, more: object = {}) =>
      call(
        'POST',
        '/services',
        {
          name,
          image: IMAGE,
          command: ['sh', '-c', serving],
          environment: { GREETING: name },
          temporary_paths: ['/tmp'],
          stop_timeout_ms: 200,
          ...more,
        },
        201,
      );
    const ledTo = async () => (await call('GET', `/proxies/${HOST}`)).leads_to[0];
    /** By the engine's own API, as somebody else would. */
    const byHand = async (name: string, verb: string) => {
      const { status } = await docker.api('POST', `/containers/${name}/${verb}?t=0`);
      assert.ok(status < 300, `${verb} ${name}: ${status}`);
    };

    test('a proxy leads to a service by its name, with no port published', async () => {
      const proxy = { hostname: HOST, target_url: 'service://blog:8080' };
      const refused = await call('POST', '/proxies', proxy, 400);
      assert.match(JSON.stringify(refused), /there is no service blog/);
      await create('blog');
      await call('POST', '/proxies', proxy, 201);
      assert.equal((await visit()).body.trim(), 'blog', 'with the first request');
      const { target, url } = await ledTo();
      assert.equal(target, proxy.target_url);
      assert.match(url, /^http:\/\/[\d.]+:8080$/);
    });

    test('a container that gets another address by somebody else is followed', async () => {
      const { url } = await ledTo();
      const old = new URL(url).hostname;
      await byHand('blog.1', 'stop');
      await eventually(async () => ((await visit()).status === 503 ? true : undefined), 'the stop');
      // Another container takes the address: nobody may be sent there.
      await create('thief');
      const thief = (await call('GET', '/services/thief')).container.networks[0].address;
      assert.equal(thief, old);
      const { status, body } = await visit();
      assert.equal(status, 503, body);
      assert.match((await ledTo()).reason, /does not run/);
      await byHand('blog.1', 'start');
      await soon('blog');
      assert.notEqual((await ledTo()).url, url);
    });

    test('what is done here is followed before it is answered', async () => {
      await call('PATCH', '/services/blog', { environment: { GREETING: 'second' } });
      assert.equal(await page(), 'second');
      await call('POST', '/services/blog/stop', {});
      const stopped = await visit();
      assert.equal(stopped.status, 503);
      assert.equal(stopped.headers['retry-after'], '1');
      await call('POST', '/services/blog/start', {});
      await soon('second');
      await call('PATCH', '/services/blog', { ports: [{ container_port: 8080 }] });
      await soon('second');
      assert.match((await ledTo()).url, /^http:\/\/127\.0\.0\.1:\d+$/);
    });

    test('an external service is led elsewhere, and a route to it with it', async () => {
      await call('POST', '/external-services', { name: 'api', url: `${elsewhere.url}/v1` }, 201);
      await call('POST', '/routes', { hostname: HOST, path: '/api', target_url: 'service://api' }, 201);
      assert.equal((await visit('/api/x')).body, 'elsewhere /v1/api/x');
      await call('PATCH', '/external-services/api', { url: `${elsewhere.url}/v2` });
      assert.equal((await visit('/api/x')).body, 'elsewhere /v2/api/x');
      const refused = await call('DELETE', '/services/api', undefined, 412);
      assert.match(JSON.stringify(refused), /rte_/);
    });

    test('a start finds services again, and deleting one is refused while something leads to it', async () => {
      await product.kill();
      product = await product.restart();
      assert.equal((await visit()).body.trim(), 'second', 'with the first request');
      const refused = await call('DELETE', '/services/blog', undefined, 412);
      assert.match(JSON.stringify(refused), /blog\.example\.com/);
    });

    test('a container made elsewhere asks for a hostname by its label, and is served once that is accepted', async () => {
      const { body: made } = await docker.api('POST', '/containers/create?name=stranger', {
        Image: IMAGE,
        Cmd: ['sh', '-c', serving],
        Env: ['GREETING=stranger'],
        Labels: { 'ohp.hostname': 'Wiki.example.com', 'ohp.auth': 'none', 'ohp.managed': 'someone' },
        ExposedPorts: { '8080/tcp': {}, '9090/udp': {} },
        HostConfig: {
          NetworkMode: 'ohp-default',
          PortBindings: { '8080/tcp': [{ HostIp: '127.0.0.1', HostPort: '' }] },
        },
      });
      await byHand('stranger', 'start');
      const hostname = 'wiki.example.com';
      const { proposals } = await call('GET', '/proposals');
      assert.deepEqual(
        proposals.map((one: { container: string; hostname: string }) => [one.container, one.hostname]),
        [[made.Id.slice(0, 12), hostname]],
      );
      await assert.rejects(product.get(hostname, '/'), /unrecognized name/, 'not served');
      const container = made.Id.slice(0, 12);
      const proxy = await call('POST', '/accepted-proposals', { container, hostname }, 201);
      assert.equal(proxy.target_url, proposals[0].target_url);
      await eventually(
        async () => ((await product.get(hostname, '/')).body.trim() === 'stranger' ? true : undefined),
        'the page of the container',
      );
      await call('POST', '/accepted-proposals', { container, hostname }, 409);
      await byHand('stranger', 'kill');
      assert.deepEqual((await call('GET', '/proposals')).proposals, []);
      assert.equal((await call('GET', `/proxies/${hostname}`)).id, proxy.id, 'it stays');
    });

    test('a label that the operator lets be applied: served while it runs, followed to its next port, gone with it', async () => {
      const hostname = 'shop.apps.example.com';
      await docker.api('POST', '/containers/create?name=shop', {
        Image: IMAGE,
        Cmd: ['sh', '-c', serving],
        Env: ['GREETING=shop'],
        Labels: { 'ohp.hostname': hostname },
        ExposedPorts: { '8080/tcp': {} },
        HostConfig: {
          NetworkMode: 'ohp-default',
          PortBindings: { '8080/tcp': [{ HostIp: '127.0.0.1', HostPort: '' }] },
        },
      });
      await byHand('shop', 'start');
      const status = async () => (await product.api('GET', `/v1/proxies/${hostname}`)).status;
      await eventually(async () => ((await status()) === 200 ? true : undefined), 'its proxy');
      const page = async () => (await product.get(hostname, '/')).body.trim();
      await eventually(async () => ((await page()) === 'shop' ? true : undefined), 'its page');
      const { id } = await call('GET', `/proxies/${hostname}`);
      await byHand('shop', 'restart');
      await eventually(async () => ((await page()) === 'shop' ? true : undefined), 'its page again');
      assert.equal((await call('GET', `/proxies/${hostname}`)).id, id);
      await docker.api('DELETE', '/containers/shop?force=true');
      await eventually(async () => ((await status()) === 404 ? true : undefined), 'its end');
      assert.equal((await call('GET', '/proxies/wiki.example.com')).hostname, 'wiki.example.com', 'accepted');
    });
  });
