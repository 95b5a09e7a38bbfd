/** Which records are kept: a least level for each component, changed at run time. */
import { type Component, components, type LogLevel, logLevels } from '../core/record.ts';

export type Levels = Readonly<Record<Component, LogLevel>>;

const rank: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3 };
export const levelRank = (level: LogLevel): number => rank[level];

/** Any case, and `warning` for `warn`: as people and other loggers write it. */
export function levelNamed(text: string): LogLevel | undefined {
  const lower = text.toLowerCase();
  return logLevels.find((known) => known === (lower === 'warning' ? 'warn' : lower));
}

/** Audit records are never left out, so their component has no level to set. */
const ALWAYS_KEPT = 'audit' satisfies Component;
export const adjustableComponents = components.filter((component) => component !== ALWAYS_KEPT);
export type AdjustableComponent = Exclude<Component, typeof ALWAYS_KEPT>;

/** The same level for every component. */
export function levelsOf(level: LogLevel): Levels {
  return Object.fromEntries(components.map((component) => [component, level])) as Record<Component, LogLevel>;
}

export class LevelTable {
  readonly #least: Record<Component, number>;

  constructor(levels: Levels) {
    this.#least = Object.fromEntries(
      components.map((component) => [component, rank[levels[component]]]),
    ) as Record<Component, number>;
    this.#least[ALWAYS_KEPT] = rank.debug;
  }

  keeps(component: Component, level: LogLevel): boolean {
    return rank[level] >= this.#least[component];
  }

  set(component: AdjustableComponent, level: LogLevel): void {
    this.#least[component] = rank[level];
  }

  all(): Levels {
    const entries = components.map((component) => [component, logLevels[this.#least[component]]]);
    return Object.fromEntries(entries) as Record<Component, LogLevel>;
  }
}
