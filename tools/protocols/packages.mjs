// What is pinned (packages.json), and where it lies once it was fetched.
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const here = path.dirname(fileURLToPath(import.meta.url));
export const modules = path.join(here, '..', 'node_modules');
// BACKSTOP_PROTOCOL_CACHE lets several checkouts share one.
export const cache = process.env.BACKSTOP_PROTOCOL_CACHE ?? path.join(here, '.cache');

const pinned = JSON.parse(readFileSync(path.join(here, 'packages.json'), 'utf8'));
export const protocolNames = Object.keys(pinned.protocols);

/** A protocol's packages and what to compile of them. */
export function protocol(name) {
  return pinned.protocols[name] ?? fail(`no protocol ${name}; known: ${protocolNames.join(', ')}`);
}

/** A pinned package: name, version, integrity, the parts to keep, and the folder it is unpacked into. */
export function pin(name) {
  const { version, integrity, keep } = pinned.packages[name] ?? fail(`${name} is not in packages.json`);
  const folder = path.join(cache, 'packages', `${name.replace('/', '+')}@${version}`);
  return { name, version, integrity, keep, folder };
}

/** Where a file of a package is, by a name such as `@scope/package/path/in/it`; packages of node_modules included. */
export function locate(file) {
  const name = file.split('/').slice(0, file.startsWith('@') ? 2 : 1).join('/');
  return path.join(pinned.packages[name] ? pin(name).folder : path.join(modules, name), file.slice(name.length + 1));
}

/** Whether a package was fetched, whole and in this version. */
export function isFetched({ folder, integrity }) {
  const mark = path.join(folder, '.integrity');
  return existsSync(mark) && readFileSync(mark, 'utf8') === integrity;
}

export function fail(...lines) {
  console.error(lines.map((line) => `tools/protocols: ${line}`).join('\n'));
  process.exit(1);
}
