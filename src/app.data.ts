/**
 * The folder of what is kept, and the key that opens it: what a start needs before all else. Loads little, so that
 * `src/main.ts` refuses a folder or a key that can't be used before it has loaded the rest.
 */
import type { Config } from './config/config.ts';
import { loadMasterKey } from './config/secrets.ts';
import { type DataDirectory, openDataDirectory } from './store/data-directory.ts';
import { storageFault } from './store/storage-fault.ts';

export interface Data extends Disposable {
  readonly directory: DataDirectory;
  readonly masterKey: Buffer;
}

/** @throws AppError CONFLICT when another process has the data directory, PRECONDITION_FAILED when it can't be used. */
export function openData({ data_dir, master_key }: Config): Data {
  const directory = openDataDirectory(data_dir);
  try {
    const { path: dataDir, hasState: dataExists } = directory;
    const masterKey = loadMasterKey({ dataDir, masterKey: master_key, dataExists });
    return { directory, masterKey, [Symbol.dispose]: () => directory[Symbol.dispose]() };
  } catch (cause) {
    directory[Symbol.dispose]();
    throw storageFault(data_dir, cause) ?? cause;
  }
}
