import type { Environment } from './environment.ts';
import { Line } from './line.ts';
import type { Process } from './process.ts';
import { Request, type RequestOptions } from './request.ts';

/** Why a holder was interrupted: the `cause` of its `Interrupt`. */
export class Preempted {
  readonly resource: Resource;
  /** Who has the place now. */
  readonly by: Process<unknown> | undefined;
  /** Since when the interrupted process had held it. */
  readonly sinceNs: number;

  constructor(resource: Resource, by: Process<unknown> | undefined, sinceNs: number) {
    this.resource = resource;
    this.by = by;
    this.sinceNs = sinceNs;
  }
}

/**
 * A number of places, and a line of those who ask for one. Served by priority, then first come first; nobody
 * overtakes the first in line. A preempting request that is first in line and finds all places held takes that of
 * the last holder in the same order, if that one comes after it.
 */
export class Resource {
  readonly env: Environment;
  readonly name: string;
  readonly capacity: number;
  readonly #holders = new Set<Request>();
  readonly #line = new Line<Request>();
  #requests = 0;

  /** @throws RangeError unless the capacity is a whole number of at least one. */
  constructor(env: Environment, options: { readonly capacity: number; readonly name?: string }) {
    this.env = env;
    this.name = options.name ?? 'resource';
    this.capacity = options.capacity;
    if (!Number.isSafeInteger(this.capacity) || this.capacity < 1) {
      throw new RangeError(`${this.name} cannot have ${this.capacity} places; wanted a whole number from 1`);
    }
  }

  /** Places that are held. */
  get held(): number {
    return this.#holders.size;
  }

  /** Requests in line. */
  get waiting(): number {
    return this.#line.length;
  }

  /** The holders, the longest first. */
  get holders(): readonly Request[] {
    return [...this.#holders];
  }

  /** The line, first to be served first. */
  get line(): readonly Request[] {
    return [...this.#line];
  }

  request(options: RequestOptions = {}): Request {
    const request = new Request(this, this.#requests++, options);
    this.#line.insert(this.#ahead(request), request);
    this.#serve();
    return request;
  }

  heldBy(request: Request): boolean {
    return this.#holders.has(request);
  }

  /**
   * Give a place back, at once.
   * @throws Error when the request does not hold one: `request.leave()` does not mind.
   */
  release(request: Request): void {
    if (!this.#holders.delete(request)) {
      throw new Error(
        `cannot release ${this.name} at ${this.env.nowNs} ns: the request does not hold one of its places ` +
          `(${this.held} of ${this.capacity} held, ${this.waiting} waiting)`,
      );
    }
    this.#serve();
  }

  /** Take a request out of the line; false when it is not in it. */
  withdraw(request: Request): boolean {
    const index = this.#ahead(request);
    if (index === this.#line.length || this.#line.at(index) !== request) return false;
    this.#line.take(index);
    // The next one may be one that preempts.
    this.#serve();
    return true;
  }

  #serve(): void {
    while (this.#line.length > 0) {
      const first = this.#line.at(0);
      if (this.#holders.size === this.capacity && !this.#preempt(first)) return;
      this.#line.shift();
      this.#holders.add(first);
      first.grantedNs = this.env.nowNs;
      first.succeed();
    }
  }

  /** Free a place for a request; false when it has to wait. */
  #preempt(request: Request): boolean {
    if (!request.preempt) return false;
    let last: Request | undefined;
    for (const holder of this.#holders) {
      // One that cannot be interrupted cannot be told, so it keeps its place.
      if (holder.owner?.alive !== true || holder.owner === this.env.activeProcess) continue;
      if (last === undefined || last.precedes(holder)) last = holder;
    }
    if (last === undefined || !request.precedes(last)) return false;
    this.#holders.delete(last);
    last.owner!.interrupt(new Preempted(this, request.owner, last.grantedNs!));
    return true;
  }

  /** How many in line are served before a request. */
  #ahead(request: Request): number {
    let low = 0;
    let high = this.#line.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#line.at(middle).precedes(request)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
