/**
 * Requests, errors and durations (RED) by host and route. Series are of what is configured, never of what a stranger
 * wrote: a name that nobody serves counts as `other`. A request costs one look-up and a few additions.
 */
import type { EndedFacts, EndedRequest, Served } from '../core/meter.ts';
import { catalog } from './catalog.ts';
import { family, type Family } from './family.ts';
import { Histogram } from './histogram.ts';

/** Host, route and kind together. Beyond it everything new counts as `other`, whoever it was for. */
export const MAX_REQUEST_SERIES = 5000;
/** Error codes are a list of ours; who else says one is not believed for ever. */
const MAX_CODES = 50;
const OTHER = 'other';
const REFUSED = 'refused';

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', OTHER] as const;
const methodPlace = new Map<string, number>(METHODS.map((method, place) => [method, place]));
const OTHER_METHOD = METHODS.length - 1;
/** `none`: the client was gone before anything was answered. */
const STATUSES = ['none', '1xx', '2xx', '3xx', '4xx', '5xx'] as const;
const STATUS_CLASS = 100;
const MS_PER_SECOND = 1000;

export interface RequestTalliesOptions {
  readonly controlHosts: ReadonlySet<string>;
  /** Whether a proxy or route of this id is set up now. */
  readonly isKnown: (id: string) => boolean;
  /** Changes whenever `isKnown` may. */
  readonly generation: () => number;
}

class Series {
  /** Ids of what it is about; without them it is about this system. */
  readonly ids: readonly string[];
  readonly labels: readonly string[];
  readonly durations = new Histogram(catalog.ohp_http_request_duration_seconds.bounds);
  /** By method and class of status. */
  readonly counts: number[] = Array.from({ length: METHODS.length * STATUSES.length }, () => 0);
  bytesIn = 0;
  bytesOut = 0;

  constructor(ids: readonly string[], labels: readonly string[]) {
    this.ids = ids;
    this.labels = labels;
  }

  *totals(): Generator<{ labels: string[]; value: number }> {
    for (const [place, value] of this.counts.entries()) {
      if (value === 0) continue;
      const method = METHODS[Math.floor(place / STATUSES.length)] ?? OTHER;
      const status = STATUSES[place % STATUSES.length] ?? STATUSES[0];
      yield { labels: [...this.labels, method, status], value };
    }
  }
}

export class RequestTallies {
  readonly #options: RequestTalliesOptions;
  readonly #series = new Map<string, Series>();
  /** By kind, what the same `Match` has had before. */
  readonly #known = new WeakMap<Served, Map<string, Series>>();
  readonly #codes = new Map<string, number>();
  #sweptAt = -1;

  constructor(options: RequestTalliesOptions) {
    this.#options = options;
  }

  ended(request: EndedRequest, { endedAt, durationMs, bytesIn }: Omit<EndedFacts, 'told'>): void {
    const series = this.#seriesOf(request);
    const method = methodPlace.get(request.method) ?? OTHER_METHOD;
    const status = Math.floor(request.status / STATUS_CLASS);
    const place = method * STATUSES.length + (status < STATUSES.length ? status : 0);
    series.counts[place] = (series.counts[place] ?? 0) + 1;
    series.bytesIn += bytesIn;
    series.bytesOut += request.bytesOut;
    const seconds = durationMs / MS_PER_SECOND;
    if (!request.isEndless) series.durations.observeTraced(seconds, request.traceId, endedAt);
    if (request.outcome !== 'OK') this.#countCode(request.outcome);
  }

  families(): Family[] {
    this.#sweep();
    const all = [...this.#series.values()];
    return [
      family(
        'ohp_http_requests_total',
        all.flatMap((series) => [...series.totals()]),
      ),
      family(
        'ohp_http_request_duration_seconds',
        all.map(({ durations, labels }) => durations.point(labels)),
      ),
      family(
        'ohp_http_request_bytes_total',
        all.map(({ labels, bytesIn: value }) => ({ labels, value })),
      ),
      family(
        'ohp_http_response_bytes_total',
        all.map(({ labels, bytesOut: value }) => ({ labels, value })),
      ),
      family(
        'ohp_http_errors_total',
        [...this.#codes].map(([code, value]) => ({ labels: [code], value })),
      ),
    ];
  }

  #seriesOf({ match, kind = REFUSED, hostname }: EndedRequest): Series {
    if (!match) return this.#ofSystem(this.#options.controlHosts.has(hostname) ? hostname : OTHER, kind);
    const known = this.#known.get(match);
    const found = known?.get(kind);
    if (found) return found;
    const series = this.#ofMatch(match, kind);
    if (known) known.set(kind, series);
    else this.#known.set(match, new Map([[kind, series]]));
    return series;
  }

  #ofSystem(host: string, kind: string): Series {
    const key = `${host} ${kind}`;
    return this.#series.get(key) ?? this.#add(key, new Series([], [host, '', kind]));
  }

  #ofMatch({ proxy, route }: Served, kind: string): Series {
    const key = `${proxy.id} ${route?.id ?? ''} ${kind}`;
    const known = this.#series.get(key);
    if (known) return known;
    const ids = route ? [proxy.id, route.id] : [proxy.id];
    // It began before what served it was taken away.
    if (!ids.every(this.#options.isKnown) || !this.#hasRoom()) return this.#ofSystem(OTHER, kind);
    return this.#add(key, new Series(ids, [proxy.hostname, route?.id ?? '', kind]));
  }

  #add(key: string, series: Series): Series {
    this.#series.set(key, series);
    return series;
  }

  #hasRoom(): boolean {
    if (this.#series.size >= MAX_REQUEST_SERIES) this.#sweep();
    return this.#series.size < MAX_REQUEST_SERIES;
  }

  /** What is no longer set up has no series. */
  #sweep(): void {
    const generation = this.#options.generation();
    if (generation === this.#sweptAt) return;
    this.#sweptAt = generation;
    for (const [key, { ids }] of this.#series)
      if (!ids.every(this.#options.isKnown)) this.#series.delete(key);
  }

  #countCode(code: string): void {
    const counted = this.#codes.get(code);
    if (counted === undefined && this.#codes.size >= MAX_CODES) return;
    this.#codes.set(code, (counted ?? 0) + 1);
  }
}
