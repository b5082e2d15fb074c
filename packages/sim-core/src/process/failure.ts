/**
 * An error together with where it happened first. Whoever waits for a failed event catches the error itself; a
 * failure that nobody waits for is thrown out of `run`.
 */
export class Failure extends Error {
  override readonly name = 'Failure';
  /** What was thrown, or given to `fail`. */
  override readonly cause: Error;
  readonly atNs: number;
  /** The process that threw it, or that was at work when the event failed. */
  readonly processName: string | undefined;

  constructor(subject: string, atNs: number, processName: string | undefined, cause: Error) {
    super(`${subject} failed at ${atNs} ns: ${cause.message}`);
    this.cause = cause;
    this.atNs = atNs;
    this.processName = processName;
  }
}

/** Whatever was thrown, as an error. */
export function errorOf(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(`threw ${String(thrown)}`, { cause: thrown });
}
