/**
 * Whether what a rule looks at is told, with hysteresis: it has to be bad for a time before it begins and good for a time
 * before it ends, and what is between the two bounds changes nothing that has begun. Pure.
 */
export type Verdict =
  | 'bad'
  /** Between the bounds. */
  | 'between'
  | 'good'
  /** It could not be measured: everything stays as it is. */
  | 'unknown';

/** Of what is content there is none. `firing` and `clearing` are told, `pending` is not yet. */
export interface Standing {
  readonly phase: 'pending' | 'firing' | 'clearing';
  /** Milliseconds since 1970. */
  readonly since: number;
}

export interface Times {
  readonly forMs: number;
  readonly resolveAfterMs: number;
}

export function nextStanding(
  standing: Standing | undefined,
  verdict: Verdict,
  { forMs, resolveAfterMs }: Times,
  now: number,
): Standing | undefined {
  if (verdict === 'unknown') return standing;
  if (standing === undefined || standing.phase === 'pending') {
    if (verdict !== 'bad') return undefined;
    const since = standing?.since ?? now;
    return now - since >= forMs ? { phase: 'firing', since: now } : { phase: 'pending', since };
  }
  if (verdict !== 'good') return standing.phase === 'firing' ? standing : { phase: 'firing', since: now };
  const since = standing.phase === 'clearing' ? standing.since : now;
  return now - since >= resolveAfterMs ? undefined : { phase: 'clearing', since };
}

export const isTold = (standing: Standing | undefined): boolean =>
  standing !== undefined && standing.phase !== 'pending';
