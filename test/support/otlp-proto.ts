/**
 * A strict reader of the messages of OTLP, by the field numbers of the published schema: an unknown field, a wrong wire
 * type, a field that may be there once and is there twice, text that is not UTF-8, or bytes that end early are errors.
 * @see {@link https://github.com/open-telemetry/opentelemetry-proto/tree/v1.7.0/opentelemetry/proto | OTLP, .proto files}
 */
type Scalar =
  | 'string'
  | 'bytes'
  | 'bool'
  | 'uint'
  | 'int'
  | 'enum'
  | 'fixed64'
  | 'sfixed64'
  | 'fixed32'
  | 'double'
  | 'sint32';
type Field = readonly [name: string, type: Scalar | `.${string}`, more?: 'repeated' | 'oneof'];
type Schema = Readonly<Record<number, Field>>;

const keyValue: Field = ['attributes', '.KeyValue', 'repeated'];

const schemas: Readonly<Record<string, Schema>> = {
  // collector/trace/v1/trace_service.proto and its siblings
  traces: { 1: ['resourceSpans', '.ResourceSpans', 'repeated'] },
  logs: { 1: ['resourceLogs', '.ResourceLogs', 'repeated'] },
  metrics: { 1: ['resourceMetrics', '.ResourceMetrics', 'repeated'] },
  // common/v1/common.proto
  AnyValue: {
    1: ['string', 'string', 'oneof'],
    2: ['bool', 'bool', 'oneof'],
    3: ['int', 'int', 'oneof'],
    4: ['double', 'double', 'oneof'],
    5: ['array', '.ArrayValue', 'oneof'],
    6: ['kvlist', '.KeyValueList', 'oneof'],
    7: ['bytes', 'bytes', 'oneof'],
  },
  ArrayValue: { 1: ['values', '.AnyValue', 'repeated'] },
  KeyValueList: { 1: ['values', '.KeyValue', 'repeated'] },
  KeyValue: { 1: ['key', 'string'], 2: ['value', '.AnyValue'] },
  Scope: { 1: ['name', 'string'], 2: ['version', 'string'], 3: keyValue, 4: ['dropped', 'uint'] },
  // resource/v1/resource.proto
  Resource: { 1: keyValue, 2: ['dropped', 'uint'] },
  // trace/v1/trace.proto
  ResourceSpans: {
    1: ['resource', '.Resource'],
    2: ['scopes', '.ScopeSpans', 'repeated'],
    3: ['schemaUrl', 'string'],
  },
  ScopeSpans: { 1: ['scope', '.Scope'], 2: ['items', '.Span', 'repeated'], 3: ['schemaUrl', 'string'] },
  Span: {
    1: ['traceId', 'bytes'],
    2: ['spanId', 'bytes'],
    3: ['traceState', 'string'],
    4: ['parentSpanId', 'bytes'],
    5: ['name', 'string'],
    6: ['kind', 'enum'],
    7: ['startTime', 'fixed64'],
    8: ['endTime', 'fixed64'],
    9: keyValue,
    10: ['droppedAttributes', 'uint'],
    11: ['events', '.Event', 'repeated'],
    12: ['droppedEvents', 'uint'],
    13: ['links', '.Link', 'repeated'],
    14: ['droppedLinks', 'uint'],
    15: ['status', '.Status'],
    16: ['flags', 'fixed32'],
  },
  Event: { 1: ['time', 'fixed64'], 2: ['name', 'string'], 3: keyValue, 4: ['dropped', 'uint'] },
  Link: {
    1: ['traceId', 'bytes'],
    2: ['spanId', 'bytes'],
    3: ['traceState', 'string'],
    4: keyValue,
    5: ['dropped', 'uint'],
    6: ['flags', 'fixed32'],
  },
  Status: { 2: ['message', 'string'], 3: ['code', 'enum'] },
  // logs/v1/logs.proto
  ResourceLogs: {
    1: ['resource', '.Resource'],
    2: ['scopes', '.ScopeLogs', 'repeated'],
    3: ['schemaUrl', 'string'],
  },
  ScopeLogs: { 1: ['scope', '.Scope'], 2: ['items', '.LogRecord', 'repeated'], 3: ['schemaUrl', 'string'] },
  LogRecord: {
    1: ['time', 'fixed64'],
    2: ['severityNumber', 'enum'],
    3: ['severityText', 'string'],
    5: ['body', '.AnyValue'],
    6: keyValue,
    7: ['dropped', 'uint'],
    8: ['flags', 'fixed32'],
    9: ['traceId', 'bytes'],
    10: ['spanId', 'bytes'],
    11: ['observedTime', 'fixed64'],
    12: ['eventName', 'string'],
  },
  // metrics/v1/metrics.proto
  ResourceMetrics: {
    1: ['resource', '.Resource'],
    2: ['scopes', '.ScopeMetrics', 'repeated'],
    3: ['schemaUrl', 'string'],
  },
  ScopeMetrics: { 1: ['scope', '.Scope'], 2: ['items', '.Metric', 'repeated'], 3: ['schemaUrl', 'string'] },
  Metric: {
    1: ['name', 'string'],
    2: ['description', 'string'],
    3: ['unit', 'string'],
    5: ['gauge', '.Gauge', 'oneof'],
    7: ['sum', '.Sum', 'oneof'],
    9: ['histogram', '.Histogram', 'oneof'],
    12: ['metadata', '.KeyValue', 'repeated'],
  },
  Gauge: { 1: ['points', '.NumberPoint', 'repeated'] },
  Sum: { 1: ['points', '.NumberPoint', 'repeated'], 2: ['temporality', 'enum'], 3: ['isMonotonic', 'bool'] },
  Histogram: { 1: ['points', '.HistogramPoint', 'repeated'], 2: ['temporality', 'enum'] },
  NumberPoint: {
    2: ['startTime', 'fixed64'],
    3: ['time', 'fixed64'],
    4: ['double', 'double', 'oneof'],
    6: ['int', 'sfixed64', 'oneof'],
    7: keyValue,
    8: ['flags', 'uint'],
  },
  HistogramPoint: {
    2: ['startTime', 'fixed64'],
    3: ['time', 'fixed64'],
    4: ['count', 'fixed64'],
    5: ['sum', 'double'],
    6: ['bucketCounts', 'fixed64', 'repeated'],
    7: ['bounds', 'double', 'repeated'],
    9: keyValue,
    10: ['flags', 'uint'],
    11: ['min', 'double'],
    12: ['max', 'double'],
  },
};

const VARINT = 0;
const I64 = 1;
const LENGTH = 2;
const I32 = 5;
const wireTypes: Readonly<Record<Scalar, number>> = {
  string: LENGTH,
  bytes: LENGTH,
  bool: VARINT,
  uint: VARINT,
  int: VARINT,
  enum: VARINT,
  sint32: VARINT,
  fixed64: I64,
  sfixed64: I64,
  double: I64,
  fixed32: I32,
};
const MAX_VARINT_BYTES = 10;

// oxlint-disable-next-line typescript/no-explicit-any -- messages are looked into by tests, field by field
export type Message = Record<string, any>;

export const decode = (schema: 'traces' | 'logs' | 'metrics', bytes: Uint8Array): Message =>
  new Reader(Buffer.from(bytes)).message(schema);

class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  message(name: string): Message {
    const schema = schemas[name];
    if (!schema) throw new Error(`no schema ${name}`);
    const result: Message = {};
    for (const [, [field, , more]] of Object.entries(schema)) if (more === 'repeated') result[field] = [];
    const isChoice = Object.values(schema).some(([, , more]) => more === 'oneof');
    while (this.#at < this.#bytes.length) {
      const tag = Number(this.#varint());
      const field = schema[tag >>> 3];
      if (!field) throw new Error(`${name} has no field ${tag >>> 3}`);
      this.#read(result, { name, field, wire: tag & 7 });
    }
    const chosen = Object.values(schema).filter(([field, , more]) => more === 'oneof' && field in result);
    if (isChoice && chosen.length > 1)
      throw new Error(`${name} has several of ${chosen.map(([field]) => field).join(', ')}`);
    return result;
  }

  #read(result: Message, { name, field, wire }: { name: string; field: Field; wire: number }): void {
    const [key, type, more] = field;
    const isMessage = type.startsWith('.');
    const expected = isMessage ? LENGTH : wireTypes[type as Scalar];
    if (more === 'repeated' && !isMessage && wire === LENGTH) {
      const packed = new Reader(this.#take(Number(this.#varint())));
      while (packed.#at < packed.#bytes.length) result[key].push(packed.#scalar(type as Scalar));
      return;
    }
    if (wire !== expected) throw new Error(`${name}.${key} has wire type ${wire}, not ${expected}`);
    const value = isMessage
      ? new Reader(this.#take(Number(this.#varint()))).message(type.slice(1))
      : this.#scalar(type as Scalar);
    if (more === 'repeated') result[key].push(value);
    else if (key in result) throw new Error(`${name}.${key} is there twice`);
    else result[key] = value;
  }

  #scalar(type: Scalar): unknown {
    switch (type) {
      case 'string':
        return new TextDecoder('utf-8', { fatal: true }).decode(this.#take(Number(this.#varint())));
      case 'bytes':
        return this.#take(Number(this.#varint()));
      case 'bool':
        return this.#varint() !== 0n;
      case 'uint':
      case 'enum':
        return Number(this.#varint());
      case 'int':
      case 'sint32':
        return Number(BigInt.asIntN(64, this.#varint()));
      case 'fixed64':
        return this.#take(8).readBigUInt64LE();
      case 'sfixed64':
        return Number(this.#take(8).readBigInt64LE());
      case 'fixed32':
        return this.#take(4).readUInt32LE();
      case 'double':
        return this.#take(8).readDoubleLE();
    }
  }

  #take(length: number): Buffer {
    const end = this.#at + length;
    if (end > this.#bytes.length) throw new Error('the bytes end in the middle of a field');
    const part = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return part;
  }

  #varint(): bigint {
    let value = 0n;
    for (let i = 0; i < MAX_VARINT_BYTES; i++) {
      const byte = this.#take(1)[0] ?? 0;
      value |= BigInt(byte & 0x7f) << BigInt(7 * i);
      if (byte < 0x80) return value;
    }
    throw new Error('a varint has no end');
  }
}
