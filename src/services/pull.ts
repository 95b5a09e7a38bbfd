/** An image on its way here, as progress: a line for each layer and each state of it. */
import { AppError } from '../core/errors.ts';
import type { OperationContext } from '../core/operation.ts';
import { cleanText } from '../core/untrusted.ts';
import type { ContainerEngine, PullProgress } from './engine.ts';

const MAX_WORD = 64;
const PERCENT = 100;
const STEP_PERCENT = 20;
/** Of one pull; a registry could say no end of them. */
const MAX_LAYERS = 1000;

/** When an image is fetched from its registry. */
export type PullMode = 'missing' | 'always' | 'never';

export interface Telling {
  tell: (message: string) => void;
  signal: AbortSignal;
}

/** One count for all that a call tells. */
export function tellingOf({ progress, signal }: Pick<OperationContext, 'progress' | 'signal'>): Telling {
  let step = 0;
  return { tell: (message) => progress?.({ progress: ++step, message }), signal };
}

/** @throws AppError as `pullImage` of the engine, CANCELLED. */
export async function pull(
  engine: Pick<ContainerEngine, 'pullImage'>,
  image: string,
  { tell, signal }: Telling,
): Promise<void> {
  const told = new Map<string, string>();
  for await (const found of engine.pullImage(image, { signal })) {
    const { layer = '' } = found;
    const { message, state } = lineOf(found);
    if (told.get(layer) === state || (!told.has(layer) && told.size >= MAX_LAYERS)) continue;
    told.set(layer, state);
    tell(message);
  }
  if (signal.aborted) throw new AppError('CANCELLED', 'the call was cancelled while the image came');
}

function lineOf({ layer, status, doneBytes, totalBytes }: PullProgress): { message: string; state: string } {
  const words = [layer && `layer ${cleanText(layer, MAX_WORD)}`, cleanText(status, MAX_WORD)];
  const what = words.filter((word) => word !== undefined && word !== '').join(': ');
  if (doneBytes === undefined || totalBytes === undefined || totalBytes <= 0)
    return { message: what, state: status };
  const percent = Math.min(PERCENT, Math.floor((doneBytes / totalBytes) * PERCENT));
  return {
    message: `${what} ${percent} % of ${totalBytes} bytes`,
    state: `${status} ${Math.floor(percent / STEP_PERCENT)}`,
  };
}

/** Pulls what is not here, or always; whether it may be used at all is the policy's to say, here and again when it is created. */
export async function ensureImage(
  engine: ContainerEngine,
  image: string,
  { mode, telling }: { mode: PullMode; telling: Telling },
): Promise<void> {
  if (mode === 'never') return;
  if (mode === 'missing' && (await isHere(engine, image))) return;
  await pull(engine, image, telling);
}

async function isHere(engine: ContainerEngine, image: string): Promise<boolean> {
  try {
    await engine.inspectImage(image);
    return true;
  } catch (cause) {
    if (cause instanceof AppError && cause.code === 'NOT_FOUND') return false;
    throw cause;
  }
}
