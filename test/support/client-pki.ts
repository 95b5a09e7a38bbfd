/** CAs that issue to clients, revoke and publish lists, by the openssl program; its files are for curl and openssl. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Issued {
  readonly certFile: string;
  readonly keyFile: string;
  readonly pem: string;
  readonly key: string;
}

export interface Wish {
  /** Extended key usage. */
  usage?: string;
  names?: string;
  /** `YYYYMMDDHHMMSSZ` */
  from?: string;
  until?: string;
  isCa?: boolean;
  /** Of a CA: its key usage. */
  keyUsage?: string;
}

const CONFIG = `[ca]
default_ca = it
[it]
database = index.txt
new_certs_dir = .
certificate = ca.pem
private_key = ca.key
default_md = sha256
default_days = 30
policy = any
unique_subject = no
serial = serial
rand_serial = yes
[any]
commonName = supplied
`;

const caUsage = ['keyCertSign', 'cRLSign'].join(',');

export class ClientPki implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'client-pki-'));
  #made = 0;

  root(name: string, keyUsage = caUsage): ClientCa {
    const ca = this.#folderOf(name);
    const key = ca.newKey('ca.key');
    const extensions = ['-addext', `keyUsage=critical,${keyUsage}`];
    ca.openssl(
      'req',
      '-x509',
      '-new',
      '-key',
      key,
      '-subj',
      `/CN=${name}`,
      '-days',
      '30',
      ...extensions,
      '-out',
      'ca.pem',
    );
    return ca;
  }

  below(above: ClientCa, name: string, wish: Wish = {}): ClientCa {
    const ca = this.#folderOf(name);
    const { pem, key } = above.issue(name, { isCa: true, ...wish });
    writeFileSync(join(ca.folder, 'ca.pem'), pem);
    writeFileSync(join(ca.folder, 'ca.key'), key);
    return ca;
  }

  #folderOf(name: string): ClientCa {
    const folder = join(this.folder, `${++this.#made}-${name.replace(/\W/g, '-')}`);
    mkdirSync(folder);
    writeFileSync(join(folder, 'config'), CONFIG);
    writeFileSync(join(folder, 'index.txt'), '');
    return new ClientCa(folder);
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true });
  }
}

export class ClientCa {
  readonly folder: string;
  #made = 0;

  constructor(folder: string) {
    this.folder = folder;
  }

  get pem(): string {
    return readFileSync(join(this.folder, 'ca.pem'), 'utf8');
  }

  issue(
    name: string,
    { usage = 'clientAuth', names, from, until, isCa = false, keyUsage = caUsage }: Wish = {},
  ): Issued {
    const base = `${++this.#made}-${name.replace(/\W/g, '-')}`;
    const keyFile = this.newKey(`${base}.key`);
    const extensions = isCa
      ? ['basicConstraints=critical,CA:true', `keyUsage=critical,${keyUsage}`]
      : [`extendedKeyUsage=${usage}`, ...(names === undefined ? [] : [`subjectAltName=${names}`])];
    writeFileSync(join(this.folder, `${base}.ext`), extensions.join('\n'));
    this.openssl('req', '-new', '-key', keyFile, '-subj', `/CN=${name}`, '-out', `${base}.csr`);
    const dates = [
      ...(from === undefined ? [] : ['-startdate', from]),
      ...(until === undefined ? [] : ['-enddate', until]),
    ];
    this.#ca(
      '-batch',
      '-notext',
      '-in',
      `${base}.csr`,
      '-extfile',
      `${base}.ext`,
      ...dates,
      '-out',
      `${base}.pem`,
    );
    const certFile = join(this.folder, `${base}.pem`);
    return { certFile, keyFile, pem: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8') };
  }

  revoke({ certFile }: Issued): void {
    this.#ca('-revoke', certFile);
  }

  /** PEM. Dates as in `Wish`. */
  list({ from, until }: Pick<Wish, 'from' | 'until'> = {}): string {
    const dates =
      until === undefined
        ? ['-crldays', '7']
        : ['-crl_lastupdate', from ?? '20200101000000Z', '-crl_nextupdate', until];
    this.#ca('-gencrl', ...dates, '-out', 'list.pem');
    return readFileSync(join(this.folder, 'list.pem'), 'utf8');
  }

  newKey(file: string): string {
    const path = join(this.folder, file);
    this.openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', path);
    return path;
  }

  openssl(...args: readonly string[]): void {
    execFileSync('openssl', args, { cwd: this.folder, stdio: 'ignore' });
  }

  #ca(...args: readonly string[]): void {
    this.openssl('ca', '-config', 'config', ...args);
  }
}
