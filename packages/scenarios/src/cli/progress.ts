import type { Progress } from '../experiment/compare.ts';

const EVERY_MS = 100;
const PLAIN_EVERY_MS = 5_000;

/**
 * Progress on standard error: one line that renews itself on a terminal, a plain line every five seconds
 * elsewhere; nothing in the first two seconds, nothing when quiet.
 */
export function progressPrinter(quiet: boolean): { update(progress: Progress): void; done(): void } {
  const started = performance.now();
  const terminal = process.stderr.isTTY === true && process.env['CI'] === undefined;
  let last = terminal ? started - EVERY_MS + 2_000 : started - PLAIN_EVERY_MS + 2_000;
  let shown = false;
  return {
    update({ what, share }) {
      const now = performance.now();
      if (quiet || now - last < (terminal ? EVERY_MS : PLAIN_EVERY_MS)) return;
      last = now;
      shown = true;
      const seconds = ((now - started) / 1000).toFixed(0);
      const line = `${String(Math.floor(share * 100)).padStart(3)} %  ${what}  (${seconds} s)`;
      process.stderr.write(terminal ? `\r\x1b[K${line}` : `${line}\n`);
    },
    done() {
      if (shown && terminal) process.stderr.write('\r\x1b[K');
    },
  };
}
