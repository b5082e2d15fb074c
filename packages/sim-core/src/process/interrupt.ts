/** Thrown into a process by `interrupt`, at the `yield` where it waits. */
export class Interrupt extends Error {
  override readonly name = 'Interrupt';
  /** Whatever the interrupter gave as its reason. */
  override readonly cause: unknown;
  /** The process that interrupted; undefined when none was at work. */
  readonly by: string | undefined;

  constructor(cause: unknown, by: string | undefined) {
    super(`interrupted by ${by === undefined ? 'no process' : `process '${by}'`}`);
    this.cause = cause;
    this.by = by;
  }
}
