/**
 * Every metric: its name, what it means and what tells its series apart. `docs/generated/metrics.md` is written from this,
 * and the dashboard that ships may name nothing else. Names follow Prometheus: base units, `_total` for what only grows.
 * @see {@link https://prometheus.io/docs/practices/naming/ | Metric and label naming}
 */

/** Upper bounds in seconds. */
const REQUEST_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const;

interface Described {
  readonly help: string;
  readonly labels: readonly string[];
}
export type Definition = Described &
  (
    | { readonly type: 'counter' | 'gauge' }
    /** `bounds`: upper ones, rising; the last bucket has none. */
    | { readonly type: 'histogram'; readonly bounds: readonly number[] }
  );

const counter = (help: string, ...labels: string[]) => ({ type: 'counter', help, labels }) as const;
const gauge = (help: string, ...labels: string[]) => ({ type: 'gauge', help, labels }) as const;
const histogram = (help: string, bounds: readonly number[], ...labels: string[]) =>
  ({ type: 'histogram', help, bounds, labels }) as const;

export const catalog = {
  ohp_build_info: gauge('Always 1; which version this is', 'version'),
  ohp_http_requests_total: counter(
    'Requests that are over, by the proxy and route that served them, or by what of this system did',
    'host',
    'route',
    'kind',
    'method',
    'status',
  ),
  ohp_http_request_duration_seconds: histogram(
    'From the head of a request to the end of its reply; without tunnels and streams that only somebody ends',
    REQUEST_BOUNDS,
    'host',
    'route',
    'kind',
  ),
  ohp_http_request_bytes_total: counter('Bytes of request bodies', 'host', 'route', 'kind'),
  ohp_http_response_bytes_total: counter('Bytes of response bodies', 'host', 'route', 'kind'),
  ohp_http_errors_total: counter(
    'Requests that this system refused or could not serve, by error code',
    'code',
  ),
  ohp_http_requests_in_flight: gauge('Requests being answered, tunnels and event streams included'),
} as const satisfies Readonly<Record<string, Definition>>;

export type MetricName = keyof typeof catalog;
