/** Guides as they are read: their blocks of code, and a shell that runs them, with the commands of a user on its PATH. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { PATIENCE_MS } from './eventually.ts';
import type { Product } from './product.ts';

const root = join(import.meta.dirname, '../..');

export class Guide {
  readonly text: string;

  constructor(name: string) {
    this.text = readFileSync(join(root, 'docs/guides', `${name}.md`), 'utf8');
  }

  /** In order. */
  blocks(language: string): string[] {
    const fences = this.text.matchAll(/^ *```([a-z]*)\n([\s\S]*?)^ *```$/gm);
    return [...fences].flatMap(([, named, inside = '']) => (named === language ? [inside] : []));
  }

  /** The one that has this in it. */
  block(language: string, holds: string): string {
    const found = this.blocks(language).filter((block) => block.includes(holds));
    assert.equal(found.length, 1, `${found.length} blocks of ${language} with ${holds}`);
    return found[0] ?? '';
  }
}

export interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

export interface Shell {
  readonly env?: Record<string, string>;
  /** What is typed. */
  readonly input?: string;
  readonly cwd?: string;
}

/** `npx ohp` and `ohp` are this repository's; `claude` says what it was given, a word a line. */
const COMMANDS = `
npx() { if [ "$1" = ohp ]; then shift; "$NODE" --disable-warning=ExperimentalWarning "$CLI" "$@"; else command npx "$@"; fi; }
ohp() { npx ohp "$@"; }
claude() { printf '%s\\n' "$@"; }
`;

/** A block as it stands in the guide, but for what differs here: ports and ids. */
export async function runShell(
  block: string,
  { env = {}, input = '', cwd = root }: Shell = {},
): Promise<Ran> {
  const child = spawn('bash', ['--norc', '-euc', `${COMMANDS}\n${block}`], {
    cwd,
    timeout: PATIENCE_MS,
    env: {
      PATH: process.env['PATH'],
      NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'],
      NODE: process.execPath,
      CLI: join(root, 'src/cli.ts'),
      ...env,
    },
  });
  child.stdin.end(input);
  const [out, err, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit') as Promise<[number | null]>,
  ]);
  return { code, out, err };
}

/** As the administrator, on the machine of the product. */
export const asAdministrator = ({ httpPort, adminToken, dataDir }: Product): Record<string, string> => ({
  OHP_URL: `http://localhost:${httpPort}`,
  OHP_TOKEN: adminToken,
  OHP_DATA_DIR: dataDir,
  HOME: dataDir,
});
