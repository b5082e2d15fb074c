// The model of IPVS, which the package does not export as a whole yet.
export * as ipvsKernel from '../../../proxiers/src/ipvs/index.ts';
