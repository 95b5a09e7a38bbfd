/** A step looks at a request, and may answer it: true ends the chain. */
import type { Transit } from '../transit.ts';

export type Step = (transit: Transit) => boolean;
