import { NS_PER_S, Streams } from '../src/index.ts';
import { Environment, Store, type ProcessSteps } from '../src/process/index.ts';

/**
 * One sender, first with one reader, then with two who each get every message. Shows stores as mailboxes, and how
 * a reader that is busy finds its messages late. After SimPy's "Process Communication".
 */

const END = 40 * NS_PER_S;

const seconds = (ns: number): string => `${String(ns / NS_PER_S).padStart(3)} s`;

interface Message {
  readonly sentNs: number;
  readonly text: string;
}

/** Puts every message into the mailbox of each reader. */
class Broadcast {
  readonly #env: Environment;
  readonly #boxes: Store<Message>[] = [];

  constructor(env: Environment) {
    this.#env = env;
  }

  box(): Store<Message> {
    const box = new Store<Message>(this.#env);
    this.#boxes.push(box);
    return box;
  }

  /** Happens when the message is in all boxes. */
  send(message: Message) {
    return this.#env.all(this.#boxes.map((box) => box.put(message)));
  }
}

function conversation(print: (line: string) => void, readers: number): void {
  const env = new Environment();
  const streams = new Streams('communication');
  const between = (name: string, low: number, high: number): (() => number) => {
    const stream = streams.stream(name);
    return () => (low + stream.below(high - low + 1)) * NS_PER_S;
  };
  const air = new Broadcast(env);

  function* sender(gapNs: () => number): ProcessSteps {
    for (let number = 1; ; number++) {
      yield gapNs();
      yield* air.send({ sentNs: env.nowNs, text: `message ${number}` });
    }
  }

  function* reader(name: string, box: Store<Message>, busyNs: () => number): ProcessSteps {
    for (;;) {
      const { sentNs, text } = yield* box.get();
      const late = sentNs < env.nowNs ? `, late: it was sent at${seconds(sentNs)}` : '';
      print(`${seconds(env.nowNs)}  ${name} reads ${text}${late}`);
      yield busyNs();
    }
  }

  env.process(sender(between('gaps', 6, 10)), 'sender');
  for (let number = 1; number <= readers; number++) {
    const name = `reader ${number}`;
    env.process(reader(name, air.box(), between(name, 4, 12)), name);
  }
  env.run({ untilNs: END });
}

export function run(print: (line: string) => void): void {
  print('One reader:');
  conversation(print, 1);
  print('Two readers:');
  conversation(print, 2);
}

if (import.meta.filename === process.argv[1]) run(console.log);
