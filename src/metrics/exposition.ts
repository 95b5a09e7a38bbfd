/**
 * Families as text: Prometheus' own format, and OpenMetrics for who asks for it, which alone can carry exemplars.
 * @see {@link https://prometheus.io/docs/instrumenting/exposition_formats/ | Exposition formats}
 * @see {@link https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md | OpenMetrics 1.0.0}
 */
import { setImmediate as turn } from 'node:timers/promises';
import type { Exemplar, Family, HistogramPoint } from './family.ts';

export type Format = 'text' | 'openmetrics';

export const contentTypes: Readonly<Record<Format, string>> = {
  text: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
};

/** Points that are written before others get their turn: a few milliseconds, where each is a histogram. */
const POINTS_AT_ONCE = 50;
const MS_PER_SECOND = 1000;
const TOTAL = /_total$/;

/** Lets other work run in between, however much there is to write. */
export async function expose(families: Iterable<Family>, format: Format): Promise<string> {
  const parts: string[] = [];
  let written = 0;
  for (const family of families) {
    if (family.points.length === 0) continue;
    const writer = new FamilyWriter(family, format);
    parts.push(writer.head());
    for (const [place] of family.points.entries()) {
      parts.push(writer.point(place));
      if (++written % POINTS_AT_ONCE === 0) await turn();
    }
  }
  if (format === 'openmetrics') parts.push('# EOF\n');
  return parts.join('');
}

class FamilyWriter {
  readonly #family: Family;
  readonly #format: Format;
  /** For each of the labels, what stands before its value. */
  readonly #labels: readonly string[];

  constructor(family: Family, format: Format) {
    this.#family = family;
    this.#format = format;
    this.#labels = family.definition.labels.map((label) => `${label}="`);
  }

  /** A counter of OpenMetrics has `_total` in the name of its samples, and not in its own. */
  head(): string {
    const { name, definition } = this.#family;
    const shown =
      this.#format === 'openmetrics' && definition.type === 'counter' ? name.replace(TOTAL, '') : name;
    return `# HELP ${shown} ${escaped(definition.help)}\n# TYPE ${shown} ${definition.type}\n`;
  }

  point(place: number): string {
    const family = this.#family;
    if (family.definition.type === 'histogram')
      // The family says which points it has; the compiler does not follow that through `definition`.
      return this.#histogram(family.points[place] as HistogramPoint, family.definition.bounds);
    const { labels, value } = family.points[place] as { labels: readonly string[]; value: number };
    const set = this.#set(labels);
    return `${family.name}${set === '' ? '' : `{${set}}`} ${numberText(value)}\n`;
  }

  #histogram({ labels, buckets, count, sum, exemplars }: HistogramPoint, bounds: readonly number[]): string {
    const { name } = this.#family;
    const set = this.#set(labels);
    const before = set === '' ? '' : `${set},`;
    let text = '';
    let below = 0;
    for (const [place, inside] of buckets.entries()) {
      below += inside;
      const bound = bounds[place];
      const le = bound === undefined ? '+Inf' : this.#bound(bound);
      text += `${name}_bucket{${before}le="${le}"} ${below}${this.#exemplar(exemplars[place])}\n`;
    }
    const own = set === '' ? '' : `{${set}}`;
    return `${text}${name}_sum${own} ${numberText(sum)}\n${name}_count${own} ${count}\n`;
  }

  /** OpenMetrics wants each bound to be seen as a float. */
  #bound(bound: number): string {
    return this.#format === 'openmetrics' && Number.isInteger(bound) ? bound.toFixed(1) : String(bound);
  }

  #exemplar(exemplar: Exemplar | undefined): string {
    if (this.#format === 'text' || !exemplar) return '';
    const { traceId, value, at } = exemplar;
    return ` # {trace_id="${escaped(traceId)}"} ${numberText(value)} ${(at / MS_PER_SECOND).toFixed(3)}`;
  }

  #set(values: readonly string[]): string {
    return values.map((value, place) => `${this.#labels[place]}${escaped(value)}"`).join(',');
  }
}

const SPECIAL = /[\\\n"]/g;
const escaped = (text: string): string =>
  SPECIAL.test(text) ? text.replace(SPECIAL, (one) => (one === '\n' ? '\\n' : `\\${one}`)) : text;

function numberText(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value < 0 ? '-Inf' : '+Inf';
  return String(value);
}

const OPENMETRICS = /^application\/openmetrics-text$/;
const TEXT = /^(?:text\/plain|text\/\*|\*\/\*)$/;

/** What `Accept` asks for; text where it does not say. @see RFC 9110 §12.5.1 */
export function formatFor(accept: string | undefined): Format {
  let openMetrics = 0;
  let text = 0;
  for (const range of (accept ?? '').slice(0, MAX_ACCEPT).split(',')) {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    const quality = qualityOf(parameters);
    const version = parameters.find((one) => one.startsWith('version='))?.slice('version='.length);
    if (OPENMETRICS.test(type) && (version ?? '1.0.0').startsWith('1.'))
      openMetrics = Math.max(openMetrics, quality);
    else if (TEXT.test(type)) text = Math.max(text, quality);
  }
  return openMetrics > 0 && openMetrics >= text ? 'openmetrics' : 'text';
}

const MAX_ACCEPT = 1000;

function qualityOf(parameters: readonly string[]): number {
  const given = parameters.find((one) => one.startsWith('q='));
  const quality = given === undefined ? 1 : Number(given.slice('q='.length));
  return quality >= 0 && quality <= 1 ? quality : 0;
}
