/** For tests: certificates as the rest of the world makes them, by the openssl program. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const PROGRAM = 'openssl';

export interface Made {
  certificatePem: string;
  /** PKCS#8. */
  keyPem: string;
}

interface Wish {
  subject: string;
  /** Absent: self-signed. */
  issuer?: Made;
  /** Lines of an openssl extension section. */
  extensions: readonly string[];
  /** Absent: a new one on P-256. */
  keyPem?: string;
  days?: number;
}

export function openssl(input: string, ...args: readonly string[]): string {
  return execFileSync(PROGRAM, args, { input, encoding: 'utf8', stdio: ['pipe', 'pipe', 'ignore'] });
}

const keyOptions = {
  ec: ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256'],
  rsa: ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048'],
  rsa1024: ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:1024'],
  ed25519: ['-algorithm', 'ED25519'],
};

export const newKey = (type: keyof typeof keyOptions): string => openssl('', 'genpkey', ...keyOptions[type]);

function make({ subject, issuer, extensions, keyPem = newKey('ec'), days = 30 }: Wish): Made {
  const folder = mkdtempSync(join(tmpdir(), 'pki-'));
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  try {
    const own = file('own.key', keyPem);
    const request = openssl('', 'req', '-new', '-key', own, '-subj', subject);
    const signing = issuer
      ? ['-CA', file('ca.pem', issuer.certificatePem), '-CAkey', file('ca.key', issuer.keyPem)]
      : ['-signkey', own];
    const extfile = file('ext.cnf', extensions.join('\n'));
    const serial = [
      '-set_serial',
      `0x${Date.now().toString(16)}${Math.floor(Math.random() * 1e9).toString(16)}`,
    ];
    const options = ['-days', String(days), '-sha256', '-extfile', extfile, ...serial, ...signing];
    return { certificatePem: openssl(request, 'x509', '-req', ...options), keyPem };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export const makeCa = (subject: string, issuer?: Made, keyPem?: string): Made =>
  make({
    subject,
    ...(issuer && { issuer }),
    ...(keyPem !== undefined && { keyPem }),
    extensions: [
      'basicConstraints=critical,CA:true',
      'keyUsage=critical,keyCertSign',
      'subjectKeyIdentifier=hash',
    ],
  });

export const makeLeaf = (
  names: readonly string[],
  issuer?: Made,
  more: Partial<Pick<Wish, 'keyPem' | 'days' | 'extensions' | 'subject'>> = {},
): Made =>
  make({
    subject: '/CN=leaf',
    ...(issuer && { issuer }),
    ...more,
    extensions: [
      ...(names.length > 0 ? [`subjectAltName=${names.map((name) => `DNS:${name}`).join(',')}`] : []),
      ...(more.extensions ?? ['extendedKeyUsage=serverAuth']),
    ],
  });
