import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { createSealer } from '../config/secrets.ts';
import { ManualClock, MINUTE } from '../core/clock.ts';
import type { LogRecord } from '../core/record.ts';
import { openSqlite } from '../store/sqlite.ts';
import { Anchor } from './anchor.ts';
import { Trail } from './trail.ts';

const record: LogRecord = { time: 0, kind: 'audit', level: 'info', component: 'audit', message: 'x' };
const log = { write: () => undefined, enabled: () => true };

test('an anchor that could not be compared at the start is compared before another takes its place', async (t) => {
  const top = mkdtempSync(join(tmpdir(), 'anchor-'));
  const folder = join(top, 'audit');
  t.after(() => rmSync(top, { recursive: true, force: true }));
  const clock = new ManualClock();
  const database = await openSqlite(join(top, 'state.db'), clock);
  t.after(() => database[Symbol.asyncDispose]());
  const open = () => {
    const trail = new Trail({ folder, key: Buffer.alloc(32, 7), clock, log });
    t.after(() => trail.close());
    return { trail, anchor: new Anchor({ trail, database, sealer: createSealer(Buffer.alloc(32, 1)) }) };
  };
  const one = open();
  one.trail.write(record);
  await one.trail.close();
  cpSync(folder, `${folder}-older`, { recursive: true });
  const two = open();
  two.trail.write(record);
  await two.anchor.write();
  await two.trail.close();

  rmSync(folder, { recursive: true });
  symlinkSync(folder, folder);
  const { trail, anchor } = open();
  await anchor.check();
  await anchor.write();
  assert.notEqual(trail.state().problem, undefined);
  rmSync(folder);
  renameSync(`${folder}-older`, folder);
  clock.advance(MINUTE);
  assert.equal(trail.state().gap?.suspect, undefined, 'by itself it is a whole trail');
  await anchor.write();
  assert.match(trail.state().gap?.why ?? '', /^record 2, which the store knows of, is not in the trail/);
});
