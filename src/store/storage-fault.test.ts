import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import test from 'node:test';
import { AppError } from '../core/errors.ts';
import { storageFault } from './storage-fault.ts';

const fault = (facts: object) => Object.assign(new Error('as the system says'), facts);

test('a fault of the disk says where, what, with which code, and what to do', () => {
  const cases: [code: string, message: RegExp][] = [
    ['ENOSPC', /^\/data: the disk is full \(ENOSPC: as the system says\); make room and start again$/],
    ['SQLITE_FULL', /the disk is full/],
    ['EROFS', /the file system is read-only .*; set OHP_DATA_DIR/],
    ['SQLITE_READONLY_DBMOVED', /the file system is read-only/],
    ['SQLITE_IOERR_WRITE', /the disk does not work/],
    ['SQLITE_NOTADB', /is damaged .*; restore it from a backup/],
  ];
  for (const [code, message] of cases) {
    const error = storageFault('/data', fault({ code })) ?? assert.fail(code);
    assert.equal(error.code, 'PRECONDITION_FAILED');
    assert.match(error.message, message);
    assert.ok(error.cause instanceof Error);
  }
});

test('what is no fault of the disk stays what it is', () => {
  for (const cause of [
    fault({}),
    fault({ code: 'ERR_INVALID_ARG_TYPE' }),
    fault({ code: 'SQLITE_CONSTRAINT_UNIQUE' }),
    fault({ code: 'EACCES', syscall: 'listen' }),
    new AppError('CONFLICT', 'told already'),
    'a text',
    undefined,
  ])
    assert.equal(storageFault('/data', cause), undefined);
});

test('errors of the file system are told by their codes', () => {
  assert.match(caught(() => readFileSync('/nowhere/at/all'))?.message ?? '', /nothing can be made there/);
  assert.match(caught(() => writeFileSync('/dev/null/x', ''))?.message ?? '', /something above it is a file/);
});

function caught(run: () => unknown): AppError | undefined {
  try {
    run();
  } catch (cause) {
    return storageFault('/data', cause);
  }
  return undefined;
}
