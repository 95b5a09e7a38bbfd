/**
 * One request's way through the gateway: what the steps found out about it, and how it ends. Not the exchange that
 * the control plane sees (`exchange.ts` makes that where it is needed).
 */
import type { IncomingHttpHeaders } from 'node:http';
import { constants } from 'node:http2';
import type { Duplex } from 'node:stream';
import type { Recording } from '../core/capture.ts';
import type { ErrorCode } from '../core/errors.ts';
import type { Told } from '../core/exchange.ts';
import { anonymous, type Principal } from '../core/principal.ts';
import type { OAuthPolicy } from '../proxies/auth-policy.ts';
import type { Match } from '../routes/match.ts';
import { type Member, NOWHERE } from '../core/roster.ts';
import type { OpenSpan, SpanParent } from '../core/spans.ts';
import type { TraceContext } from '../core/trace-context.ts';
import { writeAccessRecord } from './access-record.ts';
import type { Endpoint } from './balancing.ts';
import { NONE } from './choose.ts';
import { endCapture, flat } from './captured.ts';
import {
  type ArrivedRequest,
  closeGently,
  type ClientRequest,
  type ClientResponse,
  type Connection,
  cutClient,
  forgetHead,
  hasBody,
  isHttp2Request,
  isHttp2Response,
} from './client.ts';
import type { Peer } from './client-address.ts';
import type { ClientBody } from './client-body.ts';
import type { GatewayCore } from './core.ts';
import { recordFault } from './fault-record.ts';
import { errorPage, pageHeaders, type Refusal, rpcErrorPage } from './error-page.ts';
import type { RequestFacts } from './headers.ts';
import type { Visit } from './protect.ts';
import type { Snapshot } from './snapshot.ts';
import type { Attempt } from './span-facts.ts';
import type { ToolGate } from './tools/tool-gate.ts';
import { endTrace, nextTraceparent } from './trace.ts';

export const kinds = ['proxied', 'upgrade', 'control', 'mcp', 'oauth', 'site', 'metadata', 'acme'] as const;
export type Kind = (typeof kinds)[number];

/** What is under way for a request and has to stop when its client is gone, or its credential. */
export interface Activity {
  abort(reason: Error): void;
  /** It waits for a connection to its upstream. */
  readonly isQueued?: boolean;
}

/** The connection of a request that wants to leave HTTP. */
export interface UpgradeRequest {
  readonly socket: Duplex;
  /** Bytes that came behind the head. */
  readonly head: Buffer;
  /** Value of `Upgrade`, or of `:protocol` (RFC 8441). */
  readonly protocol: string;
}

export interface TransitParts extends ArrivedRequest {
  readonly connection: Connection;
}

/** Without them a page of another origin that may ask could not read why it was refused; `check-origin` sets them. */
const forReaders: ReadonlySet<string> = new Set([
  'access-control-allow-origin',
  'access-control-expose-headers',
  'vary',
]);

/** One for all: every request ends with it, and a stack for each would cost more than the rest of its end. */
const clientGone = new Error('the client went away');

export class Transit implements RequestFacts, Member {
  readonly core: GatewayCore;
  readonly request: ClientRequest;
  readonly response: ClientResponse;
  readonly connection: Connection;
  readonly upgrade: UpgradeRequest | undefined;
  /** The client waits for `100 Continue` before it sends the body. */
  readonly expectsContinue: boolean;
  /** What it started with is what it ends with. */
  readonly snapshot: Snapshot;
  readonly startedAt: number;
  readonly method: string;
  readonly rawHeaders: readonly string[];
  readonly headers: IncomingHttpHeaders;
  readonly hasBody: boolean;

  kind: Kind | undefined = undefined;
  traceId = '';
  /** As the head of the request says, or the message of MCP where the head says nothing. */
  caller: TraceContext | undefined = undefined;
  /** Undefined: nobody records the trace. */
  span: OpenSpan | undefined = undefined;
  /** A message of MCP stands elsewhere than the head does; its parent is undefined where that trace is not recorded. */
  message: { readonly parent: SpanParent | undefined } | undefined = undefined;
  /** The try at an upstream that is under way. */
  attempt: Attempt | undefined = undefined;
  attempts = 0;
  /** Of the try that is under way; 0 before the upstream answers. */
  upstreamStatus = 0;
  clientAddress: string;
  /** By something in between, as the request says itself. */
  isHandedOn = false;
  scheme: 'http' | 'https';
  hostname = '';
  /** As the client wrote it; undefined when it left it out. */
  port: number | undefined = undefined;
  authority = '';
  path = '';
  query = '';
  match: Match | undefined = undefined;
  /** What metadata that is asked for tells of, where that is not MCP. */
  described: OAuthPolicy | undefined = undefined;
  visit: Visit | undefined = undefined;
  principal: Principal = anonymous;
  passesCredential = true;
  identity: readonly string[] = [];
  /** Where rules for tools of MCP apply. */
  tools: ToolGate | undefined = undefined;
  /** Nothing stands between it and its upstream any more. */
  isAuthorised = false;

  body: ClientBody | undefined = undefined;
  activity: Activity | undefined = undefined;
  /** URL of the target that it was tried at last, where there is only one as where there are several. */
  target: string | undefined = undefined;
  /** Which of several targets has it, until it is over. */
  endpoint: Endpoint | undefined = undefined;
  /** Of several targets, those that have had it: one bit for each. */
  tried = 0;
  tries = 0;
  /** Of several targets, the one that its cookie names. */
  pinned = NONE;
  /** No other target may have it: it is of a session that one opened. */
  isHeld = false;
  session: string | undefined = undefined;
  /** Where somebody captures it. */
  capture: Recording | undefined = undefined;
  /** Takes it off the list of streams that end with their credential. */
  release: (() => void) | undefined = undefined;

  status = 0;
  outcome: ErrorCode | 'OK' = 'OK';
  reason: string | undefined = undefined;
  bytesOut = 0;
  notes: Record<string, unknown> | undefined = undefined;
  told: (() => Told) | undefined = undefined;
  /** Bytes of a tunnel, both ways; undefined for everything else. */
  tunnelBytes: number | undefined = undefined;
  isEventStream = false;
  /** Answered with a page of ours; whoever else would answer comes too late. */
  isRefused = false;
  isDone = false;
  place = NOWHERE;

  constructor(core: GatewayCore, parts: TransitParts) {
    const { request, response, connection } = parts;
    this.core = core;
    this.request = request;
    this.response = response;
    this.connection = connection;
    this.upgrade = parts.upgrade;
    this.expectsContinue = parts.expectsContinue === true;
    this.snapshot = core.snapshots.current;
    this.startedAt = core.clock.now();
    this.method = request.method ?? '';
    this.rawHeaders = request.rawHeaders;
    this.headers = request.headers;
    this.hasBody = parts.upgrade === undefined && hasBody(request);
    this.clientAddress = connection.peer.address;
    this.scheme = connection.isEncrypted ? 'https' : 'http';
  }

  get traceparent(): string {
    return nextTraceparent(this);
  }

  get tracestate(): string | undefined {
    return this.caller?.state;
  }

  get peer(): Peer {
    return this.connection.peer;
  }

  /** Both ends on this machine. What a proxy on this machine hands on came from somewhere else, whatever it says of it. */
  get isLocal(): boolean {
    return this.peer.isLoopback && !this.isHandedOn;
  }

  get isBodyComplete(): boolean {
    return !this.hasBody || this.request.complete;
  }

  /** A WebSocket over HTTP/2. @see RFC 8441 §4 */
  get isExtendedConnect(): boolean {
    return this.upgrade !== undefined && isHttp2Request(this.request);
  }

  /** Would not end by itself: tunnels, and event streams that someone subscribed to. */
  get isEndless(): boolean {
    return this.tunnelBytes !== undefined || (this.isEventStream && this.method === 'GET');
  }

  get isHead(): boolean {
    return this.method === 'HEAD';
  }

  /** Answers with a page of ours. Always true: the chain of steps ends. */
  refuse(refusal: Refusal): true {
    if (this.isDone || this.isRefused) return true;
    this.isRefused = true;
    this.status = refusal.status;
    this.outcome = refusal.code;
    this.reason = refusal.reason ?? refusal.message;
    if (this.response.headersSent) this.cut();
    else this.#sendPage(refusal);
    return true;
  }

  /** Never throws: whoever refuses has nobody left to tell. */
  #sendPage(refusal: Refusal): void {
    try {
      this.#writePage(refusal);
    } catch (cause) {
      recordFault(this.core, 'an error page could not be sent', cause, this.traceId);
      this.cut();
    }
    this.discardBody();
  }

  #writePage(refusal: Refusal): void {
    const { response, traceId, core } = this;
    const isOwn = this.kind !== 'proxied' && this.kind !== 'upgrade';
    // What is there of an upstream's reply could not be written, and is not for our page.
    forgetHead(response, (name) => isOwn && forReaders.has(name), new Date(core.clock.now()));
    const page =
      refusal.page ??
      (this.kind === 'mcp'
        ? rpcErrorPage(refusal, traceId)
        : errorPage(refusal, this.headers.accept, traceId));
    const body = Buffer.from(page.body);
    const fields = {
      ...pageHeaders,
      ...refusal.headers,
      ...this.closing(),
      'content-type': page.contentType,
      'content-length': String(body.length),
      'x-trace-id': traceId,
    };
    response.writeHead(refusal.status, fields);
    this.capture?.answered(refusal.status, flat(fields));
    this.end(body);
  }

  /** The rest of the request body is of no use; reading it lets the client get to the reply. */
  discardBody(): void {
    if (!this.isBodyComplete) closeGently(this.response);
    if (this.body) this.body.discard();
    else if (this.hasBody) this.request.resume();
  }

  /** The HTTP/1.1 connection ends after this reply: the gateway does, or what follows is not to be trusted. */
  get isLastReply(): boolean {
    return (this.core.isDraining || this.connection.isLast) && !isHttp2Response(this.response);
  }

  closing(): { connection?: 'close' } {
    return this.isLastReply ? { connection: 'close' } : {};
  }

  end(body?: Uint8Array): void {
    if (body === undefined || body.length === 0 || this.isHead) {
      this.response.end();
      return;
    }
    this.bytesOut += body.length;
    this.response.end(body);
  }

  /** The reply can't be finished: the client learns that what it has is not all. */
  cut(): void {
    cutClient(this.response, constants.NGHTTP2_INTERNAL_ERROR);
  }

  /** The credential is no longer good, or the gateway ends: whatever is open is closed. */
  close(outcome: ErrorCode, reason: string): void {
    if (this.isDone) return;
    this.outcome = outcome;
    this.reason = reason;
    this.activity?.abort(new Error(reason));
    cutClient(this.response, constants.NGHTTP2_CANCEL);
  }

  /** As `close`, but the client sees an orderly end where its protocol has one. */
  endStream(reason: string): void {
    this.reason = reason;
    this.activity?.abort(new Error(reason));
    if (this.tunnelBytes === undefined) this.response.end();
  }

  /** Once, when the reply or its connection is closed. */
  finish(): void {
    if (this.isDone) return;
    this.isDone = true;
    this.core.inFlight.delete(this);
    this.connection.pending--;
    if (this.connection.current === this) this.connection.current = undefined;
    this.release?.();
    if (!this.response.writableEnded && this.outcome === 'OK' && this.tunnelBytes === undefined) {
      this.outcome = 'CANCELLED';
      this.reason = 'the client went away';
    }
    this.activity?.abort(clientGone);
    this.endpoint?.release(this);
    this.body?.discard();
    if (!this.isBodyComplete) this.core.lingering.add(this.request, this.core.clock.now());
    this.tools?.finish();
    writeAccessRecord(this);
    endTrace(this);
    if (this.capture) endCapture(this, this.capture);
  }
}
