/** `node tools/run.mjs test/conformance/main.ts [--url URL --token TOKEN]`: the product and what is behind it, or that server. */
import { parseArgs } from 'node:util';
import { conformanceOfAuthorization } from './authorization.ts';
import { conformanceOfProduct, conformanceThroughGateway } from './gateway.ts';
import { runConformance } from './run.ts';

const { values } = parseArgs({ options: { url: { type: 'string' }, token: { type: 'string' } } });
const print = (line: string) => process.stdout.write(`${line}\n`);
process.exitCode = (await run(values)) ? 0 : 1;

async function run({ url, token = '' }: { url?: string; token?: string }): Promise<boolean> {
  if (url !== undefined) return runConformance({ url, token }, print);
  const own = await conformanceOfProduct(print);
  const authorization = await conformanceOfAuthorization(print);
  return (await conformanceThroughGateway(print)) && own && authorization;
}
