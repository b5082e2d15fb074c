// The scenario document and the day that it makes of a cluster.
export * from './scenario/scenario.ts';
export * from './scenario/duration.ts';
export * from './scenario/set.ts';
export * from './cluster/cluster-day.ts';
// Running it.
export * from './experiment/compare.ts';
export * from './experiment/node-run.ts';
export * from './experiment/trace.ts';
export * from './experiment/document.ts';
// Showing what came of it.
export * from './report/index.ts';
