import type { SMTPServerOptions } from 'smtp-server';

/** Of a mail server: keeps each mail as it came, head and body. */
export const keptIn =
  (mails: string[]): NonNullable<SMTPServerOptions['onData']> =>
  (stream, _session, done) => {
    let raw = '';
    stream.on('data', (part: Buffer) => (raw += String(part)));
    stream.once('end', () => {
      mails.push(raw);
      done();
    });
  };
