/** Credentials for registries, for the engine alone: those of the very registry that an image is of. */
import { readFile } from 'node:fs/promises';
import { AppError } from '../core/errors.ts';
import { parseImageReference } from './image-reference.ts';
import type { Policy } from './policy.ts';

/** Value of `X-Registry-Auth`; undefined where the settings have nothing for the registry. */
export type RegistryAuth = (reference: string) => Promise<string | undefined>;

/**
 * @see {@link https://docs.docker.com/reference/api/engine/#section/Authentication | Docker Engine API, Authentication}
 * @throws AppError PRECONDITION_FAILED when the file can't be read: without it somebody else's image could come.
 */
export function createRegistryAuth({ registries }: Pick<Policy, 'registries'>): RegistryAuth {
  return async (reference) => {
    const host = parseImageReference(reference)?.registry;
    if (host === undefined || !Object.hasOwn(registries, host)) return undefined;
    const { username = '', password_file: file = '' } = registries[host] ?? {};
    const password = await passwordIn(host, file);
    const fields = JSON.stringify({ username, password, serveraddress: host });
    // With padding, which older engines ask for.
    return Buffer.from(fields).toString('base64').replaceAll('+', '-').replaceAll('/', '_');
  };
}

async function passwordIn(host: string, file: string): Promise<string> {
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (cause) {
    throw new AppError(
      'PRECONDITION_FAILED',
      `the password for the registry ${host} (services.registries, password_file) can't be read`,
      { cause },
    );
  }
}
