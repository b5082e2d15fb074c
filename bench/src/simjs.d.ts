declare module 'simjs' {
  export class Request {
    done(callback: (...values: never[]) => void, context?: unknown, argument?: unknown): Request;
  }
  export class Facility {
    constructor(name: string);
    usage(): number;
  }
  export class Sim {
    addEntity<T extends Entity>(type: new (sim: Sim, name: string) => T, name: string): T;
    simulate(endTime: number, maxEvents?: number): boolean;
  }
  export class Entity {
    constructor(sim: Sim, name: string);
    time(): number;
    setTimer(duration: number): Request;
    useFacility(facility: Facility, duration: number): Request;
  }
}
