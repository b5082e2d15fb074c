// AVA's worker threads on Node 20 do not inherit `--import=tsx`; registering here works on 20, 22 and 24.
import { register } from 'tsx/esm/api';

register();
