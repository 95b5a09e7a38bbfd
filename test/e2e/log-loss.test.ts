/** What of the log a kill and a full disk cost: the newest records at most, and what was lost is told. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import https from 'node:https';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import BetterSqlite3 from 'better-sqlite3';
import { eventually } from '../support/eventually.ts';
import { type Product, startProduct } from '../support/product.ts';
import { smallDisk } from '../support/small-disk.ts';
import { startUpstream } from '../support/upstream.ts';

const HOSTNAME = 'logged.example.com';
const WORKERS = 8;
const REQUESTS = 600;

/** Requests over kept connections, each with a path of its own; in the order of their answers. */
function aLoad({ httpsPort, ca }: Product) {
  const agent = new https.Agent({ keepAlive: true, maxSockets: WORKERS });
  const answered: { path: string; at: number }[] = [];
  let count = 0;
  const ask = (path: string): Promise<number> =>
    new Promise((resolve, reject) => {
      const headers = { host: `${HOSTNAME}:${httpsPort}` };
      https
        .get(
          { host: '127.0.0.1', port: httpsPort, path, servername: HOSTNAME, ca, agent, headers },
          (response) => {
            response.resume().once('end', () => resolve(response.statusCode ?? 0));
          },
        )
        .once('error', reject);
    });
  const one = async (): Promise<void> => {
    const path = `/r/${(count += 1)}`;
    assert.equal(await ask(path), 200);
    answered.push({ path, at: performance.now() });
  };
  return { answered, one, close: () => agent.destroy() };
}

/** As the files have them. */
function loggedPaths({ dataDir }: Product): Set<string> {
  const paths = new Set<string>();
  for (const name of readdirSync(join(dataDir, 'logs')).filter((file) => file.endsWith('.sqlite'))) {
    const connection = new BetterSqlite3(join(dataDir, 'logs', name));
    const rows = connection
      .prepare<[], { path: string }>("select path from records where path like '/r/%'")
      .all();
    connection.close();
    for (const { path } of rows) paths.add(path);
  }
  return paths;
}

async function served(t: TestContext, dataDir?: string): Promise<Product> {
  const upstream = await startUpstream();
  const product = await startProduct(dataDir === undefined ? {} : { dataDir });
  t.after(async () => {
    await product[Symbol.asyncDispose]();
    await upstream[Symbol.asyncDispose]();
  });
  const { status } = await product.api('POST', '/v1/proxies', {
    hostname: HOSTNAME,
    target_url: upstream.url,
  });
  assert.equal(status, 201);
  return product;
}

test('kill -9 under load costs the newest access records alone', async (t) => {
  const product = await served(t);
  const load = aLoad(product);
  t.after(() => load.close());
  let isKilled = false;
  const work = async () => {
    while (!isKilled) {
      try {
        await load.one();
      } catch (cause) {
        if (isKilled) return; // It was killed in the middle of this one.
        throw cause;
      }
      if (load.answered.length !== REQUESTS) continue;
      isKilled = true;
      await product.kill();
    }
  };
  await Promise.all(Array.from({ length: WORKERS }, work));
  const killedAt = load.answered.at(-1)?.at ?? 0;
  const logged = loggedPaths(product);
  const firstLost = load.answered.findIndex(({ path }) => !logged.has(path));
  const after = firstLost === -1 ? [] : load.answered.slice(firstLost);
  // Those that were under way together may have been logged in another order than they were answered in.
  const kept = after.filter(({ path }) => logged.has(path));
  assert.ok(kept.length <= WORKERS, `${kept.length} younger ones are there`);
  assert.ok(after.length < load.answered.length, 'not all of them are lost');
  const ms = Math.round(killedAt - (after[0]?.at ?? killedAt));
  t.diagnostic(`${after.length - kept.length} of ${load.answered.length} lost, of the last ${ms} ms`);
  const again = await product.restart();
  t.after(() => again[Symbol.asyncDispose]());
  const { body } = await again.api('GET', '/v1/log-search?text=/r/&filter=kind:access');
  assert.equal(body.hits, logged.size);
});

test('a full disk: requests are served, lost records are counted and told, and it goes on by itself', async (t) => {
  const disk = smallDisk('full-log-');
  t.after(() => disk.remove());
  if (disk.missing !== undefined) return t.skip(disk.missing);
  const product = await served(t, join(disk.folder, 'data'));
  const load = aLoad(product);
  t.after(() => load.close());
  const health = async () => {
    const { body } = await product.api('GET', '/v1/health');
    const components = body.components as { name: string; status: string; message: string }[];
    return components.find(({ name }) => name === 'log_writer');
  };
  await load.one();
  disk.fill();
  await eventually(async () => {
    await Promise.all(Array.from({ length: WORKERS }, () => load.one()));
    const { status, message = '' } = (await health()) ?? {};
    // Batches of these are lost whole: records of requests are among so many.
    const [, lost = 0] = /(\d+) records lost/.exec(message) ?? [];
    return (status !== 'ok' && Number(lost) >= 3 * WORKERS) || undefined;
  }, 'that health_check tells of it');
  disk.free();
  const told = await eventually(async () => {
    await load.one();
    const { body } = await product.api(
      'GET',
      '/v1/logs?contains=log+records+were+dropped&lines=10&kind=system',
    );
    return body.records?.[0] as { message: string } | undefined;
  }, 'the record that tells of it');
  const [lost = 0] = (/^\d+/.exec(told.message) ?? []).map(Number);
  const last = load.answered.at(-1)?.path ?? '';
  await eventually(async () => loggedPaths(product).has(last) || undefined, 'the record of the last request');
  const missing = () => load.answered.length - loggedPaths(product).size;
  assert.ok(missing() > 0 && lost > 0, `${missing()} are missing, ${lost} were told`);
  // What still waits for the writer is neither there nor lost.
  await eventually(async () => {
    const { message = '' } = (await health()) ?? {};
    return missing() <= Number(/(\d+) records lost/.exec(message)?.[1]) || undefined;
  }, 'as many in the count as are missing');
});
