/**
 * HTTP/2 as frames, for what `node:http2` refuses to send: any field in any spelling (HPACK literals without Huffman
 * or index, RFC 7541 §6.2.2), any frame in any order (RFC 9113 §4.1).
 */
import { once } from 'node:events';
import { connect, type TLSSocket } from 'node:tls';
import { PATIENCE_MS } from './eventually.ts';
import type { Product } from './product.ts';

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const HEAD_BYTES = 9;

export const frame = {
  DATA: 0,
  HEADERS: 1,
  RST_STREAM: 3,
  SETTINGS: 4,
  PING: 6,
  GOAWAY: 7,
  CONTINUATION: 9,
} as const;
export const flag = { END_STREAM: 1, END_HEADERS: 4 } as const;

export interface Frame {
  type: number;
  flags: number;
  stream: number;
  payload: Buffer;
}

export function encode(
  type: number,
  flags: number,
  stream: number,
  payload: Uint8Array = Buffer.alloc(0),
): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc7541#section-5.1 | RFC 7541 §5.1} */
function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'latin1');
  const long = bytes.length - 127;
  if (long < 0) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const length = [127];
  let rest = long;
  for (; rest >= 128; rest = Math.floor(rest / 128)) length.push((rest % 128) + 128);
  return Buffer.concat([Buffer.from([...length, rest]), bytes]);
}

export const block = (fields: readonly (readonly [string, string])[]): Buffer =>
  Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));

export const headers = (
  stream: number,
  fields: readonly (readonly [string, string])[],
  flags: number = flag.END_HEADERS | flag.END_STREAM,
): Buffer => encode(frame.HEADERS, flags, stream, block(fields));

export class FrameClient implements Disposable {
  readonly socket: TLSSocket;
  readonly frames: Frame[] = [];
  isEnded = false;
  #bytes = Buffer.alloc(0);
  #wake: (() => void) | undefined;

  constructor(socket: TLSSocket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
    const ended = () => {
      this.isEnded = true;
      this.#wake?.();
    };
    socket.on('end', ended).on('close', ended).on('error', ended);
    this.write(Buffer.from(PREFACE), encode(frame.SETTINGS, 0, 0));
  }

  write(...parts: Uint8Array[]): boolean {
    return this.socket.writable && this.socket.write(Buffer.concat(parts));
  }

  /** The first frame that satisfies this; undefined when the connection ends without one. */
  async until(wanted: (frame: Frame) => boolean): Promise<Frame | undefined> {
    for (let i = 0; ; i++) {
      while (i >= this.frames.length) {
        if (this.isEnded) return undefined;
        await this.#more();
      }
      const found = this.frames[i];
      if (found && wanted(found)) return found;
    }
  }

  async ended(): Promise<void> {
    while (!this.isEnded) await this.#more();
  }

  /** A round trip: what was sent before has been read. False when the connection is over. */
  async ping(): Promise<boolean> {
    const mark = Buffer.alloc(8);
    mark.writeUInt32BE(this.frames.length + 1);
    this.write(encode(frame.PING, 0, 0, mark));
    return (
      (await this.until(
        ({ type, flags, payload }) => type === frame.PING && flags === 1 && payload.equals(mark),
      )) !== undefined
    );
  }

  #read(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    for (;;) {
      if (this.#bytes.length < HEAD_BYTES) break;
      const length = this.#bytes.readUIntBE(0, 3);
      if (this.#bytes.length < HEAD_BYTES + length) break;
      const payload = Buffer.from(this.#bytes.subarray(HEAD_BYTES, HEAD_BYTES + length));
      const [type = 0, flags = 0] = [this.#bytes[3], this.#bytes[4]];
      this.frames.push({ type, flags, stream: this.#bytes.readUInt32BE(5), payload });
      if (type === frame.SETTINGS && flags === 0) this.write(encode(frame.SETTINGS, 1, 0));
      this.#bytes = this.#bytes.subarray(HEAD_BYTES + length);
    }
    this.#wake?.();
  }

  async #more(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#wake = resolve;
    const patience = setTimeout(() => reject(new Error('no more frames came')), PATIENCE_MS);
    await promise.finally(() => clearTimeout(patience));
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

export async function connectFrames(
  { httpsPort, ca }: Pick<Product, 'httpsPort' | 'ca'>,
  servername: string,
): Promise<FrameClient> {
  const socket = connect({ port: httpsPort, host: '127.0.0.1', servername, ca, ALPNProtocols: ['h2'] });
  await once(socket, 'secureConnect');
  return new FrameClient(socket);
}
