/** The product as a person runs it: its own process, its own data directory, real sockets on loopback. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import https from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { PATIENCE_MS } from './eventually.ts';

const main = join(import.meta.dirname, '../../src/main.ts');

export interface Product extends AsyncDisposable {
  readonly child: ChildProcess;
  readonly dataDir: string;
  readonly httpPort: number;
  readonly httpsPort: number;
  readonly adminToken: string;
  readonly ca: Buffer;
  /** Everything printed so far, both streams. */
  output(): string;
  /** A control-plane REST call as the administrator. */
  readonly api: Api;
  /** An HTTPS request for a served hostname, without DNS. */
  get(hostname: string, path: string, options?: GetOptions): Promise<Answer>;
  /** Ends the process at once, keeps the data. */
  kill(): Promise<void>;
  /** Asks politely; resolves to the exit code. */
  stop(): Promise<number | null>;
  /** Starts again on the same data. `env`: besides what it had. */
  restart(env?: Record<string, string>): Promise<Product>;
}

export type Api = (
  method: string,
  path: string,
  body?: unknown,
  headers?: Record<string, string>,
) => Promise<ApiAnswer>;

export interface ApiAnswer {
  status: number;
  headers: Headers;
  // oxlint-disable-next-line typescript/no-explicit-any -- tests look into answers of every operation
  body: any;
}

export interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: string;
}

export interface GetOptions {
  method?: string;
  headers?: Record<string, string | string[]>;
  body?: string | Buffer;
}

export interface ProductOptions {
  env?: Record<string, string>;
  dataDir?: string;
  /** Leaves OHP_ADMIN_TOKEN away, so that the first start generates and prints one. */
  generatedToken?: boolean;
}

export async function startProduct(options: ProductOptions = {}): Promise<Product> {
  const dataDir = options.dataDir ?? mkdtempSync(join(tmpdir(), 'ohp-e2e-'));
  try {
    return await startIn(dataDir, options);
  } catch (cause) {
    if (options.dataDir === undefined) rmSync(dataDir, { recursive: true, force: true });
    throw cause;
  }
}

async function startIn(dataDir: string, options: ProductOptions): Promise<Product> {
  const adminToken = options.env?.OHP_ADMIN_TOKEN ?? 'administrator-token-of-the-tests-0123456789';
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', main], {
    env: {
      PATH: process.env.PATH,
      // As `npm start` has it: what one process has compiled is there for the next.
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      OHP_DATA_DIR: dataDir,
      OHP_HTTP_PORT: '0',
      OHP_HTTPS_PORT: '0',
      ...(options.generatedToken ? {} : { OHP_ADMIN_TOKEN: adminToken }),
      ...options.env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  // A test file that throws before its tests ends without its hooks.
  const killNow = () => void child.kill('SIGKILL');
  process.once('exit', killNow);
  child.once('exit', () => process.off('exit', killNow));
  let printed = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => void (printed += chunk));
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => void (printed += chunk));
  const gone = once(child, 'exit') as Promise<[number | null]>;
  const { httpPort, httpsPort } = await ready(child, () => printed).catch(async (cause: unknown) => {
    child.kill('SIGKILL');
    await gone;
    throw cause;
  });
  const ca = readFileSync(join(dataDir, 'ca.pem'));
  const end = async (signal: NodeJS.Signals) => {
    child.kill(signal);
    return (await gone)[0];
  };
  return {
    child,
    dataDir,
    httpPort,
    httpsPort,
    adminToken,
    ca,
    output: () => printed,
    api: apiOf({ httpPort, adminToken }),
    get: (hostname, path, more) => get({ httpsPort, ca }, hostname, path, more),
    kill: async () => void (await end('SIGKILL')),
    stop: () => end('SIGTERM'),
    restart: (env) => startProduct({ ...options, dataDir, env: { ...options.env, ...env } }),
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) await end('SIGKILL');
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

async function ready(
  child: ChildProcess,
  printed: () => string,
): Promise<{ httpPort: number; httpsPort: number }> {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  while (!/macOS .*\n/.test(printed())) {
    if (child.exitCode !== null) throw new Error(`the product ended with ${child.exitCode}:\n${printed()}`);
    await Promise.race([
      once(child.stdout as NodeJS.ReadableStream, 'data', { signal }),
      once(child, 'exit', { signal }),
    ]);
    await new Promise(setImmediate);
  }
  const [, httpPort] = /http:\/\/[^\s/]+:(\d+)\/mcp/.exec(printed()) ?? [];
  const [, httpsPort] = /https:\/\/[^\s/]+:(\d+)\/mcp/.exec(printed()) ?? [];
  return { httpPort: Number(httpPort), httpsPort: Number(httpsPort) };
}

export const apiOf =
  (at: { httpPort: number; adminToken: string }): Api =>
  (method, path, body, headers = {}) =>
    api(at, { method, path, body, headers });

async function api(
  { httpPort, adminToken }: { httpPort: number; adminToken: string },
  {
    method,
    path,
    body,
    headers,
  }: { method: string; path: string; body: unknown; headers: Record<string, string> },
): Promise<ApiAnswer> {
  const response = await fetch(`http://localhost:${httpPort}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${adminToken}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const answer = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    body: answer === '' ? undefined : JSON.parse(answer),
  };
}

export function get(
  { httpsPort, ca }: { httpsPort: number; ca: Buffer },
  hostname: string,
  path: string,
  options: GetOptions = {},
): Promise<Answer> {
  const port = httpsPort === 443 ? '' : `:${httpsPort}`;
  return new Promise((resolve, reject) => {
    const request = https.request(
      {
        host: '127.0.0.1',
        port: httpsPort,
        path,
        method: options.method ?? 'GET',
        servername: hostname,
        ca,
        agent: false,
        headers: { host: `${hostname}${port}`, ...options.headers },
      },
      (response) => {
        text(response).then(
          (body) => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }),
          reject,
        );
      },
    );
    request.on('error', reject);
    request.end(options.body);
  });
}
