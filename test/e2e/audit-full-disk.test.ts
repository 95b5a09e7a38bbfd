/** A disk that is full: nothing is changed without a record, everything else goes on, and it recovers by itself. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { MINUTE } from '../../src/core/clock.ts';
import { eventually } from '../support/eventually.ts';
import { handshake } from '../support/handshake.ts';
import { JumpingClock, startHere } from '../support/own-process.ts';
import { smallDisk } from '../support/small-disk.ts';

const ROUNDS = 2;

const disk = smallDisk('audit-disk-');
process.on('exit', () => disk.remove());

suite('a disk that is full', { skip: disk.missing ?? false }, () => {
  test('changes are refused, reads and traffic go on, the loss is counted and alerted, and all is well when there is room', async (t) => {
    const clock = new JumpingClock();
    const product = await startHere({}, clock, join(disk.folder, 'data'));
    t.after(() => product[Symbol.asyncDispose]());
    const create = (hostname: string) =>
      product.api('POST', '/v1/proxies', { hostname, target_url: 'http://127.0.0.1:9' });
    const component = async () => {
      clock.jump(MINUTE);
      const { body } = await product.api('GET', '/v1/health');
      return body.components.find((one: any) => one.name === 'audit_trail');
    };
    const isOver = async () => {
      const { body } = await product.api('GET', '/v1/alerts?state=resolved');
      return body.alerts.some((one: any) => one.code === 'audit.failing');
    };
    assert.equal((await create('app.example.com')).status, 201);
    assert.ok(await handshake(product, 'app.example.com'));
    for (let round = 0; round < ROUNDS; round++) {
      disk.fill();
      await eventually(async () => (await component()).status === 'down' || undefined, 'it is noticed');
      const refused = await create(`refused-${round}.example.com`);
      assert.equal(refused.status, 503, JSON.stringify(refused.body));
      assert.match(
        JSON.stringify(refused.body),
        /nothing was changed, since the audit trail can not be written/,
      );
      assert.equal(
        (await product.api('GET', '/v1/proxies/app.example.com')).status,
        200,
        'what is read is answered',
      );
      assert.ok(await handshake(product, 'app.example.com'), 'what is served is served');
      disk.free();
      await eventually(async () => {
        clock.jump(MINUTE);
        return (await create(`later-${round}.example.com`)).status === 201 || undefined;
      }, 'a change');
      assert.notEqual((await component()).status, 'down');
      assert.equal((await product.api('GET', `/v1/proxies/refused-${round}.example.com`)).status, 404);
      const { body } = await product.api('GET', '/v1/audit-verification');
      assert.equal(body.intact, true, JSON.stringify(body));
      assert.ok(body.lost_records > 0);
      t.diagnostic(`round ${round}: ${body.lost_records} records lost so far, of ${body.to_seq}`);
    }
    await eventually(async () => {
      clock.jump(MINUTE);
      return (await isOver()) || undefined;
    }, 'an alert, and its end');
  });
});
