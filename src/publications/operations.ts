/** One call for "run this image behind this hostname", and one that takes it all away. Called through `dispatch`. */
import { defineOperation } from '../core/operation.ts';
import { publicationSchema, publishInput, unpublishedSchema, unpublishInput } from './schema.ts';
import type { PublicationService } from './service.ts';

type Services = { publications: PublicationService };

export const publishService = defineOperation({
  name: 'publish_service',
  title: 'Run an app or image behind a hostname',
  description:
    'Runs an image behind a hostname in one call: pulls, starts, waits until it is healthy, makes its proxy, protection and certificate, and asks it through the public path; or leaves nothing behind. With dry_run it tells each step first.',
  permission: 'services:write',
  confinement: 'refused',
  effect: 'create',
  untrusted: true,
  mcp: 'searchable',
  task: true,
  toolset: 'services',
  http: { method: 'POST', path: '/v1/publications' },
  input: publishInput,
  output: publicationSchema,
  async handler(input, context, { publications }: Services) {
    const made = await publications.publish(input, context);
    if (made.id !== undefined) context.audit({ publication: made.id });
    return made;
  },
});

export const unpublishService = defineOperation({
  name: 'unpublish_service',
  title: 'Take back a published service',
  description:
    'Takes away what publish_service made, and nothing else: proxy, protection, certificate (deleted, not revoked) and container. What was cut off goes on when it is called again.',
  permission: 'services:write',
  confinement: 'refused',
  effect: 'delete',
  untrusted: true,
  mcp: 'searchable',
  toolset: 'services',
  http: { method: 'DELETE', path: '/v1/publications/{name}' },
  input: unpublishInput,
  output: unpublishedSchema,
  confirm: ({ name, delete_volumes, keep_service, dry_run }) =>
    dry_run
      ? undefined
      : [
          `Unpublish ${name}? Its hostname stops being served at once.`,
          !keep_service && 'Its container ends and is deleted.',
          delete_volumes && 'The volumes made for it, with all that is in them, are deleted for good.',
        ]
          .filter((sentence) => sentence !== false)
          .join(' '),
  handler: (input, context, { publications }: Services) => publications.unpublish(input, context),
});

export const publicationOperations = [publishService, unpublishService] as const;
