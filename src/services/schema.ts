/**
 * What a service is: a container that the engine of this machine knows. Texts are cleaned, because whoever made the
 * image or the container wrote them. Labels, environments and commands are left out: they hold secrets.
 */
import { z } from 'zod';
import { nextCursorField, timestamp } from '../core/collection.ts';

export const portSchema = z.object({
  container_port: z.int(),
  protocol: z.string(),
  host_address: z.string().optional(),
  host_port: z.int().optional(),
});

export const serviceSchema = z.object({
  id: z.string(),
  name: z.string(),
  image: z.string(),
  state: z.string(),
  status: z.string(),
  ports: z.array(portSchema),
  created_at: timestamp,
});
export type Service = z.output<typeof serviceSchema>;

export const serviceListSchema = z.object({ services: z.array(serviceSchema), next_cursor: nextCursorField });
export type ServiceList = z.output<typeof serviceListSchema>;
