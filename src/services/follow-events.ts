/** The events of an engine for as long as somebody wants them, whatever becomes of the connection. */
import { pause, SECOND, type Clock } from '../core/clock.ts';
import type { ContainerEngine, EngineEvent } from './engine.ts';

/** Events that can be had for so long are not refused; until then they are asked for less and less often. */
export const STEADY_MS = 2 * SECOND;

export interface Follower {
  seen(event: EngineEvent): void;
  /** They can be had again. */
  heard(): void;
  lost(cause: unknown): void;
  /** Until they are asked for again, in milliseconds. */
  backOff(): number;
  /** Nobody knows what happened until now: everything is to be looked at. A new stream begins before that. */
  afterGap(): void;
}

/** Until it is aborted. Who begins it looks at everything after that: no moment is left out. Never rejects. */
export async function followEvents(
  { engine, clock }: { engine: Pick<ContainerEngine, 'events'>; clock: Clock },
  follower: Follower,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const steady = clock.after(STEADY_MS, () => follower.heard());
    try {
      for await (const event of engine.events({ since: clock.now(), signal })) follower.seen(event);
      if (!signal.aborted) follower.lost(new Error('its events ended'));
    } catch (cause) {
      if (!signal.aborted) follower.lost(cause);
    } finally {
      steady.cancel();
    }
    if (signal.aborted) return;
    await pause(clock, follower.backOff(), signal);
    if (!signal.aborted) follower.afterGap();
  }
}
