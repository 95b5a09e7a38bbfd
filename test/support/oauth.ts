/** Clients of the product's authorization server, as `oauth4webapi` makes them, with a person who reads the pages. */
import * as oauth from 'oauth4webapi';
import { fetchBy } from './agent.ts';
import { freePort } from './free-port.ts';
import { type Product, type ProductOptions, startProduct } from './product.ts';
import { type Page, signInAs, Visitor } from './visitor.ts';

export const REDIRECT_URI = 'https://client.example.net/callback';
export const FIRST = 'root';

/** On ports that stay the same after a restart: they are part of the issuer and of every audience. */
export async function startOnFixedPorts(options: ProductOptions = {}): Promise<Product> {
  const [http, https] = [await freePort(), await freePort()];
  const env = { OHP_HTTP_PORT: String(http), OHP_HTTPS_PORT: String(https), ...options.env };
  return startProduct({ ...options, env });
}

type Reachable = Pick<Product, 'ca' | 'httpsPort' | 'adminToken'>;

/** Somebody with a browser, and the clients that they use. */
export class Person {
  readonly product: Reachable;
  readonly username: string;
  readonly visitor: Visitor;
  readonly options: { [oauth.customFetch]: ReturnType<typeof fetchBy> };

  constructor(product: Reachable, username = FIRST) {
    this.product = product;
    this.username = username;
    this.visitor = new Visitor(product, REDIRECT_URI);
    this.options = { [oauth.customFetch]: fetchBy(this.visitor) };
  }

  get issuer(): string {
    return `https://localhost:${this.product.httpsPort}`;
  }

  get mcp(): string {
    return `${this.issuer}/mcp`;
  }

  async discover(): Promise<oauth.AuthorizationServer> {
    const issuer = new URL(this.issuer);
    const response = await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...this.options });
    return oauth.processDiscoveryResponse(issuer, response);
  }

  /** A request of a client to the control host, with its access token. Resolves to the JSON that came back. */
  async send(token: string, [method, path]: [string, string], body?: object): Promise<any> {
    const page = await this.visitor.request(new URL(path, this.issuer), {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        accept: 'application/json, text/event-stream',
        'content-type': 'application/json',
      },
      ...(body && { body: JSON.stringify(body) }),
    });
    return JSON.parse(page.body);
  }

  /** A tool call; resolves to its result. */
  async call(token: string, name: string, args: object): Promise<any> {
    const params = { name, arguments: args };
    const body = { jsonrpc: '2.0', id: 1, method: 'tools/call', params };
    return (await this.send(token, ['POST', '/mcp'], body)).result;
  }

  /** Where this person agrees to a call that was refused, at the issuer: without `control.public_url` the link names plain HTTP. */
  confirmUrlOf({ content: [first] }: { content: { text: string }[] }): string {
    const [, path] = /https?:\/\/[^/\s]+(\/oauth\/confirm\/\S+)/.exec(first?.text ?? '') ?? [];
    if (path === undefined) throw new Error(`no link: ${first?.text}`);
    return `${this.issuer}${path}`;
  }

  /** Signs in where that is asked (the first one makes the account), and agrees to what is asked. */
  async agree(start: Page): Promise<Page> {
    let page = start;
    if (/name="(?:token|password)"/.test(page.body))
      page = await signInAs(this.visitor, page, {
        adminToken: this.product.adminToken,
        username: this.username,
      });
    if (page.body.includes('name="decision"')) page = await this.visitor.submit(page, { decision: 'allow' });
    return page;
  }

  async client(metadata: Record<string, unknown> = {}): Promise<Client> {
    const as = await this.discover();
    const wanted = { client_name: 'A client', redirect_uris: [REDIRECT_URI], ...metadata };
    const response = await oauth.dynamicClientRegistrationRequest(as, wanted, this.options);
    return new Client(this, as, await oauth.processDynamicClientRegistrationResponse(response));
  }
}

export class Client {
  readonly person: Person;
  readonly as: oauth.AuthorizationServer;
  readonly client: oauth.Client;

  constructor(person: Person, as: oauth.AuthorizationServer, client: oauth.Client) {
    this.person = person;
    this.as = as;
    this.client = client;
  }

  /** To where the answer is; the code is not redeemed. With what it takes to redeem it in another way than `redeem`. */
  async authorize(extra: Record<string, string> = {}) {
    const { as, client, person } = this;
    const verifier = oauth.generateRandomCodeVerifier();
    const start = new URL(as.authorization_endpoint ?? '');
    start.search = new URLSearchParams({
      client_id: client.client_id,
      redirect_uri: REDIRECT_URI,
      response_type: 'code',
      state: 'state',
      resource: person.mcp,
      code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
      ...extra,
    }).toString();
    const page = await person.agree(await person.visitor.open(start));
    if (!page.url.href.startsWith(REDIRECT_URI))
      throw new Error(`no answer to the client: ${page.status} ${page.url.href}\n${page.body}`);
    const parameters = oauth.validateAuthResponse(as, client, page.url, 'state');
    const redeem = (options: oauth.TokenEndpointRequestOptions = {}) =>
      oauth.authorizationCodeGrantRequest(as, client, oauth.None(), parameters, REDIRECT_URI, verifier, {
        ...person.options,
        ...options,
      });
    return { back: page.url, redeem, parameters, verifier };
  }

  async signIn(extra: Record<string, string> = {}): Promise<oauth.TokenEndpointResponse> {
    const { redeem } = await this.authorize(extra);
    return oauth.processAuthorizationCodeResponse(this.as, this.client, await redeem());
  }

  refresh(token = ''): Promise<Response> {
    return oauth.refreshTokenGrantRequest(this.as, this.client, oauth.None(), token, this.person.options);
  }

  async refreshed(token = ''): Promise<oauth.TokenEndpointResponse> {
    return oauth.processRefreshTokenResponse(this.as, this.client, await this.refresh(token));
  }

  async revoke(token: string): Promise<void> {
    const { as, client, person } = this;
    const response = await oauth.revocationRequest(as, client, oauth.None(), token, person.options);
    await oauth.processRevocationResponse(response);
  }
}
