/**
 * The reply of an MCP server that has rules for its tools, on its way to a client: lists of tools without what the
 * caller may not use. Event streams pass event by event; a list that comes as one JSON document is held until it is
 * whole, with its head, so that what can't be looked into is refused rather than passed. All else passes as it comes.
 */
import { messageOf } from '../../core/errors.ts';
import type { FieldRecord } from '../headers.ts';
import { Relay } from '../relay.ts';
import type { Plan } from '../snapshot.ts';
import type { Transit } from '../transit.ts';
import { EventFilter } from './event-filter.ts';
import { Gathered } from './gathered.ts';
import { toolLimits } from './limits.ts';
import type { ToolGate } from './tool-gate.ts';
import { mayHoldList, withoutHidden } from './tool-list.ts';

const EVENT_STREAM = /^\s*text\/event-stream\s*(?:;|$)/i;
const JSON_TYPE = /^\s*application\/(?:json|[a-z0-9.+-]+\+json)\s*(?:;|$)/i;
const FIRST_ERROR = 400;
const ACCEPTED = 202;
const BODILESS: ReadonlySet<number> = new Set([204, 205, 304]);
/** Of a body that is not the target's any more. */
const OF_THE_BYTES: ReadonlySet<string> = new Set([
  'content-length',
  'content-md5',
  'digest',
  'content-digest',
  'repr-digest',
  'etag',
  'last-modified',
  'accept-ranges',
]);

type Head = readonly [status: number, reasonPhrase: string | undefined, fields: FieldRecord];

type Mode =
  | { readonly kind: 'pass' }
  /** Passes, and what it says of a call is kept for the record. */
  | { readonly kind: 'overhear'; readonly bytes: Gathered }
  /** The answer comes elsewhere (202, of the older HTTP+SSE): what is said here besides is left out. */
  | { readonly kind: 'silent' }
  | { readonly kind: 'events'; readonly filter: EventFilter }
  | { readonly kind: 'list'; readonly head: Head; readonly bytes: Gathered };

export class ToolRelay extends Relay {
  readonly #transit: Transit;
  readonly #gate: ToolGate;
  #mode: Mode = PASS;

  constructor(transit: Transit, plan: Plan, gate: ToolGate) {
    super(transit, plan);
    this.#transit = transit;
    this.#gate = gate;
  }

  protected override begin(status: number, reasonPhrase: string | undefined, fields: FieldRecord): void {
    try {
      const told = this.#gate.toClient(fields);
      this.#mode = this.#modeOf([status, reasonPhrase, told]);
      if (this.#mode.kind === 'list') this.#transit.status = status;
      else super.begin(status, reasonPhrase, isWrittenAnew(this.#mode) ? withoutSums(told) : told);
    } catch (cause) {
      this.#fail(cause);
    }
  }

  override data(chunk: Uint8Array): boolean {
    if (this.#transit.isRefused) return true;
    try {
      return this.#pass(chunk);
    } catch (cause) {
      this.#fail(cause);
      return true;
    }
  }

  override end(trailers: FieldRecord): void {
    if (this.#transit.isRefused) return;
    try {
      this.#conclude();
      super.end(trailers);
    } catch (cause) {
      this.#fail(cause);
    }
  }

  /** @throws when the reply can't be looked into. */
  #modeOf(head: Head): Mode {
    const [status, , fields] = head;
    const type = String(fields['content-type'] ?? '');
    const isStream = EVENT_STREAM.test(type);
    const { asksForList, awaitsResults } = this.#gate;
    if (this.#transit.isHead || BODILESS.has(status)) return PASS;
    if ((isStream || asksForList) && isEncoded(fields)) throw new Error('the reply is compressed');
    if (isStream) return { kind: 'events', filter: new EventFilter((data) => this.#changed(data)) };
    if (asksForList) return listMode(head, type);
    const isJson = JSON_TYPE.test(type) && !isEncoded(fields);
    return awaitsResults && isJson ? { kind: 'overhear', bytes: new Gathered() } : PASS;
  }

  #pass(chunk: Uint8Array): boolean {
    const mode = this.#mode;
    switch (mode.kind) {
      case 'pass':
        return super.data(chunk);
      case 'overhear':
        if (mode.bytes.length + chunk.length <= toolLimits.outcomeBytes) mode.bytes.append(chunk);
        else this.#mode = PASS;
        return super.data(chunk);
      case 'events': {
        const passed = mode.filter.push(chunk);
        return passed.length === 0 || super.data(passed);
      }
      case 'silent':
        return true;
      case 'list':
        if (mode.bytes.length + chunk.length > toolLimits.listBytes)
          throw new Error(`the list is larger than ${toolLimits.listBytes} bytes`);
        mode.bytes.append(chunk);
        return true;
    }
  }

  #conclude(): void {
    const mode = this.#mode;
    if (mode.kind === 'overhear') this.#gate.hear(jsonOf(mode.bytes.bytes.toString('utf8')));
    if (mode.kind !== 'list') return;
    const [status, reasonPhrase, fields] = mode.head;
    const text = mode.bytes.bytes.toString('utf8');
    const body = text === '' ? '' : this.#list(text);
    super.begin(status, reasonPhrase, withoutSums(fields));
    if (body !== '') super.data(Buffer.from(body));
  }

  /** Written anew, so that the client reads what was looked at. @throws when it is no JSON. */
  #list(text: string): string {
    const value: unknown = JSON.parse(text);
    this.#gate.hear(value);
    return JSON.stringify(withoutHidden(value, this.#gate.isShown) ?? value);
  }

  /** Data that is no JSON is no message, whoever reads it. */
  #changed(data: string): string | undefined {
    const mayBeList = mayHoldList(data);
    if (data === '' || (!mayBeList && !this.#gate.awaitsResults)) return undefined;
    const value = jsonOf(data);
    this.#gate.hear(value);
    const changed = mayBeList ? withoutHidden(value, this.#gate.isShown) : undefined;
    return changed === undefined ? undefined : JSON.stringify(changed);
  }

  #fail(cause: unknown): void {
    const reason = messageOf(cause);
    this.#transit.activity?.abort(new Error(reason, { cause }));
    this.#transit.refuse({
      status: 502,
      code: 'UPSTREAM_FAILED',
      message: 'The answer of the target could not be held against the rules for its tools.',
      reason,
    });
  }
}

const PASS: Mode = { kind: 'pass' };

const isWrittenAnew = ({ kind }: Mode): boolean => kind === 'events' || kind === 'silent';

/** A failure may be told in any form; without a type there is nothing to tell, or it is read as JSON. */
function listMode(head: Head, type: string): Mode {
  if (head[0] === ACCEPTED) return { kind: 'silent' };
  if (type === '' || JSON_TYPE.test(type)) return { kind: 'list', head, bytes: new Gathered() };
  if (head[0] < FIRST_ERROR) throw new Error('a list came in a form that is not known');
  return PASS;
}

const isEncoded = (fields: FieldRecord): boolean => {
  const encoding = String(fields['content-encoding'] ?? '')
    .trim()
    .toLowerCase();
  return encoding !== '' && encoding !== 'identity';
};

const withoutSums = (fields: FieldRecord): FieldRecord =>
  Object.fromEntries(Object.entries(fields).filter(([name]) => !OF_THE_BYTES.has(name)));

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined; // Not a message: nothing is known of it, and nothing hidden is in it.
  }
}
