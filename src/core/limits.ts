/** Limits that more than one folder has to agree on. A limit of one folder is a constant there. */
const KIB = 1024;
const MIB = 1024 * KIB;

export const limits = {
  /** Body of a control-plane request (REST, MCP). */
  controlBodyBytes: MIB,
  /** Nesting of a JSON document from outside. */
  jsonDepth: 64,
  /**
   * Members and items of a JSON document from outside, and of the arguments of one call. Far more than any call takes;
   * of hundreds of thousands each would be looked at while all others wait.
   */
  jsonValues: 5_000,
  /** Members of one object and items of one list in such a document. */
  jsonItems: 1_000,
  /** Rows of one page of a list. */
  pageSize: 200,
  pageSizeDefault: 50,
  /** Characters of a result as JSON, at about four a token: of one that nobody asked to be longer, and of any. */
  resultCharactersDefault: 8_000,
  resultCharacters: 32_000,
  /** Characters of one string that a stranger wrote, in a result for a model. */
  untrustedText: 512,
  /** Characters of a free text argument (names, notes). */
  shortText: 200,
  /** Characters of the arguments kept in an audit record. */
  auditArguments: 2 * KIB,
  /** Characters of an idempotency key. */
  idempotencyKey: 128,
} as const;
