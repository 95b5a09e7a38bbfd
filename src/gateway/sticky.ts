/**
 * Browsers that stay with one of several targets, by a cookie. It carries the mark of the target, a keyed digest, which
 * tells nothing of it and can name nothing but one of them. Nothing is remembered, so that it holds over a restart and
 * nobody can fill the memory.
 */
import { cookieLine, pairsIn } from '../core/site-cookies.ts';
import type { Sticky } from '../proxies/load-balancing.ts';
import { NONE } from './choose.ts';
import type { Plan } from './snapshot.ts';
import type { Transit } from './transit.ts';

/** Of base64url, six bits each: enough that nobody guesses one, and no id of a session ends like one by chance. */
export const MARK_LENGTH = 16;

/** Keyed digest of a text. */
export type Mark = (text: string) => string;

/** By what is written in the settings: the same when what answers there moves. */
export const markOf = (mark: Mark, proxyId: string, url: string): string =>
  mark(JSON.stringify(['target', proxyId, url])).slice(0, MARK_LENGTH);

/** Place of the target that the cookie names; `NONE` when it names none. Another of that name may be a sibling's. */
export function pinnedPlace(
  cookie: string | undefined,
  { cookie: name }: Sticky,
  marks: readonly string[],
): number {
  if (cookie === undefined || !cookie.includes(name)) return NONE;
  for (const [found, value] of pairsIn(cookie)) {
    const at = found === name && value !== '' ? marks.indexOf(value) : NONE;
    if (at !== NONE) return at;
  }
  return NONE;
}

/** Tells the browser who answered, where that is not the one it named. */
export function tellTarget(list: string[], transit: Transit, plan: Plan): void {
  const { balance } = plan;
  const sticky = balance?.group.sticky;
  if (!sticky || transit.isHeld) return;
  const at = balance.plans.indexOf(plan);
  if (at === transit.pinned) return;
  const mark = balance.group.marks[at] ?? '';
  list.push(
    'set-cookie',
    cookieLine(sticky.cookie, mark, sticky.max_age_seconds, transit.scheme === 'https'),
  );
}
