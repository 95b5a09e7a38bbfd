/**
 * Every metric: its name, what it means and what tells its series apart. `docs/generated/metrics.md` is written from this,
 * and the dashboard that ships may name nothing else. Names follow Prometheus: base units, `_total` for what only grows;
 * those of the process are the ones that other programs on Node have.
 * @see {@link https://prometheus.io/docs/practices/naming/ | Metric and label naming}
 */

/** Upper bounds in seconds. */
const requestBounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const changeBounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1];
const collectionBounds = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1];

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
  ohp_hosts: gauge('Hostnames and wildcards that are served'),
  ohp_snapshot_generation: gauge('Rises with every change of what is served'),

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
    requestBounds,
    'host',
    'route',
    'kind',
  ),
  ohp_http_request_bytes_total: counter('Bytes of request bodies', 'host', 'route', 'kind'),
  ohp_http_response_bytes_total: counter('Bytes of response bodies', 'host', 'route', 'kind'),
  ohp_http_errors_total: counter('Requests that were refused or could not be served, by error code', 'code'),
  ohp_http_requests_in_flight: gauge('Requests being answered, tunnels and event streams included'),
  ohp_connections_open: gauge('Open connections of clients'),
  ohp_connections_refused_total: counter('Connections turned away because there were too many'),

  ohp_tls_handshakes_total: counter('Handshakes that ended well', 'version', 'resumed'),
  ohp_tls_handshake_failures_total: counter('Handshakes that failed, by the code of the error', 'code'),
  ohp_certificates: gauge('Certificates that are kept', 'source'),
  ohp_certificate_expiry_timestamp_seconds: gauge(
    'When a certificate in use expires; the soonest 2,000',
    'certificate',
    'name',
    'source',
  ),
  ohp_certificate_soonest_expiry_timestamp_seconds: gauge(
    'When the first of all certificates in use expires',
  ),
  ohp_acme_orders: gauge('Orders of certificates that are kept, by state', 'state'),
  ohp_acme_next_attempt_timestamp_seconds: gauge('When the next open order has its turn'),
  ohp_acme_failures_total: counter('Attempts to get a certificate from a CA that failed'),
  ohp_certificates_ready_total: counter('Certificates that came, from any source'),

  ohp_upstream_connections: gauge('Open connections to an upstream, pooled ones', 'target'),
  ohp_upstream_connections_single: gauge(
    'Connections to an upstream for one request or tunnel each',
    'target',
  ),
  ohp_upstream_requests: gauge('Requests that an upstream has now', 'target'),
  ohp_upstream_requests_pending: gauge('Requests that wait for a connection to an upstream', 'target'),
  ohp_target_healthy: gauge('Of several targets of a proxy: whether it gets requests', 'host', 'target'),
  ohp_target_requests: gauge('Of several targets of a proxy: requests it has now', 'host', 'target'),

  ohp_mcp_sessions: gauge('Sessions of MCP in memory'),
  ohp_mcp_event_streams: gauge('Open event streams of MCP'),
  ohp_mcp_requests_total: counter('Messages to /mcp', 'method', 'era', 'outcome'),
  ohp_mcp_request_duration_seconds: histogram('Of messages to /mcp', requestBounds, 'method', 'era'),
  ohp_operations_total: counter(
    'Calls of operations; surface mcp: of tools',
    'operation',
    'surface',
    'outcome',
  ),
  ohp_operation_duration_seconds: histogram('Of calls of operations', requestBounds, 'operation', 'surface'),
  ohp_mcp_upstream_tool_calls_total: counter(
    'Calls of tools of MCP servers behind proxies that have rules for their tools',
    'host',
    'tool',
    'outcome',
  ),
  ohp_mcp_upstream_tool_duration_seconds: histogram(
    'Of the requests with these calls',
    requestBounds,
    'host',
    'tool',
  ),

  ohp_oauth_grants: gauge('Grants of users to clients that are alive'),
  ohp_oauth_tokens_granted_total: counter('Answers of the token endpoint with tokens', 'grant_type'),
  ohp_oauth_refusals_total: counter('Refusals of the authorization server', 'endpoint', 'code'),

  ohp_store_changes_total: counter('Changes of the store', 'outcome'),
  ohp_store_change_duration_seconds: histogram('Of a change, with its commit', changeBounds),
  ohp_store_change_wait_seconds: histogram('How long a change waited for those before it', changeBounds),
  ohp_store_bytes: gauge('Size of the files of the store', 'file'),

  ohp_log_records_written_total: counter('Records of the log that are in their file'),
  ohp_log_records_dropped_total: counter('Records of the log that were lost'),
  ohp_log_records_queued: gauge('Records of the log that wait for the writer'),
  ohp_alerts_active: gauge('Alerts that are raised and not resolved', 'source'),

  ohp_metrics_source_up: gauge('Whether a part could tell its numbers in time', 'source'),

  process_start_time_seconds: gauge('When the process began'),
  process_cpu_seconds_total: counter('Time on a processor'),
  process_cpu_user_seconds_total: counter('Time on a processor in the program'),
  process_cpu_system_seconds_total: counter('Time on a processor in the system'),
  process_resident_memory_bytes: gauge('Memory that the process has'),
  process_open_fds: gauge('Open files and sockets'),
  process_max_fds: gauge('How many there may be'),
  nodejs_heap_size_used_bytes: gauge('Of the heap of JavaScript, used'),
  nodejs_heap_size_total_bytes: gauge('Of the heap of JavaScript'),
  nodejs_external_memory_bytes: gauge('Memory of Node outside of that heap'),
  nodejs_eventloop_lag_mean_seconds: gauge('Delay of the event loop over the last one to two minutes'),
  nodejs_eventloop_lag_p50_seconds: gauge('Half of all turns waited less'),
  nodejs_eventloop_lag_p90_seconds: gauge('Of ten turns, nine waited less'),
  nodejs_eventloop_lag_p99_seconds: gauge('Of a hundred turns, 99 waited less'),
  nodejs_eventloop_lag_max_seconds: gauge('The longest of them'),
  nodejs_gc_duration_seconds: histogram('Of collections of garbage', collectionBounds, 'kind'),
} as const satisfies Readonly<Record<string, Definition>>;

export type MetricName = keyof typeof catalog;
