import { IpvsStage } from './ipvs-stage.ts';
import type { Player } from './player.ts';
import type { Recording } from './recording.ts';
import { Score } from './score.ts';

/** How a recording of IPVS begins its tables: by a service, or by what was typed. */
const BEGINNINGS: Readonly<Record<string, string>> = { 'add-svc': 'svc', ipvsadm: 'cmd' };

/**
 * When a timer runs depends on where the kernel's tick stood when the case began, which is not recorded. Slots of
 * the wheel that matter here are up to 32768 ticks long and seldom finer than 64.
 */
const CLOCK_TICKS = 32_768;
const CLOCK_STEP = 16;
/** Nothing runs out sooner (a closed connection does after 10 s): shorter cases do not depend on the clock. */
const CLOCK_MATTERS_S = 10;

/** Recordings of IPVS: tables are filled and connections made in a director, whose listings are held against. */
export const ipvsPlayer: Player = {
  name: 'ipvs',
  plays: ({ steps }) => steps.some((step) => typeof step[BEGINNINGS[step.op] ?? ''] === 'string'),
  play: (recording, score) => {
    const clock = fittingClock(recording);
    if (clock !== undefined) {
      score.fitted.push(
        `the kernel's clock when the case began: ${clock} of ${CLOCK_TICKS} ticks, the first in steps of ${CLOCK_STEP} that fits best`,
      );
    }
    playAt(recording, score, clock, Infinity);
  },
};

/** The first clock with which a recording that depends on it agrees, or agrees best; undefined if any will do. */
function fittingClock(recording: Recording): number | undefined {
  if ((recording.steps.at(-1)?.t ?? 0) < CLOCK_MATTERS_S) return undefined;
  let best: number | undefined;
  let fewest = playAt(recording, new Score(), undefined, Infinity);
  for (let clock = 0; clock < CLOCK_TICKS && fewest > 0; clock += CLOCK_STEP) {
    const wrong = playAt(recording, new Score(), clock, fewest);
    if (wrong >= fewest) continue;
    fewest = wrong;
    best = clock;
  }
  return best;
}

/** Play to the end, or until so many comparisons disagree. Returns how many did. */
function playAt(recording: Recording, score: Score, clock: number | undefined, limit: number): number {
  const stage = new IpvsStage(recording, score, clock);
  for (const [i, step] of recording.steps.entries()) {
    score.at(i, step.op);
    stage.step(step);
    if (score.disagreements >= limit) break;
  }
  return score.disagreements;
}
