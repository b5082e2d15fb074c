export { ipvsKernel } from '@vipsim/proxiers';
