/// <reference lib="esnext.disposable" preserve="true" />
import { Event } from './event.ts';
import type { Process } from './process.ts';
import type { Resource } from './resource.ts';

export interface RequestOptions {
  /** Lower is served first. */
  readonly priority?: number;
  /** Take the place of a holder who comes later in the order, if all places are held. */
  readonly preempt?: boolean;
}

/**
 * A claim to one place of a resource, and the event of getting it. Whoever makes it gives it up: with
 * `using request = resource.request()`, or with `request.leave()` in a `finally`.
 */
export class Request extends Event {
  readonly resource: Resource;
  /** The process that asked. */
  readonly owner: Process<unknown> | undefined;
  readonly priority: number;
  readonly preempt: boolean;
  /** Counts the requests of a resource: the last word in their order. */
  readonly sequence: number;
  readonly askedNs: number;
  /** Undefined as long as it waits. */
  grantedNs: number | undefined = undefined;

  /** Use `resource.request`. */
  constructor(resource: Resource, sequence: number, options: RequestOptions) {
    super(resource.env);
    this.resource = resource;
    this.owner = resource.env.activeProcess;
    this.priority = options.priority ?? 0;
    this.preempt = options.preempt ?? false;
    this.sequence = sequence;
    this.askedNs = resource.env.nowNs;
    if (Number.isNaN(this.priority)) throw new RangeError(`a request of ${resource.name} has priority NaN`);
  }

  /** Be served before `other`: by priority, then time, then those that preempt, then sequence. */
  precedes(other: Request): boolean {
    if (this.priority !== other.priority) return this.priority < other.priority;
    if (this.askedNs !== other.askedNs) return this.askedNs < other.askedNs;
    if (this.preempt !== other.preempt) return this.preempt;
    return this.sequence < other.sequence;
  }

  /** Give the place back, or stop waiting for it; nothing to do after either, or after being preempted. */
  leave(): void {
    if (this.resource.heldBy(this)) this.resource.release(this);
    else this.resource.withdraw(this);
  }

  [Symbol.dispose](): void {
    this.leave();
  }
}
