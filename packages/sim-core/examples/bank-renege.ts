import { exponential, NS_PER_S, Streams, uniform } from '../src/index.ts';
import { Environment, Resource, type ProcessSteps } from '../src/process/index.ts';

/**
 * A bank with one counter and impatient customers. Shows a resource, and a condition that is either being served
 * or running out of patience. After SimPy's "Bank Renege".
 */

const MINUTE = 60 * NS_PER_S;
const CUSTOMERS = 5;
const ARRIVAL_GAP_MEAN = 10 * MINUTE;
const SERVICE_MEAN = 12 * MINUTE;
const PATIENCE_MIN = 1 * MINUTE;
const PATIENCE_MAX = 3 * MINUTE;

const minutes = (ns: number): string => (ns / MINUTE).toFixed(2);

export function run(print: (line: string) => void): void {
  const env = new Environment();
  const streams = new Streams('bank');
  const arrivals = streams.stream('arrivals');
  const services = streams.stream('services');
  const patiences = streams.stream('patience');
  const counter = new Resource(env, { capacity: 1, name: 'counter' });
  const say = (who: string, what: string): void =>
    print(`${minutes(env.nowNs).padStart(6)} min  ${who}  ${what}`);

  function* customer(name: string): ProcessSteps {
    const arrivedNs = env.nowNs;
    say(name, 'enters the bank');
    // Leaves the line, or the counter, at the end of this function, however it ends.
    using turn = counter.request();
    const patienceNs = Math.round(uniform(patiences, PATIENCE_MIN, PATIENCE_MAX));
    const happened = yield* env.any([turn, env.timeout(patienceNs)]);
    const waited = minutes(env.nowNs - arrivedNs);
    if (!happened.has(turn)) {
      say(name, `gives up after ${waited} min`);
      return;
    }
    say(name, `is served after ${waited} min`);
    yield Math.round(exponential(services, SERVICE_MEAN));
    say(name, 'is done');
  }

  function* source(): ProcessSteps {
    for (let number = 1; number <= CUSTOMERS; number++) {
      const name = `customer ${number}`;
      env.process(customer(name), name);
      yield Math.round(exponential(arrivals, ARRIVAL_GAP_MEAN));
    }
  }

  env.process(source(), 'source');
  env.run();
}

if (import.meta.filename === process.argv[1]) run(console.log);
