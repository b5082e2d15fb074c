// Recordings of real kernels, replayed.
export * from './recording.ts';
export * from './score.ts';
export * from './player.ts';
