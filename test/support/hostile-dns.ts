/** A name server over UDP whose records are the test's, also such as no zone file can hold. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import {
  CLASS,
  HEADER_BYTES,
  type QueryType,
  readMessage,
  TYPE,
  writeRecord,
} from '../../src/certificates/dns/message.ts';

const RESPONSE = 0x8400;
const NAME_ERROR = 3;

export interface NameServer extends AsyncDisposable {
  /** As in `dns_resolvers`. */
  readonly address: string;
}

/** `records`: of a name and a type, as they stand in a message; undefined: there is no such name. */
export async function startNameServer(
  records: (name: string, type: QueryType | undefined) => Buffer[] | undefined,
): Promise<NameServer> {
  const socket = createSocket('udp4');
  socket.on('message', (bytes, { port, address }) => {
    const { question } = readMessage(bytes);
    if (!question) return;
    const type = (Object.keys(TYPE) as QueryType[]).find((name) => TYPE[name] === question.type);
    const found = records(question.name, type);
    // As it was asked, without what stands behind the question.
    const answer = Buffer.from(bytes.subarray(0, endOfQuestion(bytes)));
    answer.writeUInt16BE(RESPONSE | (found === undefined ? NAME_ERROR : 0), 2);
    answer.writeUInt16BE(found?.length ?? 0, 6);
    answer.writeUInt32BE(0, 8);
    const all = (found ?? []).map((rdata) =>
      writeRecord({ name: question.name, type: question.type, class: CLASS.IN, ttl: 0, rdata }),
    );
    socket.send(Buffer.concat([answer, ...all]), port, address);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return {
    address: `127.0.0.1:${socket.address().port}`,
    async [Symbol.asyncDispose]() {
      socket.close();
      await once(socket, 'close');
    },
  };
}

function endOfQuestion(bytes: Buffer): number {
  let at = HEADER_BYTES;
  while (bytes[at] !== 0) at += 1 + (bytes[at] ?? 0);
  return at + 1 + 4;
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc8659#section-4.1 | RFC 8659 §4.1} */
export const caaRecord = (tag: string, value: string): Buffer =>
  Buffer.concat([Buffer.of(0, tag.length), Buffer.from(tag), Buffer.from(value)]);

/** Any bytes are a name of the DNS. */
export function bytesAsName(text: string): Buffer {
  const bytes = Buffer.from(text).subarray(0, 180);
  const labels = [0, 60, 120].map((at) => bytes.subarray(at, at + 60)).filter(({ length }) => length > 0);
  return Buffer.concat([...labels.flatMap((label) => [Buffer.of(label.length), label]), Buffer.of(0)]);
}
