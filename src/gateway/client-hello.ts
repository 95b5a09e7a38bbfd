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

/** `incomplete`: more bytes are needed. Undefined: this is no ClientHello, or one that can't be read. */
export function readClientHello(bytes: Buffer): ClientHello | 'incomplete' | undefined {
  const message = messageOf(bytes);
  if (message === 'incomplete' || message === undefined) return message;
  try {
    return helloOf(new Reader(message));
  } catch (cause) {
    if (cause instanceof RangeError) return undefined;
    throw cause;
  }
}

/**
 * The first handshake message, put together from as many records as it came in. Every byte is copied once: it is called
 * anew with each packet, and a stranger may send records of one byte.
 */
function messageOf(bytes: Buffer): Buffer | 'incomplete' | undefined {
  const message = Buffer.alloc(bytes.length);
  let have = 0;
  let wanted = MESSAGE_HEADER;
  for (let at = 0; have < wanted; ) {
    if (at >= bytes.length) return 'incomplete';
    if (bytes[at] !== HANDSHAKE_RECORD) return undefined;
    if (at + RECORD_HEADER > bytes.length) return 'incomplete';
    const length = bytes.readUInt16BE(at + 3);
    if (length === 0 || length > MAX_HELLO_BYTES) return undefined;
    at += RECORD_HEADER;
    const copied = bytes.copy(message, have, at, at + length);
    have += copied;
    at += length;
    if (have > 0 && message[0] !== CLIENT_HELLO) return undefined;
    if (have >= MESSAGE_HEADER) wanted = MESSAGE_HEADER + message.readUIntBE(1, 3);
    if (wanted > MAX_HELLO_BYTES) return undefined;
    if (copied < length && have < wanted) return 'incomplete';
  }
  return message.subarray(MESSAGE_HEADER, wanted);
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
