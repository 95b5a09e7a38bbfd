/** What the command line has of the process it runs in. Tests bring their own. */
import type { Readable, Writable } from 'node:stream';

export interface CliIo {
  env: Readonly<Record<string, string | undefined>>;
  stdin: Readable & { isTTY?: boolean; setRawMode?: (on: boolean) => unknown };
  stdout: Writable & { isTTY?: boolean; columns?: number };
  stderr: Writable;
  /** Where relative paths begin. */
  cwd: string;
  home: string;
  /** Aborts when the person presses Ctrl-C. */
  signal: AbortSignal;
}
