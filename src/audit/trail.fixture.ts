/** A trail of a few days in a folder of its own, and what somebody may do to its files. */
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { DAY, ManualClock } from '../core/clock.ts';
import { silentLog } from '../core/record.ts';
import { listFiles, type TrailFile } from './files.ts';
import { AuditService } from './service.ts';
import { Trail } from './trail.ts';

const DAYS = 3;
export const A_DAY = 4;

export async function makeTrail() {
  const parent = mkdtempSync(join(tmpdir(), 'verify-'));
  const clock = new ManualClock();
  const trail = new Trail({ folder: join(parent, 'audit'), key: Buffer.alloc(32, 1), clock, log: silentLog });
  for (let day = 0; day < DAYS; day++, clock.advance(DAY))
    for (let i = 0; i < A_DAY; i++)
      trail.write({
        time: clock.now(),
        kind: 'audit',
        level: 'info',
        component: 'audit',
        message: `call ${day}.${i}`,
        outcome: 'OK',
        principal: 'tok_1',
      });
  const service = new AuditService(trail, clock);
  const verify = () => service.verify({}, { signal: new AbortController().signal });
  const files = listFiles(trail.folder);
  const texts = files.map(({ path }) => readFileSync(path));
  const restore = () => files.forEach(({ path }, i) => writeFileSync(path, texts[i] ?? ''));
  return {
    trail,
    service,
    verify,
    files,
    texts,
    restore,
    async [Symbol.asyncDispose]() {
      await trail.close();
      rmSync(parent, { recursive: true });
    },
  };
}

export const linesOf = (bytes: Buffer) => bytes.toString('latin1').split('\n').slice(0, -1);

const inFile = fc.nat(DAYS - 1);
const line = fc.nat(A_DAY - 1);
export const attack = fc.oneof(
  fc.record({
    what: fc.constant('byte' as const),
    file: inFile,
    at: fc.nat(2000),
    by: fc.integer({ min: 1, max: 255 }),
  }),
  fc.record({ what: fc.constant('remove line' as const), file: inFile, at: line }),
  fc.record({ what: fc.constant('double line' as const), file: inFile, at: line }),
  fc.record({ what: fc.constant('exchange lines' as const), file: inFile, at: fc.nat(A_DAY - 2) }),
  fc.record({ what: fc.constant('cut' as const), file: inFile, at: fc.nat(2000) }),
  fc.record({ what: fc.constant('remove file' as const), file: inFile }),
  fc.record({ what: fc.constant('exchange files' as const), file: fc.nat(DAYS - 2) }),
  fc.record({ what: fc.constant('empty file' as const), file: inFile }),
  fc.record({ what: fc.constant('rename file' as const), file: inFile }),
);
export type Attack = typeof attack extends fc.Arbitrary<infer One> ? One : never;

/** Does it to the files, of which `texts` is what is in them; returns what undoes more than putting that back. */
export function attacker(files: readonly TrailFile[], texts: readonly Buffer[]) {
  const path = (i: number) => files[i]?.path ?? '';
  const bytesOf = (i: number) => texts[i] ?? Buffer.alloc(0);
  const write = (file: number, lines: readonly string[]) =>
    writeFileSync(path(file), lines.map((one) => `${one}\n`).join(''), 'latin1');
  return (one: Attack): (() => void) | void => {
    const bytes = Buffer.from(bytesOf(one.file));
    const lines = linesOf(bytes);
    switch (one.what) {
      case 'byte': {
        const at = one.at % bytes.length;
        bytes[at] = ((bytes[at] ?? 0) + one.by) % 256;
        return writeFileSync(path(one.file), bytes);
      }
      case 'remove line':
        return write(one.file, lines.toSpliced(one.at, 1));
      case 'double line':
        return write(one.file, lines.toSpliced(one.at, 0, lines[one.at] ?? ''));
      case 'exchange lines':
        return write(one.file, lines.toSpliced(one.at, 2, lines[one.at + 1] ?? '', lines[one.at] ?? ''));
      case 'cut':
        return writeFileSync(path(one.file), bytes.subarray(0, one.at % bytes.length));
      case 'remove file':
        return rmSync(path(one.file));
      case 'empty file':
        return writeFileSync(path(one.file), '');
      case 'exchange files':
        writeFileSync(path(one.file), bytesOf(one.file + 1));
        return writeFileSync(path(one.file + 1), bytes);
      case 'rename file': {
        const other = path(one.file).replace(/\d{12}\.ndjson$/, '000000000050.ndjson');
        renameSync(path(one.file), other);
        return () => rmSync(other);
      }
    }
  };
}
