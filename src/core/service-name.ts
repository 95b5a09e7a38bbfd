/** How a service is called. Its own file, because targets name services and know nothing else of them. */
import { z } from 'zod';

const MAX_NAME = 63;
const NAME = /^[a-z0-9][a-z0-9-]*[a-z0-9]$/;

/** A label of DNS: others in its networks find it by this name, whatever its container is called. */
export const serviceName = z
  .string()
  .max(MAX_NAME)
  .regex(NAME, 'has to be 2 to 63 lower-case letters, digits and -, with no - at an end');

export const isServiceName = (text: string): boolean => text.length <= MAX_NAME && NAME.test(text);

/** As ids of `newId('lbl')`: what a label of a container made. No service can have such a name. */
const LABEL_TARGET = /^lbl_[0-9a-f]{24}$/;

/** In a target: a service, or what a label made. */
export const isTargetName = (text: string): boolean => isServiceName(text) || LABEL_TARGET.test(text);
