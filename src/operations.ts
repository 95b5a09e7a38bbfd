/** Everything that can be done, as one flat list. Every surface is derived from it; a noun adds its own line. */
import { adminOperations } from './admin/operations.ts';
import { auditOperations } from './audit/operations.ts';
import { alertOperations } from './alerts/operations.ts';
import { captureOperations } from './captures/operations.ts';
import { certificateOperations } from './certificates/operations.ts';
import { connectorOperations } from './connectors/operations.ts';
import { logsOperations } from './logs/operations.ts';
import { oauthOperations } from './oauth/operations.ts';
import { proposalOperations } from './proposals/operations.ts';
import { publicationOperations } from './publications/operations.ts';
import { protectionOperations } from './protection/operations.ts';
import { proxyOperations } from './proxies/operations.ts';
import { routeOperations } from './routes/operations.ts';
import { serviceOperations } from './services/operations.ts';
import { tokenOperations } from './tokens/operations.ts';
import { userOperations } from './users/operations.ts';

export const operations = [
  ...proxyOperations,
  ...protectionOperations,
  ...routeOperations,
  ...certificateOperations,
  ...tokenOperations,
  ...userOperations,
  ...oauthOperations,
  ...connectorOperations,
  ...serviceOperations,
  ...publicationOperations,
  ...proposalOperations,
  ...logsOperations,
  ...captureOperations,
  ...auditOperations,
  ...alertOperations,
  ...adminOperations,
] as const;
