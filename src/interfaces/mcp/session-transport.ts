/** What the SDK server of one session is connected to: the calls of the session and its standing stream. */
import { randomBytes } from 'node:crypto';
import type {
  JSONRPCMessage,
  MessageExtraInfo,
  Server,
  Transport,
  TransportSendOptions,
} from '@modelcontextprotocol/server';
import { assert } from '../../core/assert.ts';
import { answerCall } from './calls.ts';
import { PRIMING_SINCE } from './settings.ts';
import { isRecord } from './message.ts';
import type { PostReply } from './post-reply.ts';
import type { CreateSdkServer } from './sdk-server.ts';
import type { Call, Session } from './session.ts';

export interface SdkLink {
  /** `reply` for a request: its stream can be closed by the handler where it can be resumed. */
  receive(message: JSONRPCMessage, reply?: PostReply): void;
  close(): Promise<void>;
}

/** Makes the server and brings it to where the session is. */
export async function connectSession(session: Session, createServer: CreateSdkServer): Promise<SdkLink> {
  const transport = new SessionTransport(session);
  const scopeOf = ({ mcpReq }: { mcpReq: { id: string | number } }) => callOf(session, mcpReq.id).scope;
  const server: Server = createServer('legacy', scopeOf);
  await server.connect(transport);
  await transport.initialize();
  return { receive: (message, reply) => transport.receive(message, reply), close: () => server.close() };
}

function callOf(session: Session, key: string | number): Call {
  const call = typeof key === 'number' ? session.calls.get(key) : undefined;
  assert(call, 'a handler runs for a call of its session');
  return call;
}

const NONCE_BYTES = 9;
const INITIALIZE_KEY = 0;

class SessionTransport implements Transport {
  onclose?: () => void;
  onerror?: (error: Error) => void;
  onmessage?: <T extends JSONRPCMessage>(message: T, extra?: MessageExtraInfo) => void;
  readonly #session: Session;
  /**
   * The SDK numbers its questions from 0 in every server. The answer to a question from before a restart must not
   * pass for the answer to another one, so on the wire the number carries this.
   */
  readonly #nonce = randomBytes(NONCE_BYTES).toString('base64url');
  #onInitialized: (() => void) | undefined;

  constructor(session: Session) {
    this.#session = session;
  }

  async start(): Promise<void> {}

  initialize(): Promise<void> {
    return new Promise((resolve) => {
      this.#onInitialized = resolve;
      const params = this.#session.initialize;
      this.onmessage?.({ jsonrpc: '2.0', id: INITIALIZE_KEY, method: 'initialize', params });
    });
  }

  receive(message: JSONRPCMessage, reply?: PostReply): void {
    const known = isAnswer(message) ? this.#ownQuestion(message) : message;
    if (!known) return;
    if (!reply || this.#session.version < PRIMING_SINCE) return this.onmessage?.(known);
    this.onmessage?.(known, {
      closeSSEStream: () => reply.disconnect(),
      closeStandaloneSSEStream: () => this.#session.standing?.detach(),
    });
  }

  async send(message: JSONRPCMessage, options?: TransportSendOptions): Promise<void> {
    if (isAnswer(message)) return this.#answer(message);
    const text = JSON.stringify(
      'id' in message ? { ...message, id: `${this.#nonce}.${message.id}` } : message,
    );
    const key = options?.relatedRequestId;
    if (key === undefined) this.#session.announce(text);
    else if (typeof key === 'number')
      this.#sendTo(this.#session.calls.get(key)?.reply, text, 'id' in message);
  }

  #sendTo(reply: PostReply | undefined, text: string, isQuestion: boolean): void {
    if (isQuestion) reply?.ask(text);
    else reply?.notify(text);
  }

  async close(): Promise<void> {
    this.onclose?.();
  }

  #answer(message: JSONRPCMessage & { id?: string | number | undefined }): void {
    const { id: key } = message;
    if (key === INITIALIZE_KEY) return this.#onInitialized?.();
    const call = typeof key === 'number' ? this.#session.calls.get(key) : undefined;
    // Cancelled in the meantime: its reply has ended.
    if (!call || typeof key !== 'number') return;
    this.#session.calls.delete(key);
    if ('error' in message && call.scope.facts.outcome === 'OK')
      call.scope.facts.outcome = outcomeOf(message.error.code);
    answerCall(call.reply, call.scope, call.id, JSON.stringify({ ...message, id: call.id }));
  }

  /** The message with the SDK's own number, or undefined when it answers no question of this server. */
  #ownQuestion<Message extends JSONRPCMessage & { id?: string | number | undefined }>(
    message: Message,
  ): Message | undefined {
    const [nonce, number, ...rest] = String(message.id).split('.');
    if (nonce !== this.#nonce || number === undefined || rest.length > 0) return undefined;
    return { ...message, id: Number(number) };
  }
}

type Answer = Extract<JSONRPCMessage, { result: unknown } | { error: unknown }>;

function isAnswer(message: JSONRPCMessage): message is Answer {
  return isRecord(message) && !('method' in message);
}

const INTERNAL_CODE = -32_603;

/** For the log: whose fault a refusal by the SDK was. */
const outcomeOf = (code: number): string => (code === INTERNAL_CODE ? 'INTERNAL' : 'INVALID_INPUT');
