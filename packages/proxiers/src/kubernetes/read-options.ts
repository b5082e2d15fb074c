import type { Cidr } from '@vipsim/sim-core';
import { SERVICE_CIDR } from './synthetic.ts';

export interface ReadOptions {
  /** Largest YAML text of one source, in characters. JSON has no such limit: it reads a hundred times faster. */
  readonly maxYamlBytes: number;
  /** How often one YAML anchor may be repeated in a document, repetitions inside repetitions multiplied. */
  readonly maxAliases: number;
  /** Largest number of endpoint rows, and of pods derived from replicas. */
  readonly maxEndpoints: number;
  /** Nodes to make up when the input has no Node objects and pods are to be placed. */
  readonly nodes: number;
  /** More nodes are made up where this many pods a node do not suffice; 110 is the kubelet's own limit. */
  readonly podsPerNode: number;
  /** Which half of a dual-stack cluster to read. */
  readonly family: 'ipv4' | 'ipv6';
  /** Where IPv4 ClusterIPs that the input leaves out come from. */
  readonly serviceCidr: Cidr;
}

export const DEFAULTS: ReadOptions = {
  maxYamlBytes: 16 * 1024 * 1024,
  maxAliases: 100,
  maxEndpoints: 1_500_000,
  nodes: 3,
  podsPerNode: 110,
  family: 'ipv4',
  serviceCidr: SERVICE_CIDR,
};
