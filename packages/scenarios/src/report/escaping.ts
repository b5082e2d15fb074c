/**
 * Names, notes and messages come from other people's clusters. Each kind of output has one way to make such
 * text inert; all of them first make what cannot be seen visible.
 */

/**
 * Control characters, line separators, lone surrogates and marks that reorder or hide text as `\x1b`, `\u202e`;
 * all else unchanged.
 */
export function escapeTerminal(text: string): string {
  let shown = '';
  for (const character of text) {
    const code = character.codePointAt(0)!;
    if (!isHidden(code)) shown += character;
    else if (code < 256) shown += `\\x${code.toString(16).padStart(2, '0')}`;
    else shown += `\\u${code.toString(16).padStart(4, '0')}`;
  }
  return shown;
}

/** For element text and quoted attributes of HTML and SVG. */
export function escapeXml(text: string): string {
  return escapeTerminal(text)
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');
}

/** For running text and table cells of Markdown. */
export function escapeMarkdown(text: string): string {
  return escapeTerminal(text)
    .replaceAll(/[\\`*_[\]|~#]/g, String.raw`\$&`)
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('://', ':&#47;&#47;')
    .replace(/^(\s*)([-+=])/, String.raw`$1\$2`)
    .replace(/^(\s*\d+)([.)])(?=\s|$)/, String.raw`$1\$2`);
}

/** A field of RFC 4180; text that a spreadsheet would run as a formula gets a leading apostrophe. */
export function escapeCsv(text: string): string {
  const shown = /^[\t\r]/.test(text) ? `'${escapeTerminal(text)}` : escapeTerminal(text);
  const inert = /^\s*[=+\-@]/.test(shown) ? `'${shown}` : shown;
  return /[",\r\n]/.test(inert) ? `"${inert.replaceAll('"', '""')}"` : inert;
}

function isHidden(code: number): boolean {
  return (
    code < 0x20 ||
    (code >= 0x7f && code <= 0x9f) ||
    code === 0xad ||
    (code >= 0x200b && code <= 0x200f) ||
    (code >= 0x2028 && code <= 0x202e) ||
    (code >= 0x2060 && code <= 0x206f) ||
    (code >= 0xd800 && code <= 0xdfff) ||
    code === 0xfeff ||
    code >= 0xe0000 ||
    (code & 0xfffe) === 0xfffe
  );
}
