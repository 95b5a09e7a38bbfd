/** Port: where `dispatch` tells what was done. What is behind it, and what it promises, is in `audit/trail.ts`. */
import type { LogRecord } from './record.ts';

export interface AuditTrail {
  /**
   * Before something is changed or given out. Resolves when the record is on the disk.
   * @throws AppError UNAVAILABLE where it can't be: nothing may be done then.
   */
  begin(record: LogRecord): Promise<Begun>;
  /**
   * Of what changes nothing, to the log as well. Resolves when the record is in the hands of the system, where a kill
   * doesn't reach it, or counted as lost (after the end of the trail it is neither); what is told at the same moment is
   * written together.
   */
  tell(record: LogRecord): Promise<void>;
}

export interface Begun {
  /** What came of it. Resolves when that is on the disk, or counted as lost: it was done all the same. */
  end(record: LogRecord): Promise<void>;
}
