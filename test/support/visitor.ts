/** A browser without a window: cookies for each host, redirects and refreshes followed, forms filled in. To loopback, no DNS. */
import http from 'node:http';
import https from 'node:https';
import { text } from 'node:stream/consumers';
import type { Product } from './product.ts';

const MAX_HOPS = 15;

export interface Page {
  readonly url: URL;
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: string;
  /** Every URL on the way, this one last. */
  readonly hops: readonly string[];
}

interface Wanted {
  method?: string;
  headers?: Record<string, string>;
  body?: string;
}

/** As a browser sends when somebody follows a link. */
export const navigation = {
  accept: 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8',
  'sec-fetch-mode': 'navigate',
  'sec-fetch-dest': 'document',
};

export class Visitor {
  readonly #product: Pick<Product, 'ca' | 'httpsPort'>;
  readonly #jars = new Map<string, Map<string, string>>();

  /** Where it is sent to this URL, it has arrived: that is somebody else's. */
  readonly #destination: string | undefined;

  /** Of loopback; limits of one network are not met by another. */
  readonly #address: string | undefined;

  constructor(product: Pick<Product, 'ca' | 'httpsPort'>, destination?: string, address?: string) {
    this.#product = product;
    this.#destination = destination;
    this.#address = address;
  }

  /** URL of a path of a served hostname. */
  at(hostname: string, path = '/'): string {
    return `https://${hostname}:${this.#product.httpsPort}${path}`;
  }

  cookie(hostname: string, name: string): string | undefined {
    return this.#jars.get(hostname)?.get(name);
  }

  async open(target: string | URL, wanted: Wanted = {}): Promise<Page> {
    const hops: string[] = [];
    let [url, asked] = [new URL(target), wanted];
    for (let hop = 0; hop < MAX_HOPS; hop++) {
      hops.push(url.href);
      if (this.#destination !== undefined && url.href.startsWith(this.#destination))
        return { url, hops, status: 0, headers: {}, body: '' };
      const answer = await this.request(url, { ...asked, headers: { ...navigation, ...asked.headers } });
      const location = answer.headers['location'] ?? goesOnTo(answer.body);
      if (location !== undefined && answer.status === 200) {
        [url, asked] = [new URL(String(location), url), {}];
        continue;
      }
      if (answer.status < 300 || answer.status >= 400 || typeof location !== 'string')
        return { url, hops, ...answer };
      url = new URL(location, url);
      // RFC 9110 §15.4.4: what follows a form is looked at.
      asked = { headers: wanted.headers ?? {} };
    }
    throw new Error(`too many redirects: ${hops.join(' ')}`);
  }

  /** Sends the first form of a page that has all these fields, with what is hidden in it. */
  submit(page: Page, fields: Record<string, string>): Promise<Page> {
    for (const [form = '', inside = ''] of page.body.matchAll(/<form[^>]*>([\s\S]*?)<\/form>/g)) {
      const names = [...inside.matchAll(/name="([^"]+)"/g)].map(([, name]) => name);
      if (!Object.keys(fields).every((name) => names.includes(name))) continue;
      const action = /^<form[^>]*action="([^"]+)"/.exec(form)?.[1] ?? page.url.href;
      const hidden = [...inside.matchAll(/<input type="hidden" name="([^"]+)" value="([^"]*)"/g)];
      const body = new URLSearchParams({
        ...Object.fromEntries(hidden.map(([, name = '', value = '']) => [name, value])),
        ...fields,
      });
      const url = new URL(action.replaceAll('&amp;', '&'), page.url);
      return this.open(url, {
        method: 'POST',
        body: body.toString(),
        headers: {
          'content-type': 'application/x-www-form-urlencoded',
          origin: page.url.origin,
          'sec-fetch-site': 'same-origin',
        },
      });
    }
    throw new Error(
      `no form with ${Object.keys(fields).join(', ')}: ${page.status} ${page.url.href}\n${page.body}`,
    );
  }

  /** One request, without following. */
  request(url: URL, { method = 'GET', headers = {}, body }: Wanted): Promise<Omit<Page, 'url' | 'hops'>> {
    const jar = this.#jarOf(url.hostname);
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ');
    return new Promise((resolve, reject) => {
      const { request: open } = url.protocol === 'https:' ? https : http;
      const request = open(
        {
          host: '127.0.0.1',
          ...(this.#address !== undefined && { localAddress: this.#address }),
          port: url.port,
          servername: url.hostname,
          path: url.pathname + url.search,
          method,
          ca: this.#product.ca,
          agent: false,
          headers: {
            host: url.host,
            ...(cookie !== '' && { cookie }),
            ...(body !== undefined && { 'content-length': Buffer.byteLength(body) }),
            ...headers,
          },
        },
        (response) => {
          keep(jar, response.headers['set-cookie'] ?? []);
          text(response).then(
            (read) => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: read }),
            reject,
          );
        },
      );
      request.on('error', reject);
      request.end(body);
    });
  }

  #jarOf(hostname: string): Map<string, string> {
    const jar = this.#jars.get(hostname) ?? new Map<string, string>();
    this.#jars.set(hostname, jar);
    return jar;
  }
}

/** Where a page sends the browser by itself. */
const goesOnTo = (body: string): string | undefined =>
  /<meta http-equiv="refresh" content="0; url=([^"]+)">/.exec(body)?.[1]?.replaceAll('&amp;', '&');

function keep(jar: Map<string, string>, lines: readonly string[]): void {
  for (const line of lines) {
    const [pair = ''] = line.split(';');
    const name = pair.slice(0, pair.indexOf('='));
    const isGone = /;\s*max-age=0\b/i.test(line) || /;\s*expires=Thu, 01 Jan 1970/i.test(line);
    if (isGone) jar.delete(name);
    else jar.set(name, pair.slice(pair.indexOf('=') + 1));
  }
}

export const PASSWORD = 'correct horse battery staple';

/** On the page that asks who somebody is: makes the first account, or signs in to it. */
export async function signInAs(
  visitor: Visitor,
  page: Page,
  { adminToken, username = 'root' }: { adminToken: string; username?: string },
): Promise<Page> {
  const form = page.body.includes('name="token"') ? await visitor.submit(page, { token: adminToken }) : page;
  return visitor.submit(form, { username, password: PASSWORD });
}

/** A second person: invited by the administrator, who has set a password. Resolves to the id. */
export async function invite(product: Product, username: string, settings: object = {}): Promise<string> {
  const made = await product.api('POST', '/v1/users', { username, ...settings });
  if (made.status !== 201) throw new Error(`create_user: ${made.status} ${JSON.stringify(made.body)}`);
  const { pathname, search } = new URL(made.body.invite_url);
  const visitor = new Visitor(product);
  const page = await visitor.open(visitor.at('localhost', pathname + search));
  const done = await visitor.submit(page, { password: PASSWORD });
  if (done.status >= 400) throw new Error(`invitation: ${done.status} ${done.body}`);
  return made.body.id;
}
