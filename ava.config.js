export default {
  files: ['packages/*/test/**/*.test.ts', 'bench/test/**/*.test.ts'],
  extensions: { ts: 'module' },
  require: ['./tools/register-tsx.mjs'],
  timeout: '3m',
};
