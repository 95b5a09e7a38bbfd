/** A certificate for peers that make none of their own: P-256, as ours are. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
}

export function makeCertificate(folder: string, hostname: string): CertificateFiles {
  const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const names = ['-subj', `/CN=${hostname}`, '-addext', `subjectAltName=DNS:${hostname}`];
  execFileSync('openssl', ['req', '-x509', ...curve, ...names, '-days', '30', '-keyout', key, '-out', cert], {
    stdio: 'ignore',
  });
  return { cert, key };
}
