/** Limits of what is read of the traffic of an MCP server that has rules for its tools. */
const KIB = 1024;
const MIB = 1024 * KIB;

export const toolLimits = {
  /** Body of a request: as much as the SDK's own servers take. A smaller `max_body_bytes` of the proxy counts. */
  bodyBytes: 4 * MIB,
  /** Nesting, and members and items in all, of such a body. */
  jsonDepth: 64,
  jsonValues: 100_000,
  /** Messages of one batch. */
  batch: 50,
  /** One event of a stream, and one list of tools: they are looked at whole before any of it passes. */
  eventBytes: 8 * MIB,
  listBytes: 8 * MIB,
  /** Tools of a list, or of all lists of one batch: each is held against up to 200 rules. */
  listTools: 10_000,
  /** Of a reply to a call, for what the audit record says of it; a longer one is known by its status. */
  outcomeBytes: 64 * KIB,
  /** Characters of a session id of the target, and of one with its mark. */
  sessionId: 1024,
  /** Of arguments in an audit record: characters of a string, members of an object or list, nesting. */
  shownString: 200,
  shownMembers: 30,
  shownDepth: 6,
} as const;
