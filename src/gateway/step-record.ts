import { writeDebug } from '../core/record.ts';
import type { Step } from './steps/step.ts';
import type { Transit } from './transit.ts';

/** Which step answered, and what was found out by then: for whoever asks why a request went where it went. */
export function tellStep(transit: Transit, step: Step): void {
  writeDebug(transit.core, 'gateway', () => {
    const { traceId, kind, hostname, method, path, match, isLocal, connection, principal } = transit;
    return {
      message: `${step.name} answers`,
      trace_id: traceId,
      hostname: hostname === '' ? undefined : hostname,
      method,
      path: path === '' ? undefined : path,
      client_address: transit.clientAddress,
      principal: principal.id,
      detail: {
        kind,
        is_local: isLocal,
        tls_name: connection.servername,
        proxy: match?.proxy.id,
        route: match?.route?.id,
        auth: match?.auth.kind,
        target: match?.targetUrl,
      },
    };
  });
}
