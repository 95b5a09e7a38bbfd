/** As much XML as the answers of Route 53 have: elements without attributes, found by name, and text. */

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
const MAX_CODE_POINT = 0x10ffff;

/** What is inside of each element of this name, in order. None of them stands in one of its own name. */
export function elementsIn(xml: string, name: string): string[] {
  const inside: string[] = [];
  const [open, close] = [`<${name}>`, `</${name}>`];
  for (let at = xml.indexOf(open); at >= 0; ) {
    const end = xml.indexOf(close, at);
    if (end < 0) break;
    inside.push(xml.slice(at + open.length, end));
    at = xml.indexOf(open, end);
  }
  return inside;
}

export function textIn(xml: string, name: string): string | undefined {
  const [inside] = elementsIn(xml, name);
  return inside?.replace(/&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|(\w{2,4}));/g, unescape);
}

function unescape(entity: string, decimal?: string, hex?: string, name?: string): string {
  if (name !== undefined) return ENTITIES[name] ?? entity;
  const code = decimal === undefined ? Number.parseInt(hex ?? '', 16) : Number(decimal);
  return code > MAX_CODE_POINT ? entity : String.fromCodePoint(code);
}

export const escapeXml = (text: string): string =>
  text.replace(/[<>&"']/g, (character) => `&#${character.charCodeAt(0)};`);
