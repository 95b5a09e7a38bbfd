/** What a request tells where somebody captures it (`core/capture.ts`). Where nobody does, nothing of this is called. */
import type { CaptureTap, Recording } from '../core/capture.ts';
import { bytesIn } from './access-record.ts';
import { isHttp2Request } from './client.ts';
import type { Transit } from './transit.ts';

export function beginCapture(transit: Transit, captures: CaptureTap): void {
  transit.capture = captures.begin(transit);
}

/** For the body of the request; undefined: nobody wants to hear it. */
export function bodyTap({ capture }: Transit): ((chunk: Uint8Array) => void) | undefined {
  return capture?.hearsBodies ? (chunk) => capture.requestPart(chunk) : undefined;
}

export function endCapture(transit: Transit, capture: Recording): void {
  const { status, upstreamStatus, outcome, reason, traceId, bytesOut, request } = transit;
  const protocol = isHttp2Request(request) ? 'h2' : 'h1';
  const bytes = { bytesIn: bytesIn(transit), bytesOut };
  capture.ended({ status, upstreamStatus, outcome, reason, traceId, protocol, ...bytes });
}

/** Name, value, name, value; repeated fields repeated. */
export function flat(
  fields: Readonly<Record<string, string | number | readonly string[] | undefined>>,
): string[] {
  return Object.entries(fields).flatMap(([name, value]) => {
    if (value === undefined) return [];
    return Array.isArray(value) ? value.flatMap((one) => [name, String(one)]) : [name, String(value)];
  });
}
