/**
 * Every error that this system reports to a caller. `code` is the contract; `message` is prose that says what to
 * do next and may change. One table maps a code onto every surface; no surface has a table of its own.
 *
 * The JSON-RPC number is the protocol's own where it has one, else the HTTP status: numbers from -32768 to -32000 are
 * not for applications (JSON-RPC 2.0 §5.1; MCP 2026-07-28, Base Protocol, Error Codes).
 */
export const errorSurface = {
  INVALID_INPUT: {
    status: 400,
    jsonrpc: -32602,
    exit: 2,
    meaning: 'An argument is missing, unknown or not acceptable.',
  },
  UNAUTHENTICATED: {
    status: 401,
    jsonrpc: 401,
    exit: 3,
    meaning: 'No credential, or one that is not (or no longer) valid.',
  },
  FORBIDDEN: {
    status: 403,
    jsonrpc: 403,
    exit: 3,
    meaning: 'The caller is known but lacks the permission.',
  },
  NOT_FOUND: {
    status: 404,
    jsonrpc: -32602,
    exit: 4,
    meaning: 'It does not exist, or the caller may not know that it does.',
  },
  CONFLICT: {
    status: 409,
    jsonrpc: 409,
    exit: 5,
    meaning: 'It exists already, or the same idempotency key came with other arguments.',
  },
  PRECONDITION_FAILED: {
    status: 412,
    jsonrpc: 412,
    exit: 5,
    meaning: 'It changed since it was read, or the change cannot be served.',
  },
  TOO_LARGE: {
    status: 413,
    jsonrpc: 413,
    exit: 2,
    meaning: 'More was sent than the limit named in the message.',
  },
  CONFIRMATION_REQUIRED: {
    status: 428,
    jsonrpc: 428,
    exit: 5,
    meaning: 'A person has to confirm this exact call first, or declined it.',
  },
  RATE_LIMITED: {
    status: 429,
    jsonrpc: 429,
    exit: 6,
    meaning: 'Too many calls; the message says when to try again.',
  },
  CANCELLED: { status: 499, jsonrpc: 499, exit: 130, meaning: 'The caller went away or cancelled.' },
  INTERNAL: {
    status: 500,
    jsonrpc: -32603,
    exit: 1,
    meaning: 'A fault of this system; the trace id finds it in the log.',
  },
  UPSTREAM_FAILED: {
    status: 502,
    jsonrpc: 502,
    exit: 6,
    meaning: 'Something this system depends on for the call answered wrongly.',
  },
  UNAVAILABLE: {
    status: 503,
    jsonrpc: 503,
    exit: 6,
    meaning: 'Something this system depends on for the call is away.',
  },
  TIMEOUT: {
    status: 504,
    jsonrpc: 504,
    exit: 6,
    meaning: 'It took longer than the limit; whether it took effect is said in the message.',
  },
} as const satisfies Record<string, { status: number; jsonrpc: number; exit: number; meaning: string }>;

export type ErrorCode = keyof typeof errorSurface;

/** Of what came from outside; a name that every object has is none of ours. */
export const isErrorCode = (text: unknown): text is ErrorCode =>
  typeof text === 'string' && Object.hasOwn(errorSurface, text);

export class AppError extends Error {
  override readonly name = 'AppError';
  readonly code: ErrorCode;
  /** Facts for a program, never secrets: which argument, what is allowed, when to retry. */
  readonly details: Readonly<Record<string, unknown>> | undefined;
  /** The message has words of strangers in it, whatever the code: of a registry, a container, a zone. */
  readonly isQuoting: boolean;

  /** `isQuoting` absent: as the cause, whose words are mostly told again. */
  constructor(code: ErrorCode, message: string, options: AppErrorOptions = {}) {
    const { cause, details, isQuoting } = options;
    super(message, 'cause' in options ? { cause } : undefined);
    this.code = code;
    this.details = details;
    this.isQuoting = isQuoting ?? (cause instanceof AppError && cause.isQuoting);
  }
}

export interface AppErrorOptions {
  cause?: unknown;
  details?: Record<string, unknown>;
  isQuoting?: boolean | undefined;
}

/** What is not an `AppError` is a fault of ours: generic outside, the cause kept for the log. */
export function toAppError(cause: unknown): AppError {
  if (cause instanceof AppError) return cause;
  return new AppError('INTERNAL', 'internal error; the trace id finds it in the log', { cause });
}

/** A message for a log, from anything that was thrown. */
export function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
