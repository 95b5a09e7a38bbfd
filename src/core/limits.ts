/** Limits that more than one folder has to agree on. A limit of one folder is a constant there. */
const KIB = 1024;
const MIB = 1024 * KIB;

export const limits = {
  /** Body of a control-plane request (REST, MCP). */
  controlBodyBytes: 4 * MIB,
  /** Nesting of a JSON document from outside. */
  jsonDepth: 64,
  /** Rows of one page of a list. */
  pageSize: 200,
  pageSizeDefault: 50,
  /** Characters of one string that a stranger wrote, in a result for a model. */
  untrustedText: 512,
  /** Characters of a free text argument (names, notes). */
  shortText: 200,
  /** Characters of the arguments kept in an audit record. */
  auditArguments: 2 * KIB,
  /** Characters of an idempotency key. */
  idempotencyKey: 128,
} as const;
