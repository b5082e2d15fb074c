import { NS_PER_S, Streams } from '../src/index.ts';
import { Container, Environment, Resource, type ProcessSteps } from '../src/process/index.ts';

/**
 * A gas station with two pumps on one tank, which a truck refills when it runs low. Shows a container beside a
 * resource. After SimPy's "Gas Station Refueling".
 */

const PUMPS = 2;
const TANK_LITRES = 200;
const LOW_LITRES = 50;
const CAR_LITRES = 50;
const LITRES_PER_S = 2;
const TRUCK = 300 * NS_PER_S;
const CHECK_GAP = 10 * NS_PER_S;
const DAY = 1_000 * NS_PER_S;

export function run(print: (line: string) => void): void {
  const env = new Environment();
  const streams = new Streams('gas station');
  const gaps = streams.stream('gaps');
  const levels = streams.stream('levels');
  const pumps = new Resource(env, { capacity: PUMPS, name: 'pumps' });
  const tank = new Container(env, { capacity: TANK_LITRES, level: TANK_LITRES, name: 'tank' });
  const say = (what: string): void => {
    const seconds = (env.nowNs / NS_PER_S).toFixed(1).padStart(6);
    print(`${seconds} s  ${what}; the tank holds ${tank.level} l`);
  };

  function* car(name: string): ProcessSteps {
    const arrivedNs = env.nowNs;
    say(`${name} arrives`);
    using pump = pumps.request();
    yield* pump;
    const litres = CAR_LITRES - (5 + levels.below(21));
    yield* tank.get(litres);
    yield (litres / LITRES_PER_S) * NS_PER_S;
    say(`${name} leaves with ${litres} l after ${(env.nowNs - arrivedNs) / NS_PER_S} s`);
  }

  function* truck(): ProcessSteps {
    yield TRUCK;
    const litres = TANK_LITRES - tank.level;
    yield* tank.put(litres);
    say(`the truck has brought ${litres} l`);
  }

  function* attendant(): ProcessSteps {
    for (;;) {
      if (tank.level < LOW_LITRES) {
        say('the truck is called');
        yield* env.process(truck(), 'truck');
      }
      yield CHECK_GAP;
    }
  }

  function* street(): ProcessSteps {
    for (let number = 1; ; number++) {
      yield (30 + gaps.below(91)) * NS_PER_S;
      env.process(car(`car ${number}`), `car ${number}`);
    }
  }

  env.process(attendant(), 'attendant');
  env.process(street(), 'street');
  env.run({ untilNs: DAY });
}

if (import.meta.filename === process.argv[1]) run(console.log);
