#!/usr/bin/env node
// Runs `forge test` on the contracts from any directory, offline, and ends with forge's exit code. Further arguments are
// forge's own. Needs `npm ci` in tools/.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const contractsDir = path.dirname(fileURLToPath(import.meta.url));
const foundryDir = path.join(contractsDir, '..', 'tools', 'node_modules', '@foundry-rs');

// npm installs only the package of this machine's platform; the plain `forge` package beside it is a node shim.
function nativeForge() {
  const packages = existsSync(foundryDir) ? readdirSync(foundryDir) : [];
  return packages
    .filter((name) => name.startsWith('forge-'))
    .flatMap((name) => ['forge', 'forge.exe'].map((file) => path.join(foundryDir, name, 'bin', file)))
    .find(existsSync);
}

const forge = nativeForge();
if (!forge) {
  console.error(`contracts/test.mjs: no forge in ${foundryDir}: run \`npm ci\` in tools/`);
  process.exit(1);
}
// Forge looks for a relative compiler path from where it was started but runs it from the project's root.
const compiler = path.join(contractsDir, 'solc-wrapper.cjs');
const args = ['test', '--root', contractsDir, '--offline', '--use', compiler, ...process.argv.slice(2)];
const { status, error } = spawnSync(forge, args, { stdio: 'inherit' });
if (error) console.error(`contracts/test.mjs: ${error.message}`);
process.exit(status ?? 1);
