/** How long what the authorization server gives out lives. Loads none of the library. */
import { HOUR, MINUTE, SECOND } from '../core/clock.ts';

const DAY = 24 * HOUR;
const seconds = (milliseconds: number): number => milliseconds / SECOND;

/** @see mcp.md §6.7: clients that refresh more often than hourly lose races. */
export const ACCESS_TOKEN_MS = HOUR;
const CODE_MS = MINUTE;
const REFRESH_TOKEN_MS = 30 * DAY;
export const SESSION_MS = 14 * DAY;
const GRANT_MS = 180 * DAY;
export const INTERACTION_MS = 10 * MINUTE;
const DEVICE_CODE_MS = 10 * MINUTE;

/** In seconds, by the library's names. */
export const lifetimes = {
  AccessToken: seconds(ACCESS_TOKEN_MS),
  AuthorizationCode: seconds(CODE_MS),
  ClientCredentials: seconds(ACCESS_TOKEN_MS),
  DeviceCode: seconds(DEVICE_CODE_MS),
  Grant: seconds(GRANT_MS),
  IdToken: seconds(HOUR),
  Interaction: seconds(INTERACTION_MS),
  RefreshToken: seconds(REFRESH_TOKEN_MS),
  Session: seconds(SESSION_MS),
};
