/** An image behind a hostname by one call, on a real Docker Engine: published, cut off at several steps, taken back. */
import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import { join } from 'node:path';
import test, { after, before, suite } from 'node:test';
import { configFile, generous } from '../support/callers.ts';
import { IMAGE, startDocker, type TestEngine, withoutDocker } from '../support/docker.ts';
import { eventually } from '../support/eventually.ts';
import { asAdministrator, Guide, runShell } from '../support/guide.ts';
import { type Product, startProduct } from '../support/product.ts';

const HOST = 'blog.example.test';
const PORT_IMAGE = 'contract/blog:1';
const blog = {
  image: PORT_IMAGE,
  hostname: HOST,
  command: ['sh', '-c', 'echo "$GREETING" > /data/index.html; exec httpd -f -p 8080 -h /data'],
  environment: { GREETING: 'canary-hello' },
  volumes: [{ name: 'blog-data', path: '/data' }],
};

if (withoutDocker) test('an image behind a hostname', { skip: withoutDocker }, () => {});
else
  suite('an image behind a hostname', () => {
    let docker: TestEngine;
    let product: Product;
    before(async () => {
      docker = await startDocker();
      await docker.addImage(IMAGE);
      await docker.addImage(PORT_IMAGE, ['EXPOSE 8080/tcp']);
      product = await startProduct({
        env: {
          OHP_CONFIG: configFile({
            ...generous,
            services: { images: ['docker.io/contract/*', 'docker.io/library/*'] },
          }),
          OHP_DOCKER_SOCKET: docker.socket,
        },
      });
    });
    after(async () => {
      await product[Symbol.asyncDispose]();
      await docker[Symbol.asyncDispose]();
    });

    const publish = (more: object = {}) => product.api('POST', '/v1/publications', { ...blog, ...more });

    /** All that there is, by the engine and by the product. */
    async function world() {
      const [containers, volumes, networks, proxies, services, certificates] = await Promise.all([
        docker.api('GET', '/containers/json?all=true'),
        docker.api('GET', '/volumes'),
        docker.api('GET', '/networks'),
        product.api('GET', '/v1/proxies'),
        product.api('GET', '/v1/services?managed=true'),
        product.api('GET', `/v1/certificates?hostname=${HOST}`),
      ]);
      const named = (list: { Name: string }[] = []) => list.map(({ Name }) => Name);
      return {
        containers: containers.body.map((one: { Names: string[] }) => one.Names[0]),
        volumes: named(volumes.body.Volumes ?? []),
        networks: named(networks.body).filter((name) => name.startsWith('ohp-')),
        proxies: proxies.body.proxies.map((one: { hostname: string }) => one.hostname),
        services: services.body.services.map((one: { name: string }) => one.name),
        certificates: certificates.body.certificates.map((one: { source: string }) => one.source),
        rows: rows(product).length,
      };
    }
    const nothing = {
      containers: [],
      volumes: [],
      networks: [],
      proxies: [],
      services: [],
      certificates: [],
      rows: 0,
    };

    test('a dry run tells every step and changes nothing', async () => {
      const { status, body } = await publish({ dry_run: true });
      assert.equal(status, 201, JSON.stringify(body));
      assert.equal(body.published, false);
      assert.ok(body.possible, JSON.stringify(body));
      assert.deepEqual(
        body.steps.map(({ step }: { step: string }) => step),
        ['image', 'service', 'proxy', 'protection', 'answer', 'enable', 'certificate', 'verify'],
      );
      assert.match(JSON.stringify(body.steps), /port 8080.*blog-data.*open to anyone.*CA of this system/);
      assert.deepEqual(await world(), nothing);
    });

    test('one call publishes it, and another one takes all of it back', async () => {
      const { status, body } = await publish({ idempotency_key: 'publish-once' });
      assert.ok(status < 300, JSON.stringify(body));
      assert.ok(body.published);
      assert.equal((await product.get(HOST, '/')).body.trim(), 'canary-hello');
      const again = await publish({ idempotency_key: 'publish-once' });
      assert.equal(again.body.id, body.id);
      const taken = await publish({ dry_run: true });
      assert.match(JSON.stringify(taken.body.steps), /"problem":"[^"]*published already/);
      assert.equal((await publish()).status, 409);

      const told = await product.api('DELETE', `/v1/publications/blog?dry_run=true`);
      assert.equal(told.body.unpublished, false);
      assert.equal((await product.get(HOST, '/')).status, 200);
      const gone = await product.api('DELETE', `/v1/publications/${HOST}?delete_volumes=true`);
      assert.equal(gone.status, 200, JSON.stringify(gone.body));
      assert.deepEqual(await world(), nothing);
      assert.equal((await product.api('DELETE', `/v1/publications/${HOST}`)).status, 404);
    });

    test('with a protection a stranger is asked who they are from the first moment on', async () => {
      const { status, body } = await publish({ protection: { allow: { everyone: true } } });
      assert.ok(status < 300, JSON.stringify(body));
      const answer = await product.get(HOST, '/');
      assert.ok([302, 303, 401].includes(answer.status), String(answer.status));
      const { body: proxy } = await product.api('GET', `/v1/proxies/${HOST}`);
      assert.equal(proxy.auth.kind, 'oauth');
      await product.api('DELETE', `/v1/publications/${HOST}?delete_volumes=true`);
      assert.deepEqual(await world(), nothing);
    });

    test('a service that answers with a failure leaves nothing, and says what was undone', async () => {
      const { status, body } = await publish({ port: 9999, healthy_within_ms: 1500 });
      assert.equal(status, 502, JSON.stringify(body));
      assert.match(JSON.stringify(body), /answer failed.*undone: proxy, service/);
      assert.deepEqual(await world(), nothing);
    });

    test('the guide is a story that runs as it stands there', async () => {
      const serve = 'echo hello > /data/index.html; exec httpd -f -p 80 -h /data';
      await docker.addImage('nginx:1', [`CMD ${JSON.stringify(['sh', '-c', serve])}`]);
      const guide = new Guide('publish-an-image');
      const [plan = '', publishing = '', back = '', ...more] = guide.blocks('bash');
      assert.deepEqual(more, []);
      const env = asAdministrator(product);
      const told = await runShell(plan, { env });
      assert.equal(told.code, 0, told.err);
      assert.deepEqual(await world(), nothing);
      const made = await runShell(publishing, { env });
      assert.equal(made.code, 0, made.err);
      assert.match(made.err, /service: makes the service blog/);
      assert.equal((await product.get('blog.example.com', '/')).body.trim(), 'hello');
      const gone = await runShell(back, { env });
      assert.equal(gone.code, 0, gone.err);
      assert.deepEqual(await world(), nothing);
    });

    for (const step of ['service', 'answer', 'verify'])
      test(`a kill -9 at ${step} leaves what the next start takes away`, async () => {
        // It never becomes healthy, or answers never, so that the step is there to be met.
        const health_check = { command: ['sh', '-c', 'exit 1'], interval_ms: 100_000 };
        const more = { service: { health_check }, answer: { port: 9999 }, verify: {} }[step];
        const cut = publish({ ...more, healthy_within_ms: 60_000 }).catch(() => undefined);
        await eventually(async () => (stepsBegun(product).includes(step) ? true : undefined), step);
        await product.kill();
        await cut;
        product = await product.restart();
        await eventually(
          async () => (rows(product).every(({ state }) => state === 'published') ? true : undefined),
          'the end',
        );
        // Between the last step and the answer it may have been finished.
        if (rows(product).length > 0)
          await product.api('DELETE', `/v1/publications/${HOST}?delete_volumes=true`);
        assert.deepEqual(await world(), nothing);
      });
  });

function rows({ dataDir }: Product): { state: string; document: string }[] {
  const database = new DatabaseSync(join(dataDir, 'state.sqlite'), { readOnly: true });
  try {
    return database.prepare('select state, document from publications').all() as never;
  } finally {
    database.close();
  }
}

const stepsBegun = (product: Product): string[] =>
  rows(product).flatMap(({ document }) => (JSON.parse(document) as { steps: string[] }).steps);
