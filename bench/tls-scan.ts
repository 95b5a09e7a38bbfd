/**
 * What testssl.sh says of a fresh product: protocols, ciphers, forward secrecy, vulnerabilities. Takes
 * some minutes, so that the list of tests has sslscan instead (`test/e2e/tls.test.ts`).
 * Usage: node tools/run.mjs bench/tls-scan.ts
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isInstalled } from '../test/support/program.ts';
import { startProduct } from '../test/support/product.ts';
import { printTable } from './measure.ts';

const HOSTNAME = 'scanned.example.com';
/** Protocols, cipher categories, forward secrecy, server preferences, server defaults, vulnerabilities. */
const SECTIONS = ['-p', '-s', '-f', '-P', '-S', '-U'];
/** What is of interest beside everything that is not fine. */
const SHOWN =
  /^(?:SSLv[23]|TLS1(?:_[123])?|ALPN.*|P?FS|P?FS_.*|cipherlist_.*|heartbleed|secure_.*|robot|ROBOT|LUCKY13|BEAST|BREACH|LOGJAM|SWEET32|CRIME_TLS|ticketbleed|CCS|fallback_SCSV|RC4|DROWN|FREAK|POODLE_SSL|winshock)$/i;
const FINE = new Set(['OK', 'INFO', 'DEBUG', 'LOW']);

interface Finding {
  id: string;
  severity: string;
  finding: string;
}

async function scan(): Promise<Finding[]> {
  await using product = await startProduct();
  const made = await product.api('POST', '/v1/proxies', {
    hostname: HOSTNAME,
    target_url: 'http://127.0.0.1:9',
  });
  if (made.status !== 201) throw new Error(JSON.stringify(made.body));
  const folder = mkdtempSync(join(tmpdir(), 'testssl-'));
  try {
    const out = join(folder, 'findings.json');
    const options = ['--quiet', '--warnings', 'off', '--color', '0', '--ip', '127.0.0.1', '--jsonfile', out];
    const args = [
      ...options,
      ...SECTIONS,
      '--add-ca',
      join(product.dataDir, 'ca.pem'),
      `${HOSTNAME}:${product.httpsPort}`,
    ];
    const child = spawn('testssl', args, { stdio: ['ignore', 'ignore', 'inherit'] });
    await once(child, 'exit');
    return JSON.parse(readFileSync(out, 'utf8')) as Finding[];
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (!isInstalled('testssl')) throw new Error('testssl is not installed (Debian: testssl.sh)');
const started = Date.now();
const findings = await scan();
const worth = findings.filter(({ id, severity }) => SHOWN.test(id) || !FINE.has(severity));
printTable([
  ['finding', 'severity', 'what'],
  ...worth.map(({ id, severity, finding }) => [id, severity, finding]),
]);
console.log(`${findings.length} findings in ${Math.round((Date.now() - started) / 1000)} s`);
