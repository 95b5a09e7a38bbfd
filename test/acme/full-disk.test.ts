/** The disk is full in the middle of an order: nothing is lost or ordered twice, and it goes on by itself when there is room. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { MINUTE } from '../../src/core/clock.ts';
import { type AcmeFront, type Resource, startAcmeFront } from '../support/acme-front.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { settled } from '../support/gateway.ts';
import { handshake } from '../support/handshake.ts';
import { JumpingClock, type OwnProcess, startHere } from '../support/own-process.ts';
import { startPebble, withoutPebble } from '../support/pebble.ts';
import { smallDisk } from '../support/small-disk.ts';

const TARGET = 'http://127.0.0.1:9';

const disk = smallDisk('full-disk-');
process.on('exit', () => disk.remove());
const skip = withoutPebble || (disk.missing ?? false);

suite('a disk that is full', { skip }, () => {
  const stack = new AsyncDisposableStack();
  const clock = new JumpingClock();
  let front: AcmeFront;
  let product: OwnProcess;

  before(async () => {
    const [httpPort, tlsPort] = [await freePort(), await freePort()];
    const ca = stack.use(await startPebble({ httpPort, tlsPort, env: { PEBBLE_WFE_NONCEREJECT: '0' } }));
    front = stack.use(await startAcmeFront(ca, { isHurried: true }));
    const trust = join(disk.folder, 'trust.pem');
    writeFileSync(trust, front.trustPem);
    const env = {
      OHP_HTTP_PORT: String(httpPort),
      OHP_HTTPS_PORT: String(tlsPort),
      OHP_ACME_DIRECTORY: front.directoryUrl,
      OHP_ACME_CA_FILE: trust,
    };
    product = stack.use(await startHere(env, clock, join(disk.folder, 'data')));
    const { body } = await product.api('POST', '/v1/certificate-orders', { names: ['first.example.com'] });
    assert.equal(body.state, 'issued', JSON.stringify(body));
  });

  after(async () => {
    await stack.disposeAsync();
  });

  const reaches = (resource: Resource, from: number) =>
    eventually(
      async () => front.requests.slice(from).some((seen) => seen.resource === resource) || undefined,
      resource,
    );

  /** Time goes on when nobody asks the CA anything: what is under way is not to be late. */
  const quiet = () => settled(() => front.requests.length);

  for (const resource of ['newOrder', 'authorization', 'finalize', 'certificate'] as const)
    test(`since the answer to ${resource}: the certificate comes when there is room, by one order`, async () => {
      const hostname = `${resource.toLowerCase()}.example.com`;
      const held = Promise.withResolvers<void>();
      front.fail(resource, { kind: 'slow', until: held.promise });
      const from = front.requests.length;
      await product.api('POST', '/v1/proxies', { hostname, target_url: TARGET });
      await reaches(resource, from);
      disk.fill();
      held.resolve();
      const refused = await product.api('POST', '/v1/proxies', {
        hostname: `more-${hostname}`,
        target_url: TARGET,
      });
      assert.ok(refused.status >= 500, `${refused.status} ${JSON.stringify(refused.body)}`);
      assert.ok(await handshake(product, hostname), 'it is served meanwhile');
      await quiet();
      assert.ok(
        (await handshake(product, hostname)).issuer.includes('internal CA'),
        'nothing could be written',
      );
      disk.free();
      await eventually(async () => {
        const certificate = await handshake(product, hostname);
        if (certificate.issuer.includes('Pebble')) return true;
        await quiet();
        clock.jump(MINUTE);
        return undefined;
      }, 'the certificate').catch(async (cause: unknown) => {
        const { body } = await product.api(
          'GET',
          `/v1/certificate-explanation?check=false&hostname=${hostname}`,
        );
        throw new Error(JSON.stringify(body), { cause });
      });
      const orders = front.requests.filter(
        (seen) => seen.resource === 'newOrder' && seen.payload.identifiers[0].value === hostname,
      );
      assert.equal(orders.length, 1);
    });
});
