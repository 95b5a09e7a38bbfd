/** What is in the folder of the log: a file or two for each UTC day, by names that sort as time does. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

const FILE_NAME = /^(\d{4}-\d\d-\d\d)\.(?:sqlite(?:-wal|-shm|\.damaged)?|packed|packing)$/;
const READABLE = /^(\d{4}-\d\d-\d\d)\.(?:sqlite|packed)$/;

/** `2026-11-22`: names the file, and sorts as time does. */
export const dayOf = (time: number): string => new Date(time).toISOString().slice(0, 10);

/** A day as it is written, and as it is when it is over and compressed (packed.ts). */
export const pathOf = (directory: string, day: string): string => join(directory, `${day}.sqlite`);
export const packedPathOf = (directory: string, day: string): string => join(directory, `${day}.packed`);
/** Half of one or the other: of a process that was killed. */
export const packingPathOf = (directory: string, day: string): string => join(directory, `${day}.packing`);
/** Beside the days, so that nobody takes what is in it for one. */
export const unpackedFolderOf = (directory: string): string => join(directory, 'unpacked');

/** Days that have a file, oldest first, with all files of each. */
export function filesByDay(directory: string): Map<string, { name: string; bytes: number }[]> {
  const days = new Map<string, { name: string; bytes: number }[]>();
  for (const name of listFolder(directory).sort()) {
    const day = FILE_NAME.exec(name)?.[1];
    if (day === undefined) continue;
    const bytes = statSync(join(directory, name), { throwIfNoEntry: false })?.size ?? 0;
    days.set(day, [...(days.get(day) ?? []), { name, bytes }]);
  }
  return days;
}

/** Days that can be read, newest first. */
export function readableDays(directory: string): string[] {
  const days = listFolder(directory).flatMap((name) => READABLE.exec(name)?.[1] ?? []);
  return [...new Set(days)].sort().reverse();
}

function listFolder(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (cause) {
    // Nothing was ever logged here.
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw cause;
  }
}
