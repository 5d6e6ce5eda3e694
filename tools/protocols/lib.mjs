// What the deploy scripts share: a signer on the local chain, compiling with a cache, deploying, linking.
//
// A deploy script is started as `node tools/protocols/NAME.mjs RPC_URL KEEPER`, on a chain that mines every transaction at
// once, and prints one JSON object: the addresses that its end-to-end module needs. Everything else goes to stderr.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ethers } from 'ethers';

const here = dirname(fileURLToPath(import.meta.url));
const require = createRequire(import.meta.url);

/** A fetched package's folder, or a file in it. */
export const inPackage = (name, ...path) => join(here, 'packages', name, ...path);
/** An installed node module's folder, or a file in it. */
export const inModules = (...path) => join(here, '..', 'node_modules', ...path);
export const readJson = file => JSON.parse(readFileSync(file, 'utf8'));
export { ethers };

/** The chain of the command line, anvil's first account as the deployer, and the keeper's address. */
export async function chain() {
  const [url, keeper] = process.argv.slice(2);
  if (!url || !keeper) throw new Error('usage: node NAME.mjs RPC_URL KEEPER');
  const network = new ethers.Network('anvil', 31337);
  const rpc = new ethers.JsonRpcProvider(url, network, { cacheTimeout: -1, pollingInterval: 10, staticNetwork: network });
  // What a call needs can grow by the second that may begin between its estimate and its block: interest accrues then.
  const estimate = rpc.estimateGas.bind(rpc);
  rpc.estimateGas = async transaction => ((await estimate(transaction)) * 5n) / 4n;
  return { rpc, deployer: await rpc.getSigner(0), keeper: ethers.getAddress(keeper) };
}

/**
 * Compiles with the solc of this module name and gives the contracts by name, each as {abi, bytecode, linkReferences}.
 * `roots`: source names to files; `resolve`: an import path to a file. The output is kept in build/NAME.json and made anew
 * when a root, the settings or the compiler changed.
 */
export function compile(name, compiler, roots, settings, resolve) {
  const sources = Object.fromEntries(Object.entries(roots).map(([path, file]) => [path, { content: readFileSync(file, 'utf8') }]));
  const input = {
    language: 'Solidity',
    sources,
    settings: {
      optimizer: { enabled: true, runs: 200 },
      metadata: { bytecodeHash: 'none' },
      outputSelection: { '*': { '*': ['abi', 'evm.bytecode.object', 'evm.bytecode.linkReferences'] } },
      ...settings,
    },
  };
  const key = createHash('sha256').update(compiler).update(JSON.stringify(input)).digest('hex');
  const cache = join(here, 'build', `${name}.json`);
  if (existsSync(cache)) {
    const kept = readJson(cache);
    if (kept.key === key) return kept.contracts;
  }
  console.error(`tools/protocols: compiling ${name}`);
  const imports = path => {
    const file = resolve(path);
    return existsSync(file) ? { contents: readFileSync(file, 'utf8') } : { error: `no file ${file}` };
  };
  const output = JSON.parse(require(compiler).compile(JSON.stringify(input), { import: imports }));
  const errors = (output.errors ?? []).filter(error => error.severity === 'error');
  if (errors.length) throw new Error(errors.slice(0, 5).map(error => error.formattedMessage).join('\n'));
  const contracts = {};
  for (const file of Object.values(output.contracts)) {
    for (const [contract, { abi, evm }] of Object.entries(file)) {
      if (evm.bytecode.object && !contracts[contract]) {
        contracts[contract] = { abi, bytecode: `0x${evm.bytecode.object}`, linkReferences: evm.bytecode.linkReferences };
      }
    }
  }
  mkdirSync(dirname(cache), { recursive: true });
  writeFileSync(cache, JSON.stringify({ key, contracts }));
  return contracts;
}

/** Deploys an artifact, with libraries by name where it links any, and waits for it. */
export async function deploy(artifact, signer, args = [], libraries = {}) {
  let bytecode = artifact.bytecode?.object ?? artifact.bytecode;
  if (!bytecode.startsWith('0x')) bytecode = `0x${bytecode}`;
  for (const file of Object.values(artifact.linkReferences ?? {})) {
    for (const [library, places] of Object.entries(file)) {
      const address = libraries[library];
      if (!address) throw new Error(`library ${library} is not deployed`);
      for (const { start, length } of places) {
        bytecode = bytecode.slice(0, 2 + start * 2) + address.slice(2).toLowerCase() + bytecode.slice(2 + (start + length) * 2);
      }
    }
  }
  const contract = await new ethers.ContractFactory(artifact.abi, bytecode, signer).deploy(...args);
  await contract.waitForDeployment();
  return contract;
}

/** Sends and waits until it is mined. */
export const mined = async sent => (await sent).wait();

/** Prints what the end-to-end module needs. */
export function report(addresses) {
  console.log(JSON.stringify(addresses));
  process.exit(0);
}
