// Brings the protocols' published packages: test-time downloads, pinned by packages.json, never committed.
//
//   node tools/protocols/fetch.mjs [package ...]      all of packages.json where none is named
//
// Each tarball is taken from npm, held against its pinned integrity and unpacked into packages/NAME beside this file.
// Nothing is installed and no script of a package runs. Quiet when nothing is missing.
import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const lock = JSON.parse(readFileSync(join(here, 'packages.json'), 'utf8'));

/** Where a package lies once it was fetched. */
export const home = name => join(here, 'packages', name);

function fail(what, mend) {
  console.error(`tools/protocols/fetch.mjs: ${what}\ntools/protocols/fetch.mjs: mend: ${mend}`);
  process.exit(1);
}

function fetch(name) {
  const pinned = lock[name] ?? fail(`${name} is not pinned`, 'add its version and integrity to tools/protocols/packages.json');
  const stamp = join(home(name), '.integrity');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === pinned.integrity) return;
  const spec = `${name}@${pinned.version}`;
  console.error(`tools/protocols/fetch.mjs: fetching ${spec}`);
  mkdirSync(join(here, 'packages'), { recursive: true });
  const scratch = mkdtempSync(join(here, 'packages', '.fetch-'));
  try {
    let file;
    try {
      const packed = execFileSync('npm', ['pack', spec, '--json', '--ignore-scripts', '--loglevel=error', '--pack-destination', scratch]);
      file = join(scratch, JSON.parse(packed)[0].filename.replace('@', '').replace('/', '-'));
    } catch (error) {
      fail(`${spec} cannot be had from npm: ${error.message}`, 'check the network and the npm registry (npm config get registry), then run it again');
    }
    const found = `sha512-${createHash('sha512').update(readFileSync(file)).digest('base64')}`;
    if (found !== pinned.integrity) fail(`${spec} has integrity ${found}, not the pinned ${pinned.integrity}`, 'look at what changed in the package before you pin it anew');
    execFileSync('tar', ['-xzf', file, '-C', scratch]);
    rmSync(home(name), { recursive: true, force: true });
    mkdirSync(dirname(home(name)), { recursive: true });
    renameSync(join(scratch, 'package'), home(name));
    writeFileSync(stamp, pinned.integrity);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

const wanted = process.argv.slice(2);
for (const name of wanted.length ? wanted : Object.keys(lock)) fetch(name);
