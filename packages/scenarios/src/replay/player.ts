import { conntrackPlayer } from './conntrack-player.ts';
import { iptablesPlayer } from './iptables-player.ts';
import { ipvsPlayer } from './ipvs-player.ts';
import { nftablesPlayer } from './nftables-player.ts';
import type { Recording } from './recording.ts';
import { Score, type ReplayResult } from './score.ts';

/** Replays recordings of one kind on a model, comparing at each step. A kind is added by adding its player. */
export interface Player {
  readonly name: string;
  /** Whether this is one of its recordings. */
  plays(recording: Recording): boolean;
  play(recording: Recording, score: Score, seed: string): void;
}

export const PLAYERS: readonly Player[] = [iptablesPlayer, nftablesPlayer, ipvsPlayer, conntrackPlayer];

/** Replay a recording; where no player knows its kind every step counts as skipped. */
export function replay(recording: Recording, seed: string): ReplayResult {
  const player = PLAYERS.find((candidate) => candidate.plays(recording));
  const score = new Score();
  if (player !== undefined) player.play(recording, score, seed);
  else {
    recording.steps.forEach(({ op }, i) => {
      score.at(i, op);
      score.skip();
    });
  }
  const { file, name, kernel } = recording;
  const { tallies, distributions, skipped, fitted, firstDifference } = score;
  const by = player?.name ?? '';
  return { file, name, kernel, player: by, tallies, distributions, skipped, fitted, firstDifference };
}
