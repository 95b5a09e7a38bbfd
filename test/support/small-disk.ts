/** A file system of its own that can be filled, for what has to go on when there is no room. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const SIZE = '24m';
const PIECE = Buffer.alloc(64 * 1024);
const SMALLER_BYTES = [4096, 512, 1];

export interface SmallDisk {
  readonly folder: string;
  /** Why there is none: the folder is on the disk of the machine then, and is not to be filled. */
  readonly missing: string | undefined;
  /** Until not a byte is left. */
  fill(): void;
  /** Takes away what filled it. */
  free(): void;
  remove(): void;
}

export function smallDisk(prefix: string): SmallDisk {
  const folder = mkdtempSync(join(tmpdir(), prefix));
  const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${SIZE}`, 'tmpfs', folder], {
    stdio: 'ignore',
  });
  const filler = join(folder, 'filler');
  return {
    folder,
    missing: status === 0 ? undefined : 'a file system of a given size may not be mounted here',
    fill: () => fill(filler),
    free: () => rmSync(filler),
    remove() {
      if (status === 0) spawnSync('umount', ['--lazy', folder]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function fill(path: string): void {
  const file = openSync(path, 'a');
  try {
    for (const size of [PIECE.length, ...SMALLER_BYTES])
      try {
        for (;;) writeSync(file, PIECE, 0, size);
      } catch (cause) {
        assert.equal((cause as NodeJS.ErrnoException).code, 'ENOSPC');
      }
  } finally {
    closeSync(file);
  }
}
