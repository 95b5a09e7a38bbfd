/** What the SDK gives in batches, on its way to the collector: serialised, sent, and counted whatever becomes of it. */
import type { ISerializer } from '@opentelemetry/otlp-transformer';
import type { Sender } from './sender.ts';
import type { Signal, SignalCounts } from './settings.ts';

/** @see {@link https://opentelemetry.io/docs/specs/otlp/#partial-success | OTLP, Partial Success} */
interface Reply {
  readonly partialSuccess?: {
    readonly rejectedSpans?: number;
    readonly rejectedLogRecords?: number;
    readonly rejectedDataPoints?: number;
  };
}

export interface ExporterParts<Batch> {
  readonly signal: Signal;
  readonly serializer: ISerializer<Batch, Reply>;
  /** How many items a batch has. */
  readonly sizeOf: (batch: Batch) => number;
  readonly sender: Sender;
  readonly counts: SignalCounts;
  /** A batch has arrived: what the collector says against it, if anything. */
  readonly heard: (problem: string | undefined) => void;
}

/** As span exporters, log record exporters and metric exporters of the SDK are, by shape. */
export class Exporter<Batch> {
  readonly #parts: ExporterParts<Batch>;
  readonly #underWay = new Set<Promise<void>>();

  constructor(parts: ExporterParts<Batch>) {
    this.#parts = parts;
  }

  /** Always well, for the SDK: what became of it is in the counts, and is told from there. */
  export(batch: Batch, done: (result: { code: 0 }) => void): void {
    const sending = this.#send(batch).finally(() => {
      this.#underWay.delete(sending);
      done({ code: 0 });
    });
    this.#underWay.add(sending);
  }

  async #send(batch: Batch): Promise<void> {
    const { sizeOf, counts } = this.#parts;
    const size = sizeOf(batch);
    const rejected = Math.min(size, await this.#rejectedOf(batch, size));
    counts.queued -= size;
    counts.sent += size - rejected;
    counts.lost += rejected;
  }

  async #rejectedOf(batch: Batch, size: number): Promise<number> {
    const { signal, serializer, sender, heard } = this.#parts;
    try {
      const body = serializer.serializeRequest(batch);
      const sent = body && (await sender.send(signal, body));
      if (!sent?.ok) return size;
      const rejected = rejectedIn(serializer, sent.reply);
      heard(rejected > 0 ? `the collector did not take ${rejected} of ${size}` : undefined);
      return rejected;
    } catch {
      heard('what was recorded could not be written'); // By the serializer, whose words may hold what it was given.
      return size;
    }
  }

  async forceFlush(): Promise<void> {
    await Promise.all(this.#underWay);
  }

  /** The SDK waits for what it gives at the end, and not for what it gave before. */
  shutdown(): Promise<void> {
    return this.forceFlush();
  }
}

/** An answer that can't be read is one without complaints: it came with status 200. */
function rejectedIn<Batch>(serializer: ISerializer<Batch, Reply>, reply: Uint8Array): number {
  try {
    const { partialSuccess: part } = serializer.deserializeResponse(reply);
    return part?.rejectedSpans ?? part?.rejectedLogRecords ?? part?.rejectedDataPoints ?? 0;
  } catch {
    return 0;
  }
}
