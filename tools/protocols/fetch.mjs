#!/usr/bin/env node
// Brings the pinned npm packages of protocols into a cache that git ignores, and compiles what comes as sources.
//
//   node tools/protocols/fetch.mjs [protocol...]           all protocols unless named; quiet when nothing is missing
//   node tools/protocols/fetch.mjs --check [protocol...]   fetches nothing; exit 1 and say what is missing
//
// Tarballs are taken with `npm pack`: no dependency is followed and no install script runs, since only files are wanted.
// A tarball whose sha512 is not the pinned one is refused. Nothing that is fetched here may be committed.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { compile, isCompiled } from './build.mjs';
import { cache, fail, isFetched, pin, protocol, protocolNames } from './packages.mjs';

const PACK_TIMEOUT_MS = 300_000;

/** A package that is not to be had, and how to mend that. */
class Unavailable extends Error {
  constructor(what, mend) {
    super(what);
    this.mend = mend;
  }
}

function fetch({ name, version, integrity, keep, folder }) {
  const wanted = `${name}@${version}`;
  console.error(`tools/protocols: fetching ${wanted}`);
  mkdirSync(path.join(cache, 'packages'), { recursive: true });
  const scratch = mkdtempSync(path.join(cache, 'fetch-'));
  try {
    const tarball = path.join(scratch, pack(wanted, scratch));
    const found = `sha512-${createHash('sha512').update(readFileSync(tarball)).digest('base64')}`;
    if (found !== integrity) {
      throw new Unavailable(
        `${wanted}: the tarball has ${found}, pinned is ${integrity}`,
        'mend: do not use it; find out who changed it',
      );
    }
    const unpacked = path.join(scratch, 'unpacked');
    mkdirSync(unpacked);
    execFileSync('tar', ['-xzf', tarball, '-C', unpacked, '--strip-components=1', ...keep]);
    writeFileSync(path.join(unpacked, '.integrity'), integrity);
    rmSync(folder, { recursive: true, force: true });
    renameSync(unpacked, folder);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function pack(wanted, into) {
  const args = ['pack', '--loglevel=error', '--ignore-scripts', '--pack-destination', into, wanted];
  try {
    return execFileSync('npm', args, { encoding: 'utf8', stdio: 'pipe', timeout: PACK_TIMEOUT_MS }).trim().split('\n').at(-1);
  } catch (error) {
    const said = error.stderr?.trim().split('\n').slice(0, 2).join('; ') || error.message;
    throw new Unavailable(
      `the package ${wanted} cannot be had from npm: ${said}`,
      `mend: check the network and the npm registry (npm config get registry; npm view ${wanted}), then run it again`,
    );
  }
}

function bring(name) {
  protocol(name).packages.map(pin).filter((pinned) => !isFetched(pinned)).forEach(fetch);
  if (!isCompiled(name)) compile(name);
}

function check(name) {
  const mend = `tools/setup.sh protocols ${name}`;
  const missing = protocol(name).packages.map(pin).filter((pinned) => !isFetched(pinned));
  const versions = missing.map((pinned) => `${pinned.name}@${pinned.version}`);
  if (missing.length > 0) throw new Unavailable(`${name}: not fetched: ${versions.join(', ')}`, `mend: ${mend}`);
  if (!isCompiled(name)) throw new Unavailable(`${name}: not compiled`, `mend: ${mend}`);
}

const words = process.argv.slice(2);
const checks = words[0] === '--check';
const names = words.slice(checks ? 1 : 0);
try {
  (names.length > 0 ? names : protocolNames).forEach(checks ? check : bring);
} catch (error) {
  if (!(error instanceof Unavailable)) throw error;
  fail(error.message, error.mend);
}
