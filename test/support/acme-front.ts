/**
 * Stands in front of Pebble and adds what it lacks (renewal information, profiles, `replaces`), and does to one request
 * or the next few whatever can go wrong on the way to a CA or in it.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { Agent, request } from 'undici';
import type { Pebble } from './pebble.ts';
import { closed } from './program.ts';

/** Beginning of Pebble's path → what is there. */
const RESOURCES = {
  '/dir': 'directory',
  '/nonce-plz': 'newNonce',
  '/sign-me-up': 'newAccount',
  '/order-plz': 'newOrder',
  '/revoke-cert': 'revokeCert',
  '/rollover-account-key': 'keyChange',
  '/list-orderz/': 'orders',
  '/my-account/': 'account',
  '/my-order/': 'order',
  '/authZ/': 'authorization',
  '/chalZ/': 'challenge',
  '/finalize-order/': 'finalize',
  '/certZ/': 'certificate',
  '/renewal-info/': 'renewalInfo',
} as const;
export type Resource = (typeof RESOURCES)[keyof typeof RESOURCES];

type Headers = Record<string, string>;

export type Fault =
  /** A problem document; `type` is the last part of an ACME type. The CA does not hear of the request. */
  | { kind: 'problem'; type: string; status: number; detail?: string; more?: object; headers?: Headers }
  /** Any other answer in place of the CA's: a page, a redirect, too much. */
  | { kind: 'answer'; status: number; body: string; headers?: Headers }
  /** The CA never hears of it; who asks waits until then, and is hung up on. */
  | { kind: 'held'; until: Promise<unknown> }
  /** Before the CA hears of it. */
  | { kind: 'hang_up' }
  /** The CA acts, and nobody hears the answer. */
  | { kind: 'lost_reply' }
  /** The CA acts, and its answer ends in the middle. */
  | { kind: 'truncated' }
  /** The CA acts, and its answer comes then. */
  | { kind: 'slow'; until: Promise<unknown> }
  /** The CA's answer, with other headers. */
  | { kind: 'headers'; headers: Headers }
  /** The CA's answer with other members. */
  // oxlint-disable-next-line typescript/no-explicit-any -- members of any document of the CA
  | { kind: 'members'; members: object | ((document: any) => object) };

export interface SeenRequest {
  resource: Resource | undefined;
  method: string;
  path: string;
  /** Of a signed request. */
  header: Record<string, unknown> | undefined;
  /** Undefined for POST-as-GET. */
  // oxlint-disable-next-line typescript/no-explicit-any -- tests look into payloads of every step
  payload: any;
}

export interface AcmeFront extends AsyncDisposable {
  readonly directoryUrl: string;
  readonly trustPem: string;
  readonly dns: Pebble['dns'];
  readonly requests: SeenRequest[];
  /** While it is, every request is hung up on. */
  isAway: boolean;
  /** Befalls the next `times` requests for it, after what was asked for before. */
  fail(resource: Resource, fault: Fault, times?: number): void;
  /** What ARI says for every certificate; undefined: as of one that is not known. */
  renewal:
    | { window: { start: string; end: string }; explanationURL?: string; retryAfter?: string }
    | undefined;
}

export const PROFILES = { classic: 'https://ca.test/profiles#classic', shortlived: 'Six days' };
const CERTIFICATE_ID = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;

interface Answer {
  status: number;
  headers: Record<string, string | string[]>;
  body: string;
}

/** `isHurried`: without the seconds that Pebble asks to wait for, of which a CA on loopback needs none. */
export async function startAcmeFront(
  pebble: Pebble,
  { isHurried = false }: { isHurried?: boolean } = {},
): Promise<AcmeFront> {
  const agent = new Agent({ connect: { ca: pebble.trustPem } });
  const origin = new URL(pebble.directoryUrl).origin;
  const waiting: { resource: Resource; fault: Fault }[] = [];
  const extras = createExtras();
  const requests: SeenRequest[] = [];
  let renewal: AcmeFront['renewal'];
  let isAway = false;

  const server = createServer(
    { cert: pebble.serverCertificate.certificatePem, key: pebble.serverCertificate.keyPem },
    (incoming, response) => {
      // A connection that a test cuts is none of the server's business.
      answer(incoming, response).catch(() => response.destroy());
    },
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const authority = `localhost:${(server.address() as AddressInfo).port}`;

  async function answer(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    if (isAway) return void response.destroy();
    const body = await text(incoming);
    const seen = seenOf(incoming, body);
    requests.push(seen);
    const index = waiting.findIndex(({ resource }) => resource === seen.resource);
    const [{ fault } = {}] = index < 0 ? [] : waiting.splice(index, 1);
    if (fault?.kind === 'held') await fault.until;
    if (fault?.kind === 'hang_up' || fault?.kind === 'held') return void response.destroy();
    if (fault?.kind === 'problem') return give(response, problemAnswer(fault));
    if (fault?.kind === 'answer') return give(response, { headers: {}, ...fault });
    const reply =
      ownAnswer(seen) ?? extras.refuse(seen) ?? extras.complete(seen, await forward(incoming, body));
    await giveWith(response, reply, fault);
  }

  function ownAnswer({ resource, path }: SeenRequest): Answer | undefined {
    if (resource !== 'renewalInfo') return undefined;
    if (!renewal || !CERTIFICATE_ID.test(path.slice('/renewal-info/'.length)))
      return problemAnswer({ type: 'malformed', status: 404, detail: 'no such certificate' });
    const { window: suggestedWindow, explanationURL, retryAfter } = renewal;
    return {
      status: 200,
      headers: {
        'content-type': 'application/json',
        ...(retryAfter !== undefined && { 'retry-after': retryAfter }),
      },
      body: JSON.stringify({ suggestedWindow, explanationURL }),
    };
  }

  async function forward(
    { method = 'GET', url = '', headers }: IncomingMessage,
    body: string,
  ): Promise<Answer> {
    // Pebble makes its URLs of the Host that it is asked for, and compares them with what was signed.
    const { connection: _c, 'content-length': _l, 'transfer-encoding': _t, ...others } = headers;
    const reply = await request(`${origin}${url}`, {
      method: method as 'GET',
      dispatcher: agent,
      headers: { ...others, host: authority },
      ...(body !== '' && { body }),
    });
    const content = await reply.body.text();
    const { connection: _d, 'content-length': _m, 'transfer-encoding': _u, ...kept } = reply.headers;
    if (isHurried) delete kept['retry-after'];
    return { status: reply.statusCode, headers: kept as Answer['headers'], body: content };
  }

  return {
    directoryUrl: `https://${authority}/dir`,
    trustPem: pebble.trustPem,
    dns: pebble.dns,
    requests,
    fail: (resource, fault, times = 1) =>
      void waiting.push(...Array.from({ length: times }, () => ({ resource, fault }))),
    get isAway() {
      return isAway;
    },
    set isAway(value) {
      isAway = value;
    },
    get renewal() {
      return renewal;
    },
    set renewal(value) {
      renewal = value;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await closed(server);
      await agent.destroy();
    },
  };
}

function seenOf({ method = '', url: path = '' }: IncomingMessage, body: string): SeenRequest {
  const [, resource] = Object.entries(RESOURCES).find(([start]) => path.startsWith(start)) ?? [];
  const jws = body === '' ? undefined : (JSON.parse(body) as { protected: string; payload: string });
  const decode = (part: string) => JSON.parse(Buffer.from(part, 'base64url').toString());
  return {
    resource,
    method,
    path,
    header: jws && decode(jws.protected),
    payload: jws && jws.payload !== '' ? decode(jws.payload) : undefined,
  };
}

/** Profiles and `replaces`: which order has which, and that a certificate is replaced once. */
function createExtras() {
  const replaced = new Set<string>();
  const ofOrder = new Map<string, { profile?: string; replaces?: string }>();
  return {
    refuse({ resource, payload }: SeenRequest): Answer | undefined {
      if (resource !== 'newOrder') return undefined;
      const { profile, replaces } = payload;
      if (profile !== undefined && !Object.hasOwn(PROFILES, profile))
        return problemAnswer({ type: 'invalidProfile', status: 400, detail: `no profile ${profile}` });
      if (replaces !== undefined && !CERTIFICATE_ID.test(replaces))
        return problemAnswer({ type: 'malformed', status: 400, detail: 'replaces is no certificate id' });
      if (replaces !== undefined && replaced.has(replaces))
        return problemAnswer({ type: 'alreadyReplaced', status: 409, detail: 'it was replaced before' });
      return undefined;
    },
    complete(seen: SeenRequest, answer: Answer): Answer {
      if (answer.status >= 400) return answer;
      if (seen.resource === 'directory')
        return withMembers(answer, (directory) => completeDirectory(directory));
      if (seen.resource === 'newOrder') {
        const { profile, replaces } = seen.payload;
        if (replaces !== undefined) replaced.add(replaces);
        ofOrder.set(idOf(String(answer.headers.location)), { profile, replaces });
      }
      const url = seen.resource === 'newOrder' ? String(answer.headers.location) : seen.path;
      const isOrder = ['newOrder', 'order', 'finalize'].includes(seen.resource ?? '');
      return isOrder ? withMembers(answer, () => ofOrder.get(idOf(url)) ?? {}) : answer;
    },
  };
}

const idOf = (url: string): string => url.split('/').at(-1) ?? '';

function completeDirectory(directory: { newOrder: string; meta: object }): object {
  const renewalInfo = new URL('/renewal-info', directory.newOrder).href;
  return { renewalInfo, meta: { ...directory.meta, profiles: PROFILES } };
}

// oxlint-disable-next-line typescript/no-explicit-any -- members of any document of the CA
function withMembers(answer: Answer, membersOf: (document: any) => object): Answer {
  const document = JSON.parse(answer.body);
  return { ...answer, body: JSON.stringify({ ...document, ...membersOf(document) }) };
}

const problemAnswer = (problem: Omit<Extract<Fault, { kind: 'problem' }>, 'kind'>): Answer => ({
  status: problem.status,
  headers: { 'content-type': 'application/problem+json', ...problem.headers },
  body: JSON.stringify({
    type: `urn:ietf:params:acme:error:${problem.type}`,
    detail: problem.detail ?? 'as the test wanted',
    ...problem.more,
  }),
});

async function giveWith(response: ServerResponse, answer: Answer, fault: Fault | undefined): Promise<void> {
  switch (fault?.kind) {
    case 'lost_reply':
      return void response.destroy();
    case 'truncated': {
      response.writeHead(answer.status, { ...answer.headers, 'content-length': answer.body.length });
      response.write(answer.body.slice(0, answer.body.length / 2), () => response.destroy());
      return;
    }
    case 'slow':
      await fault.until;
      return give(response, answer);
    case 'headers':
      return give(response, { ...answer, headers: { ...answer.headers, ...fault.headers } });
    case 'members':
      return give(
        response,
        withMembers(answer, (document) =>
          typeof fault.members === 'function' ? fault.members(document) : fault.members,
        ),
      );
    case 'held':
    case 'hang_up':
    case 'problem':
    case 'answer':
    case undefined:
      return give(response, answer);
  }
}

function give(response: ServerResponse, { status, headers, body }: Answer): void {
  response.writeHead(status, headers).end(body);
}

/** The next such request is not answered; `before`: the CA does not hear of it either. */
export function holdAt(front: AcmeFront, resource: Resource, when: 'before' | 'after') {
  const { promise, resolve } = Promise.withResolvers<void>();
  let isReached = false;
  // Waited for at the very point that is meant, which is how it is known that it is reached.
  const until = {
    // oxlint-disable-next-line unicorn/no-thenable -- being waited for is what it is there to tell
    then: (go: () => void) => {
      isReached = true;
      return promise.then(go);
    },
  } as Promise<void>;
  front.fail(resource, when === 'before' ? { kind: 'held', until } : { kind: 'slow', until });
  return { isReached: () => isReached, release: resolve };
}

/** A nonce that no CA gave, in the form of one. */
export const strangeNonce = (seed: string): string => createHash('sha256').update(seed).digest('base64url');
