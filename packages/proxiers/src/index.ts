// The contract of a mode, and the modes.
export * from './proxier.ts';
export * from './modes.ts';
export * from './reachability.ts';
export * from './sync/runner.ts';
// Counts and what they cost.
export * from './cost/operations.ts';
export * from './cost/profile.ts';
export * from './cost/profiles.ts';
// The cluster.
export * from './kubernetes/cluster.ts';
export * from './kubernetes/endpoints-map.ts';
export * from './kubernetes/synthetic.ts';
export * from './kubernetes/read.ts';
// Rules of any origin: iptables-save texts read, printed and walked literally.
export * as xtables from './xtables/index.ts';
// The same for nft texts.
export * as nfTables from './nf-tables/index.ts';
export * as ipvsKernel from './ipvs/index.ts';
