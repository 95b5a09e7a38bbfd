/** What clients draw beside the server and its tools: one glyph for each noun. */
import type { Toolset } from '../../core/operation.ts';

/** As the SDK's `Icon`, which wants its members mutable. */
export interface Icon {
  src: string;
  mimeType: string;
  sizes: string[];
}

/** A data URI, because an icon has to come from the server's own origin or from itself. @see MCP 2026-07-28, Icons */
function iconOf(path: string): Icon {
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="#36c" stroke-width="2"><path d="${path}"/></svg>`;
  const src = `data:image/svg+xml;base64,${Buffer.from(svg).toString('base64')}`;
  return { src, mimeType: 'image/svg+xml', sizes: ['any'] };
}

export const serverIcon: Icon = iconOf('M4 4v16M8 12h12m-5-5 5 5-5 5');

export const toolsetIcons: Readonly<Record<Toolset, Icon>> = {
  proxies: iconOf('M4 6h16v12H4zM4 10h16'),
  routes: iconOf('M4 12h6l4-6h6M10 12l4 6h6'),
  certificates: iconOf('M6 11h12v9H6zM9 11V7a3 3 0 0 1 6 0v4'),
  tokens: iconOf('M12 12h9v4M4 12a4 4 0 1 0 8 0 4 4 0 1 0-8 0'),
  access: iconOf('M8 8a4 4 0 1 0 8 0 4 4 0 1 0-8 0M4 20c0-8 16-8 16 0'),
  services: iconOf('M4 4h16v6H4zM4 14h16v6H4z'),
  logs: iconOf('M5 6h14M5 12h14M5 18h9'),
  alerts: iconOf('M12 4l9 16H3zM12 10v5M12 17v1'),
  system: iconOf('M4 5h16v14H4zM8 9l3 3-3 3M13 15h3'),
};
