/**
 * Logs of a container as Docker sends them: frames of the two streams, or bytes as they are where there is a terminal.
 *
 * @see {@link https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerAttach | Stream format}
 */
import { StringDecoder } from 'node:string_decoder';
import { AppError } from '../core/errors.ts';
import type { LogLine } from './engine.ts';

const HEADER_BYTES = 8;
const LENGTH_AT = 4;
const STDERR = 2;
const STDIN = 0;
/** Characters; what is longer comes as several lines. */
const MAX_LINE = 16_384;

type Stream = LogLine['stream'];

export async function* logLines(
  chunks: AsyncIterable<Buffer>,
  { framed }: { framed: boolean },
): AsyncGenerator<LogLine> {
  const lines = { stdout: lineCutter('stdout'), stderr: lineCutter('stderr') };
  const parts = framed ? unframe(chunks) : asStdout(chunks);
  for await (const { stream, bytes } of parts) yield* lines[stream].add(bytes);
  yield* lines.stdout.end();
  yield* lines.stderr.end();
}

interface Part {
  stream: Stream;
  bytes: Buffer;
}

async function* asStdout(chunks: AsyncIterable<Buffer>): AsyncGenerator<Part> {
  for await (const bytes of chunks) yield { stream: 'stdout', bytes };
}

/** A frame is passed on as it comes, so that its length, which is what somebody says, takes no memory. */
async function* unframe(chunks: AsyncIterable<Buffer>): AsyncGenerator<Part> {
  let rest: Buffer = Buffer.alloc(0);
  let left = 0;
  let stream: Stream = 'stdout';
  for await (const chunk of chunks) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length > 0) {
      if (left === 0) {
        if (rest.length < HEADER_BYTES) break;
        stream = streamOf(rest);
        left = rest.readUInt32BE(LENGTH_AT);
        rest = rest.subarray(HEADER_BYTES);
      }
      const bytes = rest.subarray(0, left);
      left -= bytes.length;
      rest = rest.subarray(bytes.length);
      if (bytes.length > 0) yield { stream, bytes };
    }
  }
}

function streamOf(header: Buffer): Stream {
  const [kind = STDIN] = header;
  if (kind > STDERR || header.readUIntBE(1, 3) !== 0)
    throw new AppError(
      'UPSTREAM_FAILED',
      'the container engine sent logs in a form this system does not know',
    );
  return kind === STDERR ? 'stderr' : 'stdout';
}

const STAMP = /^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})) ?/;

function lineCutter(stream: Stream) {
  const decoder = new StringDecoder('utf8');
  let rest = '';
  const lineOf = (text: string): LogLine => {
    const stamp = STAMP.exec(text);
    const time = stamp?.[1] === undefined ? Number.NaN : Date.parse(stamp[1]);
    const words = stamp ? text.slice(stamp[0].length) : text;
    return { stream, ...(!Number.isNaN(time) && { time }), text: words.replace(/\r$/, '') };
  };
  return {
    *add(bytes: Buffer): Generator<LogLine> {
      rest += decoder.write(bytes);
      const lines = rest.split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) yield* pieces(line).map(lineOf);
      while (rest.length > MAX_LINE) {
        yield lineOf(rest.slice(0, MAX_LINE));
        rest = rest.slice(MAX_LINE);
      }
    },
    *end(): Generator<LogLine> {
      rest += decoder.end();
      if (rest !== '') yield lineOf(rest);
    },
  };
}

function pieces(line: string): string[] {
  if (line.length <= MAX_LINE) return [line];
  return Array.from({ length: Math.ceil(line.length / MAX_LINE) }, (_, index) =>
    line.slice(index * MAX_LINE, (index + 1) * MAX_LINE),
  );
}
