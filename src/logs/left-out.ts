/** Days that a question to the log had to do without, and how that is said. Pure. */

export interface LeftOut {
  /** As `dayOf` names it. */
  day: string;
  /** `no_room`: it is compressed, and the disk has no room for it as it was. */
  why: 'damaged' | 'no_room';
}

/** Of each kind; more are many. */
const MAX_NAMED = 5;

export function leftOutHints(leftOut: readonly LeftOut[] = []): string[] {
  const named = (wanted: LeftOut['why']): string => {
    const days = leftOut.filter(({ why }) => why === wanted).map(({ day }) => day);
    return days.length > MAX_NAMED
      ? `${days.slice(0, MAX_NAMED).join(', ')} and ${days.length - MAX_NAMED} more days`
      : days.join(', ');
  };
  const [damaged, noRoom] = [named('damaged'), named('no_room')];
  return [
    ...(damaged ? [`Without ${damaged}: the file is damaged; restore it from a backup, or delete it`] : []),
    ...(noRoom
      ? [`Without ${noRoom}: there is no room on the disk to unpack it; make room and ask again`]
      : []),
  ];
}
