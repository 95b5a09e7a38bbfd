/** A publication with a real CA: its certificate is waited for, and goes with it. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { startAcmeFront } from '../support/acme-front.ts';
import { configFile, generous } from '../support/callers.ts';
import { IMAGE, startDocker, withoutDocker } from '../support/docker.ts';
import { freePort } from '../support/free-port.ts';
import { startPebble, withoutPebble } from '../support/pebble.ts';
import { startProduct } from '../support/product.ts';

const HOST = 'blog.example.com';

test('the certificate of a CA is ordered and waited for, and goes with the publication', {
  skip: withoutDocker || withoutPebble,
}, async (t) => {
  const files = mkdtempSync(join(tmpdir(), 'ohp-publish-'));
  t.after(() => rmSync(files, { recursive: true }));
  const [httpPort, tlsPort] = [await freePort(), await freePort()];
  await using docker = await startDocker();
  await docker.addImage(IMAGE);
  await using ca = await startPebble({ httpPort, tlsPort });
  await using front = await startAcmeFront(ca, { isHurried: true });
  const trust = join(files, 'trust.pem');
  writeFileSync(trust, front.trustPem);
  await using product = await startProduct({
    env: {
      OHP_CONFIG: configFile({ ...generous, services: { images: ['docker.io/contract/*'] } }),
      OHP_DOCKER_SOCKET: docker.socket,
      OHP_HTTP_PORT: String(httpPort),
      OHP_HTTPS_PORT: String(tlsPort),
      OHP_ACME_DIRECTORY: front.directoryUrl,
      OHP_ACME_CA_FILE: trust,
      OHP_ACME_EMAIL: 'it@example.com',
    },
  });
  const made = await product.api('POST', '/v1/publications', {
    image: IMAGE,
    hostname: HOST,
    port: 8080,
    command: ['sh', '-c', 'echo hello > /data/index.html; exec httpd -f -p 8080 -h /data'],
  });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  assert.match(JSON.stringify(made.body.steps), /orders one from default, and waits for it/);
  const explained = async () =>
    (await product.api('GET', `/v1/certificate-explanation?hostname=${HOST}`)).body;
  const before = await explained();
  assert.equal(before.certificate?.source, 'acme', JSON.stringify(before));
  const gone = await product.api('DELETE', `/v1/publications/${HOST}`);
  assert.equal(gone.status, 200, JSON.stringify(gone.body));
  const { body } = await product.api('GET', `/v1/certificates?hostname=${HOST}`);
  assert.deepEqual(body.certificates, []);
  const states = (await explained()).orders.map(({ state }: { state: string }) => state);
  assert.deepEqual(states, ['issued']);
});
