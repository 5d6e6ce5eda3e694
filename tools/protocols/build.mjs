// Compiles a protocol's sources, and our own doubles beside them (tools/protocols/<protocol>/*.sol), with a pinned npm
// compiler. The output is cached under the hash of everything that it depends on.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { cache, fail, here, locate, modules, pin, protocol } from './packages.mjs';

const ERRORS_SHOWN_MAX = 10;

function doubles(name) {
  const folder = path.join(here, name);
  if (!existsSync(folder)) return [];
  return readdirSync(folder).filter((file) => file.endsWith('.sol')).sort().map((file) => `${name}/${file}`);
}

function output(name) {
  const { packages, compile: settings } = protocol(name);
  const hash = createHash('sha256');
  hash.update(JSON.stringify([settings, packages.map((p) => pin(p).integrity)]));
  for (const file of ['build.mjs', '../package-lock.json', ...doubles(name)]) {
    hash.update(file).update(readFileSync(path.join(here, file)));
  }
  return path.join(cache, 'build', `${name}-${hash.digest('hex').slice(0, 16)}.json`);
}

/** Whether the protocol's contracts are compiled as they are now. */
export function isCompiled(name) {
  return existsSync(output(name));
}

/** A protocol's compiled contracts and libraries by name: abi, bytecode, linkReferences. */
export function contracts(name) {
  if (!isCompiled(name)) fail(`${name} is not compiled`, `mend: tools/setup.sh protocols ${name}`);
  return JSON.parse(readFileSync(output(name), 'utf8'));
}

/** The artifact that a package ships, by a name such as `@scope/package/artifacts/contracts/A.sol/A.json`. */
export function artifact(file) {
  return JSON.parse(readFileSync(locate(file), 'utf8'));
}

export function compile(name) {
  const { compiler, evmVersion, sources, remappings } = protocol(name).compile;
  const own = doubles(name).map((file) => [file, { content: readFileSync(path.join(here, file), 'utf8') }]);
  const theirs = sources.map((file) => [file, { content: readFileSync(locate(file), 'utf8') }]);
  let found = {};
  if (own.length + theirs.length > 0) {
    console.error(`tools/protocols: compiling ${name} (${compiler})`);
    found = flat(run(compiler, Object.fromEntries([...own, ...theirs]), {
      optimizer: { enabled: true, runs: 200 },
      evmVersion,
      metadata: { bytecodeHash: 'none' },
      remappings: Object.entries(remappings).map(([from, to]) => `${from}=${to}`),
      outputSelection: { '*': { '*': ['abi', 'evm.bytecode.object', 'evm.bytecode.linkReferences'] } },
    }, name));
  }
  const to = output(name);
  mkdirSync(path.dirname(to), { recursive: true });
  const draft = `${to}.${process.pid}`;
  writeFileSync(draft, JSON.stringify(found));
  renameSync(draft, to);
}

function run(compiler, sources, settings, name) {
  const solc = createRequire(path.join(modules, 'package.json'))(compiler);
  const input = JSON.stringify({ language: 'Solidity', sources, settings });
  const read = (file) => {
    const at = file.startsWith(`${name}/`) ? path.join(here, file) : locate(file);
    return existsSync(at) ? { contents: readFileSync(at, 'utf8') } : { error: `not found: ${file}` };
  };
  const result = JSON.parse(solc.compile(input, { import: read }));
  const errors = (result.errors ?? []).filter(({ severity }) => severity === 'error');
  errors.slice(0, ERRORS_SHOWN_MAX).forEach((error) => console.error(error.formattedMessage));
  if (errors.length > 0) fail(`${name}: ${errors.length} compiler error(s)`);
  // What was asked for goes before what it pulled in, where names collide.
  return [...Object.keys(sources), ...Object.keys(result.contracts)].map((file) => result.contracts[file] ?? {});
}

/** By contract name; interfaces have no code and are left out. */
function flat(files) {
  const found = {};
  for (const [name, { abi, evm }] of files.flatMap(Object.entries)) {
    if (!evm.bytecode.object || found[name]) continue;
    found[name] = { abi, bytecode: `0x${evm.bytecode.object}`, linkReferences: evm.bytecode.linkReferences };
  }
  return found;
}
