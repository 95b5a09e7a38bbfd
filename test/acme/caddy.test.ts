/** The ACME client against Caddy's ACME server (smallstep), on the ports 80, 443 and 53 of a network of its own. */
import { after, before, suite } from 'node:test';
import { type CaddyCa, startCaddyCa, withoutCaddyCa } from '../support/caddy-ca.ts';
import { Applicant, type Responder, startResponder } from './applicant.ts';
import { certifies } from './real-ca.contract.ts';

suite('with Caddy', { skip: withoutCaddyCa }, () => {
  let responder: Responder;
  let caddy: CaddyCa;
  let applicant: Applicant;

  before(async () => {
    responder = await startResponder();
    caddy = await startCaddyCa(responder);
    applicant = new Applicant(caddy, responder);
  });

  after(async () => {
    await applicant[Symbol.asyncDispose]();
    await caddy[Symbol.asyncDispose]();
    await responder[Symbol.asyncDispose]();
  });

  certifies(async () => ({ applicant, rootPem: caddy.trustPem }));
});
