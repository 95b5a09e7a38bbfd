/**
 * What concerns the system as a whole: is it connected, is it well, what does it serve, and what does the machine
 * under it say. Not here: anything with a noun of its own. Called through `dispatch` by every surface.
 */
import { getDiagnostics } from './diagnostics.ts';
import { echo } from './echo.ts';
import { listEndpoints } from './endpoints.ts';
import { healthCheck } from './health.ts';
import { listCommands, runCommand } from './run-command.ts';

export const adminOperations = [
  echo,
  healthCheck,
  listEndpoints,
  getDiagnostics,
  listCommands,
  runCommand,
] as const;
