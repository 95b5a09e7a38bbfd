/**
 * A request body on its way to whoever reads it. Counts, keeps the limit, asks the client for it when it waits for
 * `100 Continue`; and it can be given up without taking the client's connection with it, as destroying the request
 * itself would.
 */
import { Readable } from 'node:stream';
import { AppError } from '../core/errors.ts';
import { type ClientRequest, type ClientResponse, isHttp2Request } from './client.ts';

export interface ClientBodyOptions {
  readonly request: ClientRequest;
  readonly maxBytes: number;
  /** Set when the client waits for `100 Continue`: sent when the body is first asked for. */
  readonly continueOn?: ClientResponse | undefined;
  /** Is told each part. */
  readonly heard?: ((chunk: Uint8Array) => void) | undefined;
}

export class ClientBody extends Readable {
  readonly #request: ClientRequest;
  readonly #maxBytes: number;
  #continueOn: ClientResponse | undefined;
  #state: 'untouched' | 'reading' | 'over' = 'untouched';
  readonly #heard: ClientBodyOptions['heard'];
  #onBegin: (() => void) | undefined;
  bytes = 0;

  constructor({ request, maxBytes, continueOn, heard }: ClientBodyOptions) {
    super();
    this.#request = request;
    this.#maxBytes = maxBytes;
    this.#continueOn = continueOn;
    this.#heard = heard;
    // Who reads hears of an error by a listener of their own; when nobody does any more it concerns nobody.
    this.on('error', () => {});
  }

  override _read(): void {
    if (this.#state === 'over') return;
    if (this.#state === 'untouched') this.#begin();
    else this.#request.resume();
  }

  #begin(): void {
    this.#state = 'reading';
    const request = this.#request;
    request.on('data', this.#onData).on('end', this.#onEnd).on('error', this.#onError);
    request.on('close', this.#onClose);
    this.askClient();
  }

  /** Begins to read, and calls once when there is something to read, or never will be. */
  whenBegun(onBegin: () => void): void {
    this.#onBegin = onBegin;
    this.read(0);
  }

  #tellBegun(): void {
    const onBegin = this.#onBegin;
    this.#onBegin = undefined;
    onBegin?.();
  }

  /** Sends `100 Continue` if it is waited for. Once. */
  askClient(): void {
    const response = this.#continueOn;
    this.#continueOn = undefined;
    if (response && !response.headersSent) response.writeContinue();
  }

  readonly #onData = (chunk: Buffer): void => {
    this.bytes += chunk.length;
    if (this.bytes > this.#maxBytes) this.destroy(tooLarge(this.#maxBytes));
    else {
      this.#heard?.(chunk);
      if (!this.push(chunk)) this.#request.pause();
      this.#tellBegun();
    }
  };

  readonly #onEnd = (): void => {
    // A request over HTTP/2 also ends when its stream was reset.
    if (this.#request.aborted) this.destroy(new ClientGone());
    else this.#over(() => this.push(null));
  };

  readonly #onError = (cause: Error): void => void this.destroy(new ClientGone(cause));

  readonly #onClose = (): void => {
    if (this.#state === 'reading') this.destroy(new ClientGone());
  };

  #over(act: () => void): void {
    if (this.#state === 'over') return;
    this.#state = 'over';
    act();
    this.#tellBegun();
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this.#over(() => this.#letGo());
    callback(error);
  }

  /** What is still to come is read and thrown away, so that the client gets to read the reply. */
  #letGo(): void {
    const request = this.#request;
    request.off('data', this.#onData).off('end', this.#onEnd).off('close', this.#onClose);
    // The listener for errors stays: an error of a request that nobody listens to would end the process.
    if (!isHttp2Request(request) || !request.stream.destroyed) request.resume();
  }

  /** Nobody wants it any more. Safe at any time. */
  discard(): void {
    if (!this.destroyed) this.destroy();
  }
}

export class ClientGone extends Error {
  override readonly name = 'ClientGone';

  constructor(cause?: unknown) {
    super('the client went away in the middle of its request', { cause });
  }
}

export function tooLarge(maxBytes: number): AppError {
  return new AppError('TOO_LARGE', `the request body is larger than ${maxBytes} bytes`, {
    details: { max_bytes: maxBytes },
  });
}
