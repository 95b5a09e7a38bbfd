import { AppError } from '../core/errors.ts';
import { cleanText } from '../core/untrusted.ts';
import type { ContainerEngine } from './engine.ts';

/** @throws AppError UNAVAILABLE with how to connect one. */
export async function requireEngine({ engine }: { engine: Pick<ContainerEngine, 'ping'> }): Promise<void> {
  const state = await engine.ping();
  if (!state.connected) throw new AppError('UNAVAILABLE', cleanText(state.reason));
}
