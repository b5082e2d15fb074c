import type { Environment } from './environment.ts';
import { Event } from './event.ts';
import { Line } from './line.ts';

/** An amount to be put into a container or got from it, and the event of that. */
export class ContainerClaim extends Event {
  readonly container: Container;
  readonly amount: number;

  /** Use `container.put` or `container.get`. */
  constructor(container: Container, amount: number) {
    super(container.env);
    this.container = container;
    this.amount = amount;
  }

  /** Stop waiting; false when the claim was met, or withdrawn, before. */
  withdraw(): boolean {
    return this.container.withdraw(this);
  }
}

/**
 * A level between zero and a capacity: fuel, money, bytes. Puts wait for room and gets for the amount; each of
 * the two lines is first come first, and nobody overtakes who waits for a larger amount.
 */
export class Container {
  readonly env: Environment;
  readonly name: string;
  readonly capacity: number;
  readonly #puts = new Line<ContainerClaim>();
  readonly #gets = new Line<ContainerClaim>();
  #level: number;

  /** @throws RangeError unless the capacity is positive and the level, 0 by default, is within it. */
  constructor(
    env: Environment,
    options: { readonly capacity?: number; readonly level?: number; readonly name?: string } = {},
  ) {
    this.env = env;
    this.name = options.name ?? 'container';
    this.capacity = options.capacity ?? Infinity;
    this.#level = options.level ?? 0;
    if (!(this.capacity > 0)) throw new RangeError(`${this.name} cannot have a capacity of ${this.capacity}`);
    if (!(this.#level >= 0 && this.#level <= this.capacity && this.#level < Infinity)) {
      throw new RangeError(`${this.name} cannot start at ${this.#level}; it holds 0 to ${this.capacity}`);
    }
  }

  get level(): number {
    return this.#level;
  }

  /** Claims that wait, of both sorts. */
  get waiting(): number {
    return this.#puts.length + this.#gets.length;
  }

  /** @throws RangeError unless the amount is positive and not above the capacity. */
  put(amount: number): ContainerClaim {
    return this.#claim(this.#puts, 'put', amount);
  }

  /** @throws RangeError unless the amount is positive and not above the capacity. */
  get(amount: number): ContainerClaim {
    return this.#claim(this.#gets, 'get', amount);
  }

  /** Take a claim out of its line; false when it is in none. */
  withdraw(claim: ContainerClaim): boolean {
    if (!this.#puts.remove(claim) && !this.#gets.remove(claim)) return false;
    this.#serve();
    return true;
  }

  #claim(line: Line<ContainerClaim>, verb: string, amount: number): ContainerClaim {
    if (!(amount > 0 && amount <= this.capacity && amount < Infinity)) {
      throw new RangeError(
        `cannot ${verb} ${amount} at ${this.env.nowNs} ns: ${this.name} holds 0 to ${this.capacity}`,
      );
    }
    const claim = new ContainerClaim(this, amount);
    line.push(claim);
    this.#serve();
    return claim;
  }

  /** A put that is met may let a get through, and the other way round. */
  #serve(): void {
    for (let met = true; met;) {
      met = false;
      while (this.#puts.length > 0 && this.#level + this.#puts.at(0).amount <= this.capacity) {
        this.#level += this.#puts.at(0).amount;
        this.#puts.shift().succeed();
        met = true;
      }
      while (this.#gets.length > 0 && this.#gets.at(0).amount <= this.#level) {
        this.#level -= this.#gets.at(0).amount;
        this.#gets.shift().succeed();
        met = true;
      }
    }
  }
}
