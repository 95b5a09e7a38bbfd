/**
 * What a client says first over TLS, as far as it is needed before the handshake begins: the name it asks for and the
 * protocols it offers. Pure; every byte is a stranger's.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8446#section-4.1.2 | RFC 8446 §4.1.2, §5.1}, RFC 6066 §3, RFC 7301 §3.1
 */
export interface ClientHello {
  readonly servername: string | undefined;
  readonly protocols: readonly string[];
}

const HANDSHAKE_RECORD = 22;
const CLIENT_HELLO = 1;
const RECORD_HEADER = 5;
const MESSAGE_HEADER = 4;
/** Version and random. */
const FIXED = 34;
const SERVER_NAME = 0;
const ALPN = 16;
const HOST_NAME = 0;
/** The hello of a browser has some 2 KiB; one record carries at most this much (RFC 8446 §5.1). */
export const MAX_HELLO_BYTES = 16_384;

/** Who cuts a hello up, to get past a filter, makes a few of it; each byte in its own would be work for nothing. */
export const MAX_RECORDS = 64;

/** Reads one hello as it comes; each byte is looked at once, in however small pieces a stranger sends it. */
export class HelloReader {
  readonly #header = Buffer.alloc(RECORD_HEADER);
  #headerBytes = 0;
  /** Of the record that has begun. */
  #left = 0;
  #records = 0;
  /** Of the first handshake message: where its type and length are, and all of it. */
  readonly #start = Buffer.alloc(MESSAGE_HEADER);
  readonly #parts: Buffer[] = [];
  #have = 0;

  /**
   * `bytes`: those that came since it was last called. `incomplete`: more are needed. Undefined: this is no
   * ClientHello, or one that can't be read; then it is not called again.
   */
  read(bytes: Buffer): ClientHello | 'incomplete' | undefined {
    for (let at = 0; at < bytes.length; ) {
      if (this.#left === 0) {
        this.#header[this.#headerBytes++] = bytes.readUInt8(at++);
        if (!this.#isRecord()) return undefined;
        continue;
      }
      const part = bytes.subarray(at, at + this.#left);
      at += part.length;
      const wanted = this.#add(part);
      if (wanted === undefined || wanted > MAX_HELLO_BYTES) return undefined;
      if (this.#have >= wanted)
        return readMessage(Buffer.concat(this.#parts).subarray(MESSAGE_HEADER, wanted));
    }
    return 'incomplete';
  }

  /** Whether the header, as far as it is there, is one of a record of a handshake; where it is whole, its record begins. */
  #isRecord(): boolean {
    if (this.#header[0] !== HANDSHAKE_RECORD) return false;
    if (this.#headerBytes < RECORD_HEADER) return true;
    this.#headerBytes = 0;
    this.#left = this.#header.readUInt16BE(3);
    return this.#left > 0 && this.#left <= MAX_HELLO_BYTES && ++this.#records <= MAX_RECORDS;
  }

  /** How many bytes the message has, as far as is known; undefined: it is no ClientHello. */
  #add(part: Buffer): number | undefined {
    if (this.#have < MESSAGE_HEADER) part.copy(this.#start, this.#have);
    this.#parts.push(part);
    this.#have += part.length;
    this.#left -= part.length;
    if (this.#start[0] !== CLIENT_HELLO) return undefined;
    return MESSAGE_HEADER + (this.#have < MESSAGE_HEADER ? 0 : this.#start.readUIntBE(1, 3));
  }
}

function readMessage(message: Buffer): ClientHello | undefined {
  try {
    return helloOf(new Reader(message));
  } catch (cause) {
    if (cause instanceof RangeError) return undefined;
    throw cause;
  }
}

function helloOf(reader: Reader): ClientHello {
  reader.take(FIXED);
  reader.vector(1); // session id
  reader.vector(2); // cipher suites
  reader.vector(1); // compression methods
  const extensions = reader.isAtEnd ? new Reader(Buffer.alloc(0)) : new Reader(reader.vector(2));
  let servername: string | undefined;
  let protocols: string[] = [];
  while (!extensions.isAtEnd) {
    const type = extensions.number(2);
    const content = new Reader(extensions.vector(2));
    if (type === SERVER_NAME) servername = nameOf(new Reader(content.vector(2)));
    if (type === ALPN) protocols = protocolsOf(new Reader(content.vector(2)));
  }
  return { servername, protocols };
}

function nameOf(names: Reader): string | undefined {
  while (!names.isAtEnd) {
    const type = names.number(1);
    const name = names.vector(2);
    if (type === HOST_NAME) return name.toString('latin1').toLowerCase();
  }
  return undefined;
}

function protocolsOf(list: Reader): string[] {
  const protocols: string[] = [];
  while (!list.isAtEnd) protocols.push(list.vector(1).toString('latin1'));
  return protocols;
}

/** Every method throws RangeError where the bytes end too soon. */
class Reader {
  readonly #bytes: Buffer;
  #position = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#position >= this.#bytes.length;
  }

  take(length: number): Buffer {
    const end = this.#position + length;
    if (end > this.#bytes.length) throw new RangeError('the hello ends too soon');
    const taken = this.#bytes.subarray(this.#position, end);
    this.#position = end;
    return taken;
  }

  number(bytes: number): number {
    return this.take(bytes).readUIntBE(0, bytes);
  }

  /** Its length in so many bytes, and then itself. */
  vector(lengthBytes: number): Buffer {
    return this.take(this.number(lengthBytes));
  }
}
