import { NS_PER_S } from '../src/index.ts';
import { Environment, Store, type ProcessSteps, type StoreGet } from '../src/process/index.ts';

/**
 * A cable that delivers what is sent into it after a while. Shows how a store and one process per message keep
 * the latency out of both ends. After SimPy's "Event Latency".
 */

const LATENCY = 10 * NS_PER_S;
const SEND_GAP = 5 * NS_PER_S;
const END = 50 * NS_PER_S;

const seconds = (ns: number): string => `${String(ns / NS_PER_S).padStart(2)} s`;

class Cable<T> {
  readonly #env: Environment;
  readonly delayNs: number;
  readonly #arrived: Store<T>;

  constructor(env: Environment, delayNs: number) {
    this.#env = env;
    this.delayNs = delayNs;
    this.#arrived = new Store<T>(env, { name: 'cable' });
  }

  /** Returns at once: the sender does not wait for the message to arrive. */
  send(message: T): void {
    this.#env.process(this.#travel(message), 'message');
  }

  receive(): StoreGet<T> {
    return this.#arrived.get();
  }

  *#travel(message: T): ProcessSteps {
    yield this.delayNs;
    yield* this.#arrived.put(message);
  }
}

export function run(print: (line: string) => void): void {
  const env = new Environment();
  const cable = new Cable<number>(env, LATENCY);

  function* sender(): ProcessSteps {
    for (;;) {
      yield SEND_GAP;
      cable.send(env.nowNs);
    }
  }

  function* receiver(): ProcessSteps {
    for (;;) {
      const sentNs = yield* cable.receive();
      print(`${seconds(env.nowNs)}  received what was sent at ${seconds(sentNs)}`);
    }
  }

  env.process(sender(), 'sender');
  env.process(receiver(), 'receiver');
  env.run({ untilNs: END });
}

if (import.meta.filename === process.argv[1]) run(console.log);
