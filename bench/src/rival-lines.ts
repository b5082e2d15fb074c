import { createRequire } from 'node:module';

/** The pipeline on other simulators, each in its own idiom. */

/** simjs 2.0.3: an event is an object and a callback; the facility queues and serves. */
export function simjsLine(
  gaps: Float64Array,
  services: Float64Array,
  packets: number,
  wireNs: number,
): () => number {
  const { Sim, Entity, Facility } = requireSimjs();
  const mask = gaps.length - 1;
  const sim = new Sim();
  const server = new Facility('server');
  let spent = 0;
  let sent = 0;
  let arrived = 0;
  class Source extends Entity {
    start(): void {
      this.setTimer(gaps[0]!).done(wireNs === 0 ? this.arrive : this.send, this);
    }

    send(): void {
      this.setTimer(wireNs).done(this.arrive, this);
      if (++sent < packets) this.setTimer(gaps[sent & mask]!).done(this.send, this);
    }

    arrive(): void {
      const packet = arrived++;
      this.useFacility(server, services[packet & mask]!).done(this.depart, this, this.time());
      if (wireNs === 0 && arrived < packets) this.setTimer(gaps[arrived & mask]!).done(this.arrive, this);
    }

    depart(arrivedNs: number): void {
      spent += this.time() - arrivedNs;
    }
  }
  return () => {
    sim.addEntity(Source, 'source');
    sim.simulate(Infinity, Infinity);
    return spent;
  };
}

/** simjs is a bundle for browsers: it exports nothing, but hangs itself on `window`. */
function requireSimjs(): typeof import('simjs') {
  const scope = globalThis as { window?: { Sim?: typeof import('simjs') } };
  scope.window ??= {};
  createRequire(import.meta.url)('simjs');
  return scope.window.Sim!;
}

/** simscript 1.0.37: an entity is an async function that waits for its turn. */
export function simscriptLine(
  gaps: Float64Array,
  services: Float64Array,
  packets: number,
): () => Promise<number> {
  // It yields to the browser's painting from time to time.
  (globalThis as { requestAnimationFrame?: (callback: () => void) => void }).requestAnimationFrame = (
    callback,
  ) => {
    setImmediate(callback);
  };
  const { Simulation, Entity, Queue } = createRequire(import.meta.url)(
    'simscript',
  ) as typeof import('simscript');
  const mask = gaps.length - 1;
  const simulation = new Simulation();
  const server = new Queue('server', 1);
  let spent = 0;
  class Packet extends Entity {
    number = 0;

    override async script(): Promise<void> {
      const arrivedNs = simulation.timeNow;
      await this.enterQueue(server);
      await this.delay(services[this.number & mask]!);
      this.leaveQueue(server);
      spent += simulation.timeNow - arrivedNs;
    }
  }
  class Source extends Entity {
    override async script(): Promise<void> {
      for (let sent = 0; sent < packets; sent++) {
        await this.delay(gaps[sent & mask]!);
        const packet = new Packet();
        packet.number = sent;
        void simulation.activate(packet);
      }
    }
  }
  return () =>
    new Promise((resolve) => {
      simulation.started.addEventListener(() => void simulation.activate(new Source()));
      simulation.finished.addEventListener(() => resolve(spent));
      void simulation.start(true);
    });
}
