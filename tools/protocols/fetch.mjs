// Brings the protocols' published packages: test-time downloads, pinned by packages.json, never committed.
//
//   node tools/protocols/fetch.mjs [protocol ...]           the packages that these protocols' deploy scripts name; all of
//                                                           packages.json where no protocol is named
//   node tools/protocols/fetch.mjs --check [protocol ...]   fetches nothing; exit 1 and say what is missing
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
const PACK_TIMEOUT_MS = 300_000;
// Large and of no use here: records of live deployments, bindings for other languages.
const LEFT_OUT = ['deployments', 'dist', 'typechain'];

/** Where a package lies once it was fetched. */
export const home = name => join(here, 'packages', name);

/** A package that is not to be had, and how to mend that. */
class Unavailable extends Error {
  constructor(what, mend) {
    super(what);
    this.mend = mend;
  }
}

const spec = name => `${name}@${lock[name].version}`;
const stamp = name => join(home(name), '.integrity');
const isFetched = name => existsSync(stamp(name)) && readFileSync(stamp(name), 'utf8') === lock[name].integrity;

function fetch(name) {
  console.error(`tools/protocols/fetch.mjs: fetching ${spec(name)}`);
  mkdirSync(join(here, 'packages'), { recursive: true });
  const scratch = mkdtempSync(join(here, 'packages', '.fetch-'));
  try {
    const file = join(scratch, pack(name, scratch));
    const found = `sha512-${createHash('sha512').update(readFileSync(file)).digest('base64')}`;
    if (found !== lock[name].integrity) {
      throw new Unavailable(
        `${spec(name)} has integrity ${found}, not the pinned ${lock[name].integrity}`,
        'look at what changed in the package before you pin it anew',
      );
    }
    execFileSync('tar', ['-xzf', file, '-C', scratch, ...LEFT_OUT.map(part => `--exclude=package/${part}`)]);
    rmSync(home(name), { recursive: true, force: true });
    mkdirSync(dirname(home(name)), { recursive: true });
    renameSync(join(scratch, 'package'), home(name));
    writeFileSync(stamp(name), lock[name].integrity);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function pack(name, into) {
  const args = ['pack', spec(name), '--ignore-scripts', '--loglevel=error', '--pack-destination', into];
  try {
    const said = execFileSync('npm', args, { encoding: 'utf8', stdio: 'pipe', timeout: PACK_TIMEOUT_MS });
    return said.trim().split('\n').at(-1);
  } catch (error) {
    const said = error.stderr?.trim().split('\n').slice(0, 2).join('; ') || error.message;
    const look = `npm config get registry; npm view ${spec(name)}`;
    throw new Unavailable(
      `${spec(name)} cannot be had from npm: ${said}`,
      `check the network and the npm registry (${look}), then run it again`,
    );
  }
}

/** The pinned packages that a protocol's deploy script names. */
function packagesOf(protocol) {
  const script = join(here, `${protocol}.mjs`);
  if (!existsSync(script)) throw new Unavailable(`there is no ${script}`, 'name a protocol that has a deploy script');
  const text = readFileSync(script, 'utf8');
  return Object.keys(lock).filter(name => text.includes(name));
}

function check(name) {
  if (!isFetched(name)) throw new Unavailable(`${spec(name)} was not fetched`, 'run tools/setup.sh protocols');
}

const words = process.argv.slice(2);
const checks = words[0] === '--check';
const protocols = words.slice(checks ? 1 : 0);
try {
  const wanted = protocols.length ? new Set(protocols.flatMap(packagesOf)) : Object.keys(lock);
  for (const name of wanted) {
    if (checks) check(name);
    else if (!isFetched(name)) fetch(name);
  }
} catch (error) {
  if (!(error instanceof Unavailable)) throw error;
  console.error(`tools/protocols/fetch.mjs: ${error.message}\ntools/protocols/fetch.mjs: mend: ${error.mend}`);
  process.exit(1);
}
