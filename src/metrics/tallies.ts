/** Everything that is counted as it happens, from the first moment on. The composition root hands it to the parts as their meter. */
import type { EndedFacts, EndedRequest, Meter, OperationMeter, Served } from '../core/meter.ts';
import type { Told } from '../core/exchange.ts';
import { mcpMethods } from '../core/mcp-methods.ts';
import { catalog } from './catalog.ts';
import { type Family, family } from './family.ts';
import { RequestTallies, type RequestTalliesOptions } from './requests.ts';
import { OTHER, Tally, Timings } from './tally.ts';

/** Reasons of failed handshakes, and codes of errors: lists of others, which are known to be short. */
const MAX_CODES = 100;
const OK = 'OK';
/** Of MCP servers behind proxies, all together. */
const MAX_KNOWN_TOOLS = 1000;

type ToolCall = Parameters<Meter['toolCalled']>[1];
type Operated = Parameters<OperationMeter['operated']>[0];

export class Tallies implements Meter {
  readonly #requests: RequestTallies;
  readonly #handshakes = new Tally(MAX_CODES);
  readonly #failedHandshakes = new Tally(MAX_CODES);
  readonly #operations = new Tally();
  readonly #operationTimes = new Timings(catalog.ohp_operation_duration_seconds.bounds);
  readonly #mcp = new Tally();
  readonly #mcpTimes = new Timings(catalog.ohp_mcp_request_duration_seconds.bounds);
  readonly #tools = new Tally();
  readonly #toolTimes = new Timings(catalog.ohp_mcp_upstream_tool_duration_seconds.bounds);
  /** Of MCP servers behind proxies, those that have answered to: `proxy tool`. */
  readonly #known = new Set<string>();
  readonly #changes = new Tally();
  readonly #changeTimes = new Timings(catalog.ohp_store_change_duration_seconds.bounds);
  readonly #changeWaits = new Timings(catalog.ohp_store_change_wait_seconds.bounds);
  readonly #grants = new Tally(MAX_CODES);
  readonly #refusals = new Tally(MAX_CODES);

  constructor(options: RequestTalliesOptions) {
    this.#requests = new RequestTallies(options);
  }

  ended(request: EndedRequest, facts: EndedFacts): void {
    this.#requests.ended(request, facts);
    if (facts.told?.kind === 'mcp') this.#askedMcp(request, facts.told, facts.durationMs);
  }

  #askedMcp({ outcome, isEndless }: EndedRequest, told: Told, durationMs: number): void {
    const { method, era } = told.detail;
    const name = typeof method === 'string' && mcpMethods.has(method) ? method : OTHER;
    const kind = typeof era === 'string' ? era : OTHER;
    this.#mcp.add(name, kind, outcome === OK ? told.outcome : outcome);
    if (!isEndless) this.#mcpTimes.add(durationMs, name, kind);
  }

  /** A name that no target has answered to is a stranger's word. */
  toolCalled({ proxy }: Served, { tool, outcome, durationMs }: ToolCall): void {
    const { id, hostname } = proxy;
    const key = `${id} ${tool}`;
    if (outcome === OK && this.#known.size < MAX_KNOWN_TOOLS) this.#known.add(key);
    const name = this.#known.has(key) ? tool : OTHER;
    this.#tools.add(hostname, name, outcome);
    this.#toolTimes.add(durationMs, hostname, name);
  }

  shookHands(protocol: string, isResumed: boolean): void {
    this.#handshakes.add(protocol, String(isResumed));
  }

  handshakeFailed(code: string): void {
    this.#failedHandshakes.add(code);
  }

  operated({ operation, surface, outcome, durationMs }: Operated): void {
    this.#operations.add(operation, surface, outcome);
    this.#operationTimes.add(durationMs, operation, surface);
  }

  changed(isKept: boolean, waitedMs: number, tookMs: number): void {
    this.#changes.add(isKept ? 'committed' : 'rolled_back');
    this.#changeTimes.add(tookMs);
    this.#changeWaits.add(waitedMs);
  }

  granted(grantType: string): void {
    this.#grants.add(grantType);
  }

  refused(endpoint: string, code: string): void {
    this.#refusals.add(endpoint, code);
  }

  families(): Family[] {
    return [
      ...this.#requests.families(),
      family('ohp_tls_handshakes_total', this.#handshakes.points()),
      family('ohp_tls_handshake_failures_total', this.#failedHandshakes.points()),
      family('ohp_operations_total', this.#operations.points()),
      family('ohp_operation_duration_seconds', this.#operationTimes.points()),
      family('ohp_mcp_requests_total', this.#mcp.points()),
      family('ohp_mcp_request_duration_seconds', this.#mcpTimes.points()),
      family('ohp_mcp_upstream_tool_calls_total', this.#tools.points()),
      family('ohp_mcp_upstream_tool_duration_seconds', this.#toolTimes.points()),
      family('ohp_store_changes_total', this.#changes.points()),
      family('ohp_store_change_duration_seconds', this.#changeTimes.points()),
      family('ohp_store_change_wait_seconds', this.#changeWaits.points()),
      family('ohp_oauth_tokens_granted_total', this.#grants.points()),
      family('ohp_oauth_refusals_total', this.#refusals.points()),
    ];
  }
}
