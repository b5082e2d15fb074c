import { NS_PER_S, Streams } from '../src/index.ts';
import { Environment, Resource, type ProcessSteps } from '../src/process/index.ts';

/**
 * A car wash with two machines and more cars than that. Shows waiting for a resource, and one process that runs
 * the steps of another object. After SimPy's "Carwash".
 */

const MINUTE = 60 * NS_PER_S;
const MACHINES = 2;
const WASH = 5 * MINUTE;
const CARS_AT_OPENING = 4;
const ARRIVAL_GAP = 7 * MINUTE;
const DAY = 30 * MINUTE;

export function run(print: (line: string) => void): void {
  const env = new Environment();
  const streams = new Streams('carwash');
  const gaps = streams.stream('gaps');
  const dirt = streams.stream('dirt');
  const machines = new Resource(env, { capacity: MACHINES, name: 'machines' });
  const say = (what: string): void => print(`${String(env.nowNs / MINUTE).padStart(4)} min  ${what}`);

  function* wash(car: string): ProcessSteps<number> {
    yield WASH;
    const percent = 50 + dirt.below(50);
    say(`${percent}% of the dirt of ${car} is gone`);
    return percent;
  }

  function* drive(car: string): ProcessSteps {
    say(`${car} arrives, ${machines.waiting} in line`);
    using machine = machines.request();
    yield* machine;
    say(`${car} drives in`);
    const percent = yield* wash(car);
    say(`${car} drives off${percent < 75 ? ', to come back soon' : ''}`);
  }

  function* street(): ProcessSteps {
    for (let number = 1; ; number++) {
      if (number > CARS_AT_OPENING) yield ARRIVAL_GAP + (gaps.below(5) - 2) * MINUTE;
      env.process(drive(`car ${number}`), `car ${number}`);
    }
  }

  env.process(street(), 'street');
  env.run({ untilNs: DAY });
  say('the wash closes');
}

if (import.meta.filename === process.argv[1]) run(console.log);
