/** The product in the process of the test, with its real store and sockets, at a time that the test decides. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createApp } from '../../src/app.ts';
import { loadConfig } from '../../src/config/load.ts';
import { type Clock, systemClock, type Timer } from '../../src/core/clock.ts';
import { type Api, apiOf } from './product.ts';

export interface OwnProcess extends AsyncDisposable {
  readonly dataDir: string;
  readonly httpPort: number;
  readonly httpsPort: number;
  readonly ca: Buffer;
  readonly api: Api;
}

/** `folder`: of its data directory; whoever gives one takes it away. */
export async function startHere(
  env: Record<string, string>,
  clock: Clock,
  folder?: string,
): Promise<OwnProcess> {
  const dataDir = folder ?? mkdtempSync(join(tmpdir(), 'ohp-here-'));
  const adminToken = 'administrator-token-of-the-tests-0123456789';
  const variables = {
    OHP_DATA_DIR: dataDir,
    OHP_HTTP_PORT: '0',
    OHP_HTTPS_PORT: '0',
    OHP_ADMIN_TOKEN: adminToken,
    OHP_LOG_LEVEL: 'error',
    ...env,
  };
  const config = await loadConfig(variables, (path) => readFileSync(path, 'utf8'));
  const app = await createApp(config, { clock });
  const httpPort = Number(new URL(app.facts.urls.plain ?? '').port);
  return {
    dataDir,
    httpPort,
    httpsPort: Number(new URL(app.facts.urls.secure).port),
    ca: readFileSync(join(dataDir, 'ca.pem')),
    api: apiOf({ httpPort, adminToken }),
    async [Symbol.asyncDispose]() {
      await app[Symbol.asyncDispose]();
      if (folder === undefined) rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

interface Waiting {
  at: number;
  readonly everyMs: number | undefined;
  readonly run: () => void;
  real: Timer | undefined;
}

/** The time of the system, until it jumps: then whatever was to be done by then is done once. */
export class JumpingClock implements Clock {
  #aheadMs = 0;
  readonly #waiting = new Set<Waiting>();

  now(): number {
    return systemClock.now() + this.#aheadMs;
  }

  after(ms: number, run: () => void): Timer {
    return this.#wait({ at: this.now() + ms, everyMs: undefined, run, real: undefined });
  }

  every(ms: number, run: () => void): Timer {
    return this.#wait({ at: this.now() + ms, everyMs: ms, run, real: undefined });
  }

  jump(ms: number): void {
    this.#aheadMs += ms;
    const now = this.now();
    const due = [...this.#waiting].filter(({ at }) => at <= now);
    for (const one of due) if (this.#waiting.has(one)) this.#ring(one);
  }

  #wait(one: Waiting): Timer {
    this.#waiting.add(one);
    this.#arm(one);
    return {
      cancel: () => {
        one.real?.cancel();
        this.#waiting.delete(one);
      },
    };
  }

  #arm(one: Waiting): void {
    one.real?.cancel();
    one.real = systemClock.after(Math.max(0, one.at - this.now()), () => this.#ring(one));
  }

  #ring(one: Waiting): void {
    one.real?.cancel();
    if (one.everyMs === undefined) this.#waiting.delete(one);
    else {
      one.at = this.now() + one.everyMs;
      this.#arm(one);
    }
    one.run();
  }
}
