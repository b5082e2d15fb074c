import epyc from './profiles/epyc-6.18.json' with { type: 'json' };
import type { CostProfile } from './profile.ts';

/** The profiles that ship, the default first. */
export const PROFILES: readonly CostProfile[] = [epyc as unknown as CostProfile];
