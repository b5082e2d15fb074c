import { exponential, NS_PER_S, Streams } from '../src/index.ts';
import { Environment, Resource, type Event, type ProcessSteps } from '../src/process/index.ts';

/**
 * One ticket counter, three films. When a film is sold out, everybody who stands in line for it leaves. Shows one
 * event that many processes wait for, each beside its own request. After SimPy's "Movie Renege".
 */

const MINUTE = 60 * NS_PER_S;
const SEATS = 50;
const TITLES = ['The Chain', 'Hash and Slash', 'Last Endpoint Standing'];
const TICKETS_MAX = 6;
const ARRIVAL_GAP_MEAN = 0.5 * MINUTE;
const SALE = 1 * MINUTE;
const DISCUSSION = 0.5 * MINUTE;
const EVENING = 120 * MINUTE;

interface Film {
  readonly title: string;
  seats: number;
  soldOutNs: number;
  left: number;
  readonly soldOut: Event;
}

export function run(print: (line: string) => void): void {
  const env = new Environment();
  const streams = new Streams('movies');
  const gaps = streams.stream('gaps');
  const tastes = streams.stream('tastes');
  const groups = streams.stream('groups');
  const counter = new Resource(env, { capacity: 1, name: 'counter' });
  const films = TITLES.map((title): Film => ({
    title,
    seats: SEATS,
    soldOutNs: 0,
    left: 0,
    soldOut: env.event(),
  }));

  function* moviegoer(film: Film, tickets: number): ProcessSteps {
    using turn = counter.request();
    const happened = yield* env.any([turn, film.soldOut]);
    if (!happened.has(turn)) {
      film.left++;
      return;
    }
    if (film.seats < tickets) {
      yield DISCUSSION;
      return;
    }
    film.seats -= tickets;
    if (film.seats < 2 && !film.soldOut.triggered) {
      film.seats = 0;
      film.soldOutNs = env.nowNs;
      film.soldOut.succeed();
    }
    yield SALE;
  }

  function* street(): ProcessSteps {
    for (;;) {
      yield Math.round(exponential(gaps, ARRIVAL_GAP_MEAN));
      const film = films[tastes.below(films.length)]!;
      const tickets = 1 + groups.below(TICKETS_MAX);
      if (film.seats > 0) env.process(moviegoer(film, tickets));
    }
  }

  env.process(street(), 'street');
  env.run({ untilNs: EVENING });
  for (const { title, soldOut, soldOutNs, left, seats } of films) {
    const minutes = (soldOutNs / MINUTE).toFixed(1);
    if (soldOut.processed) print(`${title}: sold out after ${minutes} min, when ${left} left the line`);
    else print(`${title}: ${seats} seats are free`);
  }
}

if (import.meta.filename === process.argv[1]) run(console.log);
