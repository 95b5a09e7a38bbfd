/**
 * Indexes of what differs from row to row begin with the time's part of the day. Rows that arrive together then change
 * neighbouring pages: with traces alone in order, each row of a big day would write a page of its own. Who looks for one
 * value takes a step in each slot.
 */
import { DAY, MINUTE } from '../core/clock.ts';

const SLOT_MS = 15 * MINUTE;

/** The words are those of the indexes: SQLite takes them only where they are the same. */
export const SLOT = `time % ${DAY} / ${SLOT_MS}`;
export const IN_EACH_SLOT = `${SLOT} in (${[...Array(DAY / SLOT_MS).keys()].join(', ')})`;
