/**
 * Text as UTF-8, at most `bytesMax` bytes and never half a character; lone surrogates become U+FFFD (RFC 3629).
 * Written out because TextEncoder belongs to hosts, not to the language.
 */
export function utf8(text: string, bytesMax = Infinity): Uint8Array {
  const bytes = new Uint8Array(Math.min(bytesMax, text.length * 3));
  let length = 0;
  for (const character of text) {
    const point = character.codePointAt(0)!;
    const code = point >= 0xd800 && point <= 0xdfff ? 0xfffd : point;
    const width = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    if (length + width > bytes.length) break;
    if (width === 1) bytes[length] = code;
    else {
      bytes[length] = ((0xf00 >> width) & 0xff) | (code >>> (6 * (width - 1)));
      for (let i = 1; i < width; i++) bytes[length + i] = 0x80 | ((code >>> (6 * (width - 1 - i))) & 0x3f);
    }
    length += width;
  }
  return bytes.subarray(0, length);
}
